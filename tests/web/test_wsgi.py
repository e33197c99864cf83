"""The HTTP server on real sockets: what it answers, and that it stops well."""

from __future__ import annotations

import http.client
import json
import ssl

import gevent
import pytest
from structlog.testing import capture_logs

from tests.fakes.thinking import FakeVllm
from tests.waiting import PATIENCE_S
from tests.web.wsgi_client import CERTIFICATE, KEY, Views, connect, exchange, get, read_all, serving
from xiaozhi.net.tls import TlsFiles
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.web import ota, vision
from xiaozhi.web.app import create_app
from xiaozhi.web.wsgi import WebServer

DEVICE = "11:22:33:44:55:66"


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
