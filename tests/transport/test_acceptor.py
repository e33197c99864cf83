"""The device port: the upgrade and every refusal of it, web pages, TLS, stopping."""

from __future__ import annotations

import socket
import ssl

import gevent
import pytest
import websocket

from tests.transport.harness import Noting, RecordedEvents, good_token, serving
from tests.transport.wire import CLOSE, TEXT, Hung, frame
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.net.browser_origins import BrowserOrigins
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.net.tls import TlsFiles
from xiaozhi.runtime.connections import ConnectionRegistry, Policy
from xiaozhi.runtime.limits import Admission, AdmissionLimits
from xiaozhi.session.link import Identity
from xiaozhi.transport.acceptor import NO_DEVICE_ID, Acceptor, AcceptorOptions
from xiaozhi.transport.connection import ConnectionServices

LOOPBACK = TrustedProxies(["127.0.0.0/8"])


# --- the upgrade ---


@pytest.mark.parametrize(
    "path",
    ["/xiaozhi/v1/", "/xiaozhi/v1", "/", "//", "//xiaozhi/v1/", "/xiaozhi//v1//", "/xiaozhi/", "/v1/", "/a/xiaozhi/v1"],
)
def test_a_device_is_let_in(path: str) -> None:
    with serving() as port, port.client() as client:
        client.upgrade(
            path,
            device_id="AA:BB",
            client_id="c1",
            protocol_version="3",
            user_agent="bread/1.8",
            sec_websocket_extensions="permessage-deflate",
        )
        identity = port.session("AA:BB").visit.identity
        assert identity == Identity("AA:BB", "c1", "127.0.0.1", 3, False, "bread/1.8")


def test_compression_is_not_negotiated() -> None:
    with serving() as port, port.client() as client:
        client.send(client.request(sec_websocket_extensions="permessage-deflate; client_max_window_bits"))
        status, headers, _ = client.answer()
        assert status == 101
        assert "sec-websocket-extensions" not in headers


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(certificate: tuple[str, str], version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        serving(tls=TlsFiles(*certificate)) as port,
        socket.create_connection(("127.0.0.1", port.number), timeout=PATIENCE_S) as sock,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(sock)


def test_a_browser_is_let_in_by_its_query() -> None:
    with serving() as port, port.client() as client:
        client.upgrade(
            "/xiaozhi/v1/?device-id=web&client-id=c2&authorization=Bearer%20good",
            device_id=None,
            client_id=None,
            authorization=None,
        )
        assert port.session("web").visit.identity.client_id == "c2"


def test_the_gateway_is_marked_and_speaks_for_others() -> None:
    with serving(trusted=LOOPBACK) as port, port.client() as client:
        client.upgrade("/xiaozhi/v1/?from=mqtt_gateway", x_forwarded_for="9.9.9.9")
        identity = port.session("aa:bb:cc:dd:ee:ff").visit.identity
        assert identity.via_gateway
        assert identity.peer_ip == "9.9.9.9"


def test_what_is_sent_with_the_request_is_not_lost() -> None:
    with serving() as port, port.client() as client:
        client.send(client.request() + frame(TEXT, b"echo early"))
        assert client.answer()[0] == 101
        assert client.receive() == (TEXT, b"early")


def test_a_request_that_comes_byte_by_byte() -> None:
    with serving() as port, port.client() as client:
        for byte in client.request():
            client.send(bytes([byte]))
            gevent.sleep(0)
        assert client.answer()[0] == 101


def test_a_real_client() -> None:
    with serving() as port:
        ws = websocket.create_connection(
            f"ws://127.0.0.1:{port.number}/xiaozhi/v1/",
            header=["Device-Id: real", "Authorization: Bearer good"],
            timeout=PATIENCE_S,
        )
        ws.send("echo 你好")
        assert ws.recv() == "你好"
        ws.send_binary(b"\xf8")
        ws.ping("still there?")
        assert ws.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_PONG
        ws.close(status=1000, reason=b"bye")
        wait_for(lambda: port.session("real").closings == ["1000 bye"])
        assert port.session("real").heard == ["echo 你好", b"\xf8"]


# --- web pages ---


@pytest.mark.parametrize(
    "origin,host,status",
    [
        (None, "x", 101),
        ("http://192.168.1.5:8003", "192.168.1.5:8000", 101),
        ("http://localhost:8006", "192.168.1.5:8000", 101),
        ("https://pages.example.com", "192.168.1.5:8000", 101),
        ("https://evil.example", "192.168.1.5:8000", 403),
        ("null", "192.168.1.5:8000", 403),
        ("file://", "192.168.1.5:8000", 403),
        ("https://pages.example.com.evil.example", "192.168.1.5:8000", 403),
        ("https://evil.example", "192.168.1.5:8000, evil.example", 403),
    ],
)
def test_a_page_from_elsewhere_is_refused_before_the_upgrade(origin: str | None, host: str, status: int) -> None:
    """Also by its query, as a page must, and without a device id, and whatever token it shows."""
    with serving(browsers=BrowserOrigins(["https://pages.example.com"])) as port:
        for path in ("/xiaozhi/v1/", "/xiaozhi/v1/?device-id=web&client-id=c2&authorization=Bearer%20good"):
            with port.client() as client:
                client.send(client.request(path, origin=origin, host=host, x_forwarded_host="evil.example"))
                assert client.answer()[0] == status
        if status == 403:
            assert port.sessions == []


# --- no upgrade ---


@pytest.mark.parametrize("path", ["/", "/xiaozhi/v1/", "/anything?x=1"])
def test_plain_http(path: str) -> None:
    with serving() as port, port.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, headers, body = client.answer()
        assert (status, body) == (200, "Server is running\n")
        assert headers["connection"] == "close"
        assert client.eof()


@pytest.mark.parametrize(
    "request_,status",
    [
        ("HEAD / HTTP/1.1\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\nx", 405),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nDevice-Id: a\r\ndevice-id: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nAuthorization: Bearer bad\r\nAuthorization: Bearer good\r\n\r\n", 400),
        ("\x16\x03\x01 TLS\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        ("GET /" + "x" * 9000 + " HTTP/1.1\r\n\r\n", 414),
        ("GET / HTTP/1.1\r\n" + "a: b\r\n" * 100 + "\r\n", 431),
        ("GET / HTTP/1.1\r\na: " + "x" * 20_000, 431),
    ],
)
def test_other_answers(request_: str, status: int) -> None:
    with serving() as port, port.client() as client:
        client.send(request_.encode())
        assert client.answer()[0] == status


@pytest.mark.parametrize(
    "path,headers,status",
    [
        ("/anything", {}, 404),
        ("/v1/xiaozhi", {}, 404),
        ("/xiaozhi/v2/", {}, 404),
        ("/xiaozhi/v1/more", {}, 404),
        ("/xiaozhi/v1/", {"sec_websocket_key": None}, 400),
        ("/xiaozhi/v1/", {"sec_websocket_key": "short"}, 400),
        ("/xiaozhi/v1/", {"sec_websocket_key": "not base64 at all!!!!"}, 400),
        ("/xiaozhi/v1/", {"sec_websocket_key": "ümlaut=="}, 400),
        ("/xiaozhi/v1/", {"sec_websocket_version": "8"}, 400),
        ("/xiaozhi/v1/", {"sec_websocket_version": None}, 426),
        ("/xiaozhi/v1/", {"connection": "keep-alive"}, 400),
        ("/xiaozhi/v1/", {"device_id": "x" * 200}, 400),
        ("/xiaozhi/v1/", {"authorization": None}, 401),
        ("/xiaozhi/v1/", {"authorization": "Bearer bad"}, 401),
    ],
)
def test_refused_upgrades(path: str, headers: dict[str, str | None], status: int) -> None:
    with serving() as port:
        with port.client() as client:
            client.send(client.request(path, **headers))
            heard, _, body = client.answer()
            assert heard == status
            assert body
            assert client.eof()
        assert port.sessions == []
        assert port.admission.total == 0


def test_an_old_http_version_cannot_upgrade() -> None:
    with serving() as port, port.client() as client:
        client.send(client.request().replace(b"HTTP/1.1", b"HTTP/1.0"))
        status, _, body = client.answer()
        assert status == 400
        assert "proxy_http_version 1.1" in body


def test_without_a_device_id_it_is_explained() -> None:
    with serving() as port:
        with port.client() as client:
            client.upgrade(device_id=None)
            assert client.receive() == (TEXT, NO_DEVICE_ID.encode())
            assert client.ending() == (1008, "device-id is missing")
        assert port.sessions == []


# --- TLS ---


def test_tls(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    with serving(tls=TlsFiles(cert, key), request_timeout=0.5) as port:
        with port.device(tls=True) as (client, session):
            client.say("echo private")
            assert client.receive() == (TEXT, b"private")
            client.send(frame(CLOSE, b"\x03\xe8"))
            assert client.ending() == (1000, "")
            assert session.gone.wait(PATIENCE_S)
        with port.client(tls=True) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert client.answer()[2] == "Server is running\n"
        with port.client() as plain:
            plain.send(b"GET / HTTP/1.1\r\n\r\n")
            assert plain.eof()
        with port.client() as silent:
            assert silent.eof(), "a client that does not even begin with TLS is not waited for"


def test_a_certificate_that_cannot_be_used(tmp_path: object) -> None:
    wrong = f"{tmp_path}/wrong.pem"
    with open(wrong, "w") as file:
        file.write("nonsense")
    with pytest.raises(ssl.SSLError):
        with serving(tls=TlsFiles(wrong, wrong)):
            pass


# --- starting and stopping ---


def two_on_one_port(*, reuse_port: bool) -> None:
    def acceptor(port: int) -> Acceptor:
        options = AcceptorOptions(reuse_port=reuse_port)
        return Acceptor(
            "127.0.0.1",
            port,
            services=ConnectionServices(
                sessions=Noting,
                connections=ConnectionRegistry(Policy()),
                events=RecordedEvents(),
                pings=lambda identity: False,
            ),
            admit=good_token,
            admission=Admission(AdmissionLimits()),
            options=options,
        )

    first = acceptor(0)
    first.start()
    second = acceptor(first.port)
    try:
        second.start()
    finally:
        first.stop_accepting()
        second.stop_accepting()


def test_workers_share_a_port_if_asked() -> None:
    two_on_one_port(reuse_port=True)
    with pytest.raises(OSError):
        two_on_one_port(reuse_port=False)


def test_after_stop_accepting_nobody_new_comes_in_and_everybody_stays() -> None:
    with serving() as port, port.device() as (client, _):
        waiting = [port.client() for _ in range(5)]  # in the backlog: the server has not had a turn since
        port.acceptor.stop_accepting()
        port.acceptor.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            port.client()
        client.say("echo still here")
        assert client.receive() == (TEXT, b"still here")
        for number, late in enumerate(waiting):
            late.upgrade(device_id=f"late {number}")
            late.sock.close()


def test_closing_says_goodbye_to_everybody() -> None:
    with serving() as port, port.device("a") as (first, _), port.device("b") as (second, _):
        port.acceptor.close(1012, "restart")
        assert [client.ending() for client in (first, second)] == [(1012, "restart")] * 2
        assert not port.acceptor.join(0)
        first.sock.close()
        second.sock.close()
        assert port.acceptor.join(PATIENCE_S)


def test_silence_is_silence() -> None:
    """The client of these tests can tell it from everything else."""
    with serving() as port, port.device() as (client, _):
        client.sock.settimeout(0.02)
        with pytest.raises(Hung):
            client.receive()
