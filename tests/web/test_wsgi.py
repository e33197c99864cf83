"""The HTTP server on real sockets: what it bounds, and that it stops well."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from flask import Blueprint, Response, request
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fakes.thinking import FakeVllm
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.net.tls import TlsFiles
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.web import ota, vision
from xiaozhi.web.app import create_app, read_body
from xiaozhi.web.wsgi import WebLimits, WebServer

CERTIFICATE = Path(__file__).parent / "tls" / "cert.pem"
KEY = Path(__file__).parent / "tls" / "key.pem"
MAX_BODY = 1024 * 1024
DEVICE = "11:22:33:44:55:66"


class Views:
    """Routes that wait, read and stream as tests need it."""

    def __init__(self) -> None:
        self.entered = Event()
        self.gate = Event()
        self.bodies: list[bytes] = []
        blueprint = Blueprint("test", __name__)
        blueprint.add_url_rule("/hello", "hello", lambda: {"hello": request.remote_addr})
        blueprint.add_url_rule("/wait", "wait", self.wait)
        blueprint.add_url_rule("/body", "body", self.body, methods=["POST"])
        blueprint.add_url_rule("/refuse", "refuse", lambda: ("no", 403), methods=["POST"])
        blueprint.add_url_rule("/fail", "fail", self.fail)
        blueprint.add_url_rule("/stream", "stream", self.stream)
        self.app = create_app([blueprint])

    def wait(self) -> str:
        self.entered.set()
        self.gate.wait(PATIENCE_S)
        return "waited"

    def body(self) -> str:
        self.bodies.append(read_body(MAX_BODY))
        return str(len(self.bodies[-1]))

    def fail(self) -> str:
        raise RuntimeError("secret")

    def stream(self) -> Response:
        def pieces() -> Iterator[bytes]:
            for _ in range(1000):
                yield b"x" * 65536

        return Response(pieces())


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[WebServer]:
    server = WebServer(app, "127.0.0.1", 0, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop(timeout=0.1)


def connect(server: WebServer) -> socket.socket:
    sock = socket.create_connection(server.address, timeout=PATIENCE_S)
    return sock


def exchange(server: WebServer, data: bytes, *, half_close: bool = False) -> bytes:
    """Send raw bytes and read until the server closes."""
    with connect(server) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            received += piece
    return received


def get(server: WebServer, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


# --- serving ---


def test_requests_are_served_one_after_the_other_on_one_connection() -> None:
    with serving(Views().app) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
        for _ in range(3):
            connection.request("GET", "/hello")
            reply = connection.getresponse()
            assert reply.status == 200
            assert json.loads(reply.read()) == {"hello": "127.0.0.1"}
        assert server.connections == 1
        connection.close()
        assert server.counts.requests == 3


def test_a_device_gets_its_ota_answer() -> None:
    app = create_app([ota.create_blueprint(ota.OtaConfig(), None)])
    with serving(app) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
        connection.request("POST", "/xiaozhi/ota/", body=b"{}", headers={"Device-Id": DEVICE, "Client-Id": "c"})
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        connection.close()

    assert reply.status == 200
    assert answer["websocket"]["url"] == "ws://127.0.0.1:8000/xiaozhi/v1/"


def test_a_camera_uploads_in_chunks_as_the_firmware_does() -> None:
    vllm, tokens = FakeVllm("a cat"), VisionTokens("secret")
    app = create_app([vision.create_blueprint(vision.VisionConfig(), tokens, lambda device: vllm, clock=lambda: 1000)])
    image = b"\xff\xd8\xff" + bytes(range(256)) * 500
    boundary = "----ESP32_CAMERA_BOUNDARY"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="question"\r\n\r\nwhat?\r\n'.encode(),
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
            'filename="camera.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        ).encode(),
        *(image[start : start + 512] for start in range(0, len(image), 512)),
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Authorization": f"Bearer {tokens.issue(DEVICE, now=1000)}",
        "Device-Id": DEVICE,
    }
    with serving(app) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
        connection.request("POST", vision.VISION_PATH, body=iter(parts), headers=headers, encode_chunked=True)
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        connection.close()

    assert answer == {"success": True, "action": "RESPONSE", "response": "a cat"}
    assert vllm.calls == [("what?", image, "image/jpeg")]


def test_tls() -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    with serving(Views().app, tls=TlsFiles(CERTIFICATE, KEY)) as server:
        connection = http.client.HTTPSConnection("127.0.0.1", server.address[1], timeout=PATIENCE_S, context=context)
        connection.request("GET", "/hello")
        assert connection.getresponse().read() == b'{"hello":"127.0.0.1"}\n'
        connection.close()

        assert exchange(server, b"GET /hello HTTP/1.1\r\n\r\n") == b"", "plain HTTP on the TLS port ends at once"
        assert server.counts.bad_requests == 1


def test_a_wrong_certificate_is_refused_at_start() -> None:
    server = WebServer(Views().app, "127.0.0.1", 0, tls=TlsFiles(KEY, CERTIFICATE))

    with pytest.raises(ssl.SSLError):
        server.start()


def test_two_workers_can_share_a_port_and_strangers_cannot() -> None:
    with serving(Views().app, reuse_port=True) as first:
        second = WebServer(Views().app, "127.0.0.1", first.address[1], reuse_port=True)
        second.start()
        assert second.address == first.address
        second.stop()

        with pytest.raises(OSError):
            WebServer(Views().app, "127.0.0.1", first.address[1]).start()


# --- bounds ---


def test_one_connection_too_many_is_told_so() -> None:
    views = Views()
    with serving(views.app, limits=WebLimits(connections=1)) as server:
        holder = connect(server)
        holder.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert views.entered.wait(PATIENCE_S)

        refused = exchange(server, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 2\r\n" in refused
        assert server.counts.refused == 1

        views.gate.set()
        holder.close()


@pytest.mark.parametrize("headers", [b"X: " + b"a" * 20_000 + b"\r\n", b"X: y\r\n" * 5000, b"X" * 100_000])
def test_large_headers_are_refused(headers: bytes) -> None:
    with serving(Views().app) as server:
        assert exchange(server, b"GET /hello HTTP/1.1\r\n" + headers + b"\r\n").startswith(
            (b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")
        )
        assert get(server, "/hello")[0] == 200


def test_a_long_request_line_is_refused() -> None:
    with serving(Views().app) as server:
        assert b" 414 " in exchange(server, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n").split(b"\r\n")[0]


def test_a_head_that_never_ends_is_given_up() -> None:
    with serving(Views().app, limits=WebLimits(head_seconds=0.05)) as server:
        assert exchange(server, b"GET /hello HTTP/1.1\r\nHost: x\r\n").startswith(b"HTTP/1.1 408 ")
        assert server.counts.too_slow == 1


def test_dripping_does_not_win_time() -> None:
    with serving(Views().app, limits=WebLimits(head_seconds=0.1)) as server, connect(server) as sock:
        sock.sendall(b"GET /hello HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                sock.sendall(b"X: y\r\n")
                gevent.sleep(0.005)  # sleep: it drips
                if server.counts.too_slow:
                    break

        assert server.counts.too_slow == 1


def test_a_silent_connection_is_closed() -> None:
    with serving(Views().app, limits=WebLimits(idle_seconds=0.05)) as server:
        assert exchange(server, b"") == b""
        assert exchange(server, b"GET /hel") == b""


def test_a_body_that_does_not_come_is_given_up() -> None:
    with serving(Views().app, limits=WebLimits(body_seconds=0.05)) as server:
        for framing in (b"Content-Length: 100\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"):
            reply = exchange(server, b"POST /body HTTP/1.1\r\nHost: x\r\n" + framing)
            assert reply.startswith(b"HTTP/1.1 408 ")
            assert b"body did not arrive" in reply


def test_a_refused_body_is_not_read_to_its_end() -> None:
    views = Views()
    with serving(views.app) as server, connect(server) as sock:
        sock.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 64 * 1024 * 1024:
                sent += sock.send(b"x" * 65536)
        reply = read_all(sock)

    assert sent < 32 * 1024 * 1024
    assert reply.startswith(b"HTTP/1.1 413 ") or reply == b""
    assert views.bodies == []


def test_the_answer_to_a_small_refused_body_arrives_and_the_connection_lives_on() -> None:
    with serving(Views().app) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
        for path, status in (("/refuse", 403), ("/body", 200)):
            connection.request("POST", path, body=b"x" * 50_000)
            reply = connection.getresponse()
            assert reply.status == status
            reply.read()
        assert server.connections == 1
        connection.close()


def test_chunked_bodies_are_bounded_too() -> None:
    views = Views()
    with serving(views.app) as server:
        chunks = (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20 + b"0\r\n\r\n"
        reply = exchange(
            server,
            b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
        )

    assert reply.startswith(b"HTTP/1.1 413 ")
    assert views.bodies == []


def test_expect_continue_is_only_granted_when_the_body_is_wanted() -> None:
    with serving(Views().app) as server:
        head = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        assert exchange(server, b"POST /body" + head % 3 + b"abc").startswith(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "
        )
        assert exchange(server, b"POST /body" + head % 99_000_000).startswith(b"HTTP/1.1 413 ")


def test_an_application_that_hangs_is_answered_for() -> None:
    views = Views()
    with serving(views.app, limits=WebLimits(application_seconds=0.05)) as server:
        status, body = get(server, "/wait")

    assert status == 504
    assert json.loads(body)["success"] is False
    assert server.counts.too_slow == 1


def test_a_client_that_does_not_read_is_let_go() -> None:
    with serving(Views().app, limits=WebLimits(send_seconds=0.1)) as server, connect(server) as sock:
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: not server.connections)


def test_a_failing_view_is_a_500_without_secrets() -> None:
    with serving(Views().app) as server:
        status, body = get(server, "/fail")

    assert status == 500
    assert b"secret" not in body


def test_a_broken_application_is_a_500_too() -> None:
    def broken(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise RuntimeError("secret")

    with serving(broken) as server:
        status, body = get(server, "/")

    assert status == 500
    assert b"secret" not in body


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / FTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_harms_nobody(data: bytes) -> None:
    with serving(Views().app) as server:
        assert exchange(server, data).startswith(b"HTTP/1.1 400 ")
        assert server.counts.bad_requests == 1
        assert get(server, "/hello")[0] == 200


@settings(max_examples=60)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=100).map(lambda tail: b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + tail)
)
def test_random_bytes_harm_nobody(data: bytes) -> None:
    with serving(Views().app) as server:
        exchange(server, data, half_close=True)
        assert get(server, "/hello")[0] == 200


def test_a_client_that_vanishes_leaves_nothing_behind() -> None:
    views = Views()
    with serving(views.app) as server:
        for data in (
            b"",
            b"GET /hel",
            b"GET /hello HTTP/1.1\r\nHost",
            b"POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        ):
            with connect(server) as sock:
                sock.sendall(data)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        wait_for(lambda: not server.connections)
        assert get(server, "/hello")[0] == 200


# --- stopping ---


def test_stop_lets_the_current_answer_finish_and_drops_idle_connections() -> None:
    group = Tasks()
    views = Views()
    with serving(views.app) as server:
        idle = connect(server)
        waiting = group.spawn("request", exchange, server, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert views.entered.wait(PATIENCE_S)
        stopping = group.spawn("stop", server.stop, PATIENCE_S)
        assert idle.recv(1) == b"", "nothing was under way on it"
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            connect(server)

        views.gate.set()
        gevent.joinall([waiting, stopping], timeout=PATIENCE_S)

        assert waiting.value.endswith(b"waited")
        assert b"Connection: close\r\n" in waiting.value
        assert stopping.value is True
        assert server.stop() is True


def test_stop_does_not_wait_for_ever() -> None:
    views = Views()
    with serving(views.app) as server, connect(server) as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert views.entered.wait(PATIENCE_S)

        assert server.stop(timeout=0.05) is False
        assert read_all(sock) == b""


def test_the_access_log_is_off_unless_asked_for() -> None:
    for wanted in (False, True):
        with capture_logs() as lines, serving(Views().app, access_log=wanted) as server:
            get(server, "/hello?token=secret", Authorization="Bearer secret")
        assert [line["path"] for line in lines if line["event"] == "http"] == (["/hello"] if wanted else [])
        assert "secret" not in repr(lines)
