"""The upgrade request: bounds, deadline, parsing, and who sent it."""

from __future__ import annotations

import socket

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.net.origin import Origin
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.runtime.tasks import spawn
from xiaozhi.session.link import Identity
from xiaozhi.transport.handshake import (
    MAX_CLIENT_ID_CHARS,
    MAX_HEADERS,
    MAX_LINE_BYTES,
    PeerGone,
    Refused,
    Request,
    identity_of,
    leads_to,
    parse_head,
    plain_answer,
    read_head,
)

NOBODY = TrustedProxies()
PROXIES = TrustedProxies(["10.0.0.0/8"])


def status_of(head: bytes) -> str:
    with pytest.raises(Refused) as refused:
        parse_head(head)
    return refused.value.status[:3]


def request(target: str = "/xiaozhi/v1/", **headers: str) -> Request:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return parse_head("\r\n".join([f"GET {target} HTTP/1.1", *lines]).encode())


# --- reading ---


def test_a_head_in_pieces_and_what_comes_behind_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            for piece in (b"GET / HT", b"TP/1.1\r\nA: b\r", b"\n\r", b"\nearly"):
                theirs.sendall(piece)
                gevent.sleep(0.001)  # sleep: it comes in pieces

        spawn("send", send)
        head, early = read_head(ours, limit=1000, timeout=5)
        assert head == b"GET / HTTP/1.1\r\nA: b"
        assert b"early".startswith(early)


@pytest.mark.parametrize("data", [b"x" * 2000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 400])
def test_a_head_over_the_limit(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        with pytest.raises(Refused) as refused:
            read_head(ours, limit=1000, timeout=5)
        assert refused.value.status.startswith("431")


def test_a_complete_head_over_the_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x" * 1500 + b"\r\n\r\n")
        with pytest.raises(Refused):
            read_head(ours, limit=1000, timeout=5)


@pytest.mark.parametrize("sent,expected", [(b"", PeerGone), (b"GET / HTTP/1.1\r\n", Refused)])
def test_the_deadline(sent: bytes, expected: type[Exception]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        with pytest.raises(expected):
            read_head(ours, limit=1000, timeout=0.02)


def test_the_deadline_is_for_everything_together() -> None:
    """A byte now and then must not start it anew."""
    now = [0.0]

    class Dripping:
        def settimeout(self, seconds: float) -> None:
            assert 0 < seconds <= 10 - now[0] + 1e-9

        def recv(self, size: int) -> bytes:
            now[0] += 1.0
            return b"x"

    with pytest.raises(Refused) as refused:
        read_head(Dripping(), limit=1000, timeout=10, clock=lambda: now[0])
    assert refused.value.status.startswith("408")
    assert now[0] <= 11


def test_a_peer_that_leaves() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"GET /")
        theirs.close()
        with pytest.raises(PeerGone):
            read_head(ours, limit=1000, timeout=5)


# --- parsing ---


def test_a_request() -> None:
    parsed = parse_head(
        b"GET /xiaozhi/v1/?from=mqtt_gateway&device-id=a%3Ab&x=&device-id=second HTTP/1.1\r\n"
        b"Host: here\r\nUpgrade: WebSocket\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for:2.2.2.2\r\nEmpty:"
    )
    assert parsed.method == "GET"
    assert parsed.path == "/xiaozhi/v1/"
    assert parsed.query == {"from": "mqtt_gateway", "device-id": "a:b"}
    assert parsed.headers["x-forwarded-for"] == "1.1.1.1, 2.2.2.2"
    assert parsed.headers["empty"] == ""
    assert parsed.wants_websocket


@pytest.mark.parametrize(
    "head,status",
    [
        (b"", "400"),
        (b"\x16\x03\x01\x02\x00", "400"),
        (b"GET /", "400"),
        (b"GET  HTTP/1.1", "400"),
        (b"GET / HTTP/1.1 x", "400"),
        (b"GET / HTTP/2.0", "505"),
        (b"GET / SPDY", "505"),
        (b"GET /" + b"x" * MAX_LINE_BYTES + b" HTTP/1.1", "414"),
        (b"GET / HTTP/1.1\r\nno colon", "400"),
        (b"GET / HTTP/1.1\r\nspace : x", "400"),
        (b"GET / HTTP/1.1\r\na: b\r\n folded", "400"),
        (b"GET / HTTP/1.1\r\n: x", "400"),
        (b"GET / HTTP/1.1\r\na: b\nc: d", "400"),
        (b"GET / HTTP/1.1\r\na: b\x00", "400"),
        (b"GET / HTTP/1.1" + b"\r\na: b" * (MAX_HEADERS + 1), "431"),
        (b"GET /?" + b"&".join(b"a=1" for _ in range(100)) + b" HTTP/1.1", "400"),
    ],
)
def test_what_is_no_request(head: bytes, status: str) -> None:
    assert status_of(head) == status


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"GET / HTTP/1.1\r\n" + tail))
def test_any_bytes_are_a_request_or_refused(head: bytes) -> None:
    try:
        identity_of(parse_head(head), "1.1.1.1", PROXIES)
    except Refused as refused:
        assert refused.answer().startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize(
    "method,status,body", [("GET", "200", "Server is running\n"), ("HEAD", "200", ""), ("POST", "405", "GET only.")]
)
def test_plain_answers(method: str, status: str, body: str) -> None:
    answer = plain_answer(Request(method, "/", {}, "HTTP/1.1", {}))
    assert (answer.status[:3], answer.text) == (status, body)


def test_the_bytes_of_an_answer() -> None:
    answer = Refused("503 Service Unavailable", "server is full", retry_after=0.2).answer()
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert b"\r\nContent-Length: 14\r\n" in answer
    assert answer.endswith(b"\r\n\r\nserver is full")


# --- who ---


def test_identity_from_headers() -> None:
    asked = request(device_id="AA:BB", client_id="c1", protocol_version="3", user_agent="bread/1.8")
    assert identity_of(asked, "1.2.3.4", NOBODY) == Identity("AA:BB", "c1", "1.2.3.4", 3, False, "bread/1.8")


def test_identity_from_the_query_as_browsers_must() -> None:
    asked = request("/xiaozhi/v1/?device-id=aa&client-id=c2&authorization=Bearer%20t&protocol-version=2")
    assert identity_of(asked, "1.2.3.4", NOBODY) == Identity("aa", "c2", "1.2.3.4", 2)
    assert asked.value("authorization") == "Bearer t"


def test_a_header_counts_more_than_the_query() -> None:
    assert identity_of(request("/?device-id=query", device_id="header"), "1.2.3.4", NOBODY).device_id == "header"


@pytest.mark.parametrize("text", ["", "0", "4", "two", "-1", "1.0", "99999999999999999999"])
def test_a_strange_version_is_version_one(text: str) -> None:
    assert identity_of(request(protocol_version=text), "1.2.3.4", NOBODY).protocol_version == 1


def test_the_gateway() -> None:
    assert identity_of(request("/xiaozhi/v1/?from=mqtt_gateway", device_id="a"), "1.2.3.4", NOBODY).via_gateway
    assert not identity_of(request("/xiaozhi/v1/?from=elsewhere", device_id="a"), "1.2.3.4", NOBODY).via_gateway


@pytest.mark.parametrize(
    "query", [f"device-id={'x' * (MAX_CLIENT_ID_CHARS + 1)}", "device-id=a%0Ab", "client-id=%00", "device-id=%1b[31m"]
)
def test_ids_that_are_none(query: str) -> None:
    with pytest.raises(Refused) as refused:
        identity_of(request(f"/?{query}"), "1.2.3.4", NOBODY)
    assert refused.value.status.startswith("400")


def test_a_user_agent_cannot_write_into_logs() -> None:
    assert (
        identity_of(request(user_agent="a\x1b[31mb" + "c" * 999), "1.1.1.1", NOBODY).user_agent == "a[31mb" + "c" * 249
    )


@pytest.mark.parametrize("written", ["24:0A:C4:1D:3B:F0", "24-0a-c4-1d-3b-f0", " 24:0a:c4:1d:3b:f0 "])
def test_however_its_id_is_written_it_is_one_device(written: str) -> None:
    identity = identity_of(request(device_id=written), "1.2.3.4", NOBODY)
    assert identity.device_id == "24:0a:c4:1d:3b:f0"
    assert identity.written_id == written.strip()


# --- where to ---


@pytest.mark.parametrize(
    "path", ["/xiaozhi/v1/", "/xiaozhi/v1", "//xiaozhi//v1//", "/", "", "///", "/xiaozhi", "/v1/", "/voice/xiaozhi/v1/"]
)
def test_paths_that_lead_to_devices(path: str) -> None:
    assert leads_to(path, "/xiaozhi/v1/")


@pytest.mark.parametrize(
    "path", ["/v2", "/xiaozhi/v2", "/v1/xiaozhi", "/xiaozhi/v1/more", "/ota/", "/XIAOZHI/v1", "/v11"]
)
def test_paths_that_do_not(path: str) -> None:
    assert not leads_to(path, "/xiaozhi/v1/")


@pytest.mark.parametrize(
    "headers,peer,tls,origin",
    [
        ({"host": "192.168.1.5:8000"}, "1.2.3.4", False, Origin("http", "192.168.1.5", 8000, "1.2.3.4")),
        ({"host": "voice.example.com"}, "1.2.3.4", True, Origin("https", "voice.example.com", None, "1.2.3.4")),
        ({"host": "[fe80::1]:8000"}, "1.2.3.4", False, Origin("http", "[fe80::1]", 8000, "1.2.3.4")),
        ({}, "1.2.3.4", False, None),
        ({"host": "no/host"}, "1.2.3.4", False, None),
        (
            {"host": "box:8000", "x_forwarded_host": "voice.example.com", "x_forwarded_proto": "https"},
            "10.0.0.1",
            False,
            Origin("https", "voice.example.com", None, "10.0.0.1", proxied=True),
        ),
        (
            {"host": "box:8000", "x_forwarded_host": "evil.example.com"},
            "1.2.3.4",
            False,
            Origin("http", "box", 8000, "1.2.3.4"),
        ),
    ],
)
def test_how_the_device_reached_us(headers: dict[str, str], peer: str, tls: bool, origin: Origin | None) -> None:
    assert identity_of(request(**headers), peer, PROXIES, tls=tls).origin == origin


def test_behind_the_gateway_the_way_of_the_device_is_not_known() -> None:
    asked = request("/xiaozhi/v1/?from=mqtt_gateway", device_id="a", host="server:8000")
    assert identity_of(asked, "1.2.3.4", NOBODY).origin is None


# --- from where ---


def test_forwarded_addresses_are_believed_of_proxies_only() -> None:
    """What exactly is believed: tests/net/test_proxies.py."""
    asked = request(x_forwarded_for="6.6.6.6, 9.9.9.9", device_id="a")
    assert identity_of(asked, "10.0.0.1", PROXIES).peer_ip == "9.9.9.9"
    assert identity_of(asked, "1.2.3.4", PROXIES).peer_ip == "1.2.3.4"
    assert identity_of(request(x_real_ip="9.9.9.9"), "10.0.0.1", PROXIES).peer_ip == "9.9.9.9"
