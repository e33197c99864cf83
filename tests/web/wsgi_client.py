"""A WSGI server with a few views, and a client that speaks HTTP by hand."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request
from gevent.event import Event

from tests.waiting import PATIENCE_S
from xiaozhi.web.app import create_app, read_body
from xiaozhi.web.wsgi import WebServer

CERTIFICATE = Path(__file__).parent / "tls" / "cert.pem"


KEY = Path(__file__).parent / "tls" / "key.pem"


MAX_BODY = 1024 * 1024


FILE_BYTES = 2 * 1024 * 1024


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
        blueprint.add_url_rule("/file", "file", lambda: Response(b"x" * 8192 for _ in range(FILE_BYTES // 8192)))
        blueprint.add_url_rule("/healthz", "healthz", lambda: "alive")
        blueprint.add_url_rule("/readyz", "readyz", lambda: "ready")
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
