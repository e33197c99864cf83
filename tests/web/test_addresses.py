"""Every address of this server, from every way in which it may be reached."""

from __future__ import annotations

import pytest

from xiaozhi.net.origin import Origin
from xiaozhi.web.addresses import Ports, ServerAddresses

PLAIN = ServerAddresses()
TLS = ServerAddresses(tls=True)
MOVED = ServerAddresses(lambda: Ports(9000, 9003))
HTTP = Origin("http", "192.168.1.5", 8003, "")
PROXY = Origin("https", "voice.example.com", None, "", proxied=True)


@pytest.mark.parametrize(
    "made,origin,websocket,http",
    [
        (PLAIN, HTTP, "ws://192.168.1.5:8000", "http://192.168.1.5:8003"),
        (TLS, Origin("https", "192.168.1.5", 8003, ""), "wss://192.168.1.5:8000", "https://192.168.1.5:8003"),
        (MOVED, Origin("http", "box", 18003, ""), "ws://box:9000", "http://box:18003"),
        (PLAIN, PROXY, "wss://voice.example.com", "https://voice.example.com"),
        (TLS, Origin("http", "v", 81, "", proxied=True), "ws://v:81", "http://v:81"),
        (PLAIN, Origin("http", "[fe80::1]", None, ""), "ws://[fe80::1]:8000", "http://[fe80::1]"),
        (PLAIN, PLAIN.at("fe80::1"), "ws://[fe80::1]:8000", "http://[fe80::1]:8003"),
        (TLS, TLS.at("10.0.0.7"), "wss://10.0.0.7:8000", "https://10.0.0.7:8003"),
    ],
)
def test_addresses(made: ServerAddresses, origin: Origin, websocket: str, http: str) -> None:
    assert made.websocket_url(origin) == f"{websocket}/xiaozhi/v1/"
    assert made.ota_url(origin) == f"{http}/xiaozhi/ota/"
    assert made.firmware_url(origin, "a_1.0.bin") == f"{http}/xiaozhi/ota/download/a_1.0.bin"
    assert made.vision_url(origin) == f"{http}/mcp/vision/explain"


@pytest.mark.parametrize(
    "made,reached,vision",
    [
        (PLAIN, Origin("http", "192.168.1.5", 8000, ""), "http://192.168.1.5:8003"),
        (TLS, Origin("https", "192.168.1.5", 8000, ""), "https://192.168.1.5:8003"),
        (TLS, Origin("https", "voice.example.com", None, ""), "https://voice.example.com:8003"),
        (MOVED, Origin("http", "localhost", 9000, ""), "http://localhost:9003"),
        (PLAIN, PROXY, "https://voice.example.com"),
    ],
)
def test_who_came_by_the_device_port_is_told_of_the_http_port(
    made: ServerAddresses, reached: Origin, vision: str
) -> None:
    assert made.vision_url(made.from_device_port(reached)) == f"{vision}/mcp/vision/explain"


@pytest.mark.parametrize("written", ["", "null", "http://你的ip或者域名:端口号/mcp/vision/explain"])
def test_what_is_configured_goes_before_unless_it_is_the_untouched_example(written: str) -> None:
    untouched = ServerAddresses(websocket=written, vision=written)
    assert untouched.vision_url(HTTP) == PLAIN.vision_url(HTTP)
    assert untouched.websocket_url(PROXY) == PLAIN.websocket_url(PROXY)
    chosen = ServerAddresses(websocket="wss://x/y", vision="https://x/z")
    for origin in (HTTP, PROXY):
        assert (chosen.websocket_url(origin), chosen.vision_url(origin)) == ("wss://x/y", "https://x/z")


def test_several_addresses_and_one_for_the_outside() -> None:
    several = ServerAddresses(websocket="ws://a/x; ws://b/x".replace(" ", ""), choose=lambda known: known[-1])
    assert several.websocket_url(HTTP) == "ws://b/x"
    public = ServerAddresses(public_url="https://voice.example.com/")
    assert public.websocket_url(HTTP) == "wss://voice.example.com/xiaozhi/v1/"
    assert public.ota_url(HTTP) == "https://voice.example.com/xiaozhi/ota/"
    assert public.firmware_url(HTTP, "a_1.0.bin") == "https://voice.example.com/xiaozhi/ota/download/a_1.0.bin"
    assert public.vision_url(HTTP) == "https://voice.example.com/mcp/vision/explain"


def test_a_page_may_try_the_nearest_and_what_devices_are_told() -> None:
    assert PLAIN.websocket_urls(HTTP) == (PLAIN.websocket_url(HTTP),)
    configured = ServerAddresses(websocket="wss://x/y")
    assert configured.websocket_urls(HTTP) == (PLAIN.websocket_url(HTTP), "wss://x/y")
    public = ServerAddresses(public_url="https://voice.example.com/")
    assert public.websocket_urls(HTTP) == (PLAIN.websocket_url(HTTP), "wss://voice.example.com/xiaozhi/v1/")
    assert PLAIN.websocket_urls(PROXY) == (PLAIN.websocket_url(PROXY),)
