"""Whose word is believed about addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from xiaozhi.net.origin import Origin, bracketed, origin_of
from xiaozhi.net.proxies import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8"])


def origin(peer: str = "192.0.2.1", scheme: str = "http", **headers: str) -> Origin:
    sent = Headers([(name.replace("_", "-"), value) for name, value in headers.items()])
    return origin_of(
        scheme=scheme, peer_ip=peer, headers=sent, fallback_host="192.0.2.9", fallback_port=8003, trusted=PROXIES
    )


@pytest.mark.parametrize(
    "host,base",
    [
        ("example.com:8003", "http://example.com:8003"),
        ("example.com", "http://example.com"),
        ("example.com:80", "http://example.com"),
        ("192.168.1.5:8003", "http://192.168.1.5:8003"),
        ("[fe80::1]:8003", "http://[fe80::1]:8003"),
        ("[::1]", "http://[::1]"),
        ("my_box.local", "http://my_box.local"),
    ],
)
def test_the_host_header_is_what_the_device_knows_us_by(host: str, base: str) -> None:
    assert origin(Host=host).base_url == base


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.com/path",
        "a b",
        "user@evil.com",
        "x:99999",
        "x:0",
        "[::1",
        "::1",
        "[zz::1]",
        "[1.2.3.4]",
        "-a",
        'a"b',
        "é.com",
        "a:b:1",
    ],
)
def test_a_senseless_host_header_is_replaced_not_repeated(host: str) -> None:
    assert origin(Host=host).base_url == "http://192.0.2.9:8003"


@given(st.text())
def test_what_is_handed_out_is_always_a_plain_address(host: str) -> None:
    made = origin_of(scheme="http", peer_ip="x", headers={"Host": host}, fallback_host="fallback", fallback_port=1)

    assert not set(made.base_url.removeprefix("http://")) & set("/@ \\\"'<>?#\r\n")


def test_https_keeps_its_own_port_silent() -> None:
    assert origin(scheme="https", Host="example.com:443").base_url == "https://example.com"
    assert origin(scheme="https", Host="example.com:80").base_url == "https://example.com:80"


def test_strangers_are_not_believed_about_themselves() -> None:
    made = origin(
        X_Forwarded_For="1.1.1.1",
        X_Real_IP="2.2.2.2",
        X_Forwarded_Host="evil.com",
        X_Forwarded_Proto="https",
        Host="example.com:8003",
    )

    assert made == Origin("http", "example.com", 8003, "192.0.2.1")


def test_a_trusted_proxy_names_client_scheme_and_host() -> None:
    made = origin(
        peer="10.1.1.1",
        X_Forwarded_For="203.0.113.7",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="voice.example.com",
        Host="inner:8003",
    )

    assert made == Origin("https", "voice.example.com", None, "203.0.113.7", proxied=True)
    assert made.base_url == "https://voice.example.com"


def test_a_trusted_proxy_without_forwarded_host_passes_host_on() -> None:
    made = origin(peer="10.1.1.1", X_Forwarded_Proto="https", Host="example.com")

    assert (made.base_url, made.proxied) == ("https://example.com", False)


def test_the_client_of_a_trusted_proxy() -> None:
    """What exactly is believed: tests/net/test_proxies.py."""
    assert origin(peer="10.1.1.1", X_Forwarded_For="6.6.6.6, 203.0.113.7").client_ip == "203.0.113.7"
    assert origin(peer="::ffff:10.1.1.1", X_Real_IP="203.0.113.7").client_ip == "203.0.113.7"
    assert origin(peer="192.0.2.1", X_Forwarded_For="203.0.113.7").client_ip == "192.0.2.1"


def test_ipv6_is_bracketed_without_its_zone() -> None:
    assert bracketed("fe80::1%eth0") == "[fe80::1]"
    assert bracketed("[::1]") == "[::1]"
    assert bracketed("host") == "host"
