"""What stands behind a proxy in its tests and shows what has reached it, and the proxy itself."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

from gevent.server import StreamServer

from tests.ops.programs import ROOT, check
from tests.waiting import PATIENCE_S, wait_for

TLS = ROOT / "tests/web/tls"


class Backend:
    """A worker of our own making: 101 and an echo for upgrades, a description of the request for everything else."""

    def __init__(self) -> None:
        self.refusing = False
        self.requests = 0
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def stop(self) -> None:
        """Close everything."""
        self._server.stop(timeout=1)

    def _serve(self, client: socket.socket, _address: object) -> None:
        with client, client.makefile("rb") as stream:
            request = stream.readline().decode().strip()
            headers = http.client.parse_headers(stream)
            stream.read(int(headers.get("Content-Length", "0")))
            self.requests += 1
            if self.refusing:
                client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            elif headers.get("Upgrade", "").lower() == "websocket" and headers["Connection"].lower() == "upgrade":
                key = headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                head = [
                    "HTTP/1.1 101 Switching Protocols",
                    "Upgrade: websocket",
                    "Connection: upgrade",
                    f"Sec-WebSocket-Accept: {accept}",
                    f"Port: {self.port}",
                ]
                client.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
                while data := stream.read1(4096):
                    client.sendall(data)
            else:
                seen = {
                    "port": self.port,
                    "request": request,
                    "headers": {name.lower(): value for name, value in headers.items()},
                }
                body = json.dumps(seen).encode()
                client.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
                )


class TlsFront:
    """A proxy with one of our files, on `port`. `test` and `run` are its commands."""

    def __init__(self, directory: Path, backends: list[Backend]) -> None:
        self.backends = backends
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.test: list[str] = []
        self.run: list[str] = []
        self._context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Test the configuration, then run it."""
        check(*self.test)
        self._process = subprocess.Popen(self.run)
        wait_for(self._listens, "the proxy")

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "the proxy has ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
        """(status, what the backend saw)."""
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE_S, context=self._context)
        try:
            connection.request(
                method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()}
            )
            reply = connection.getresponse()
            text = reply.read()
            return reply.status, json.loads(text) if reply.status == 200 else {}
        finally:
            connection.close()

    def upgrade(self, path: str = "/xiaozhi/v1/", **headers: str) -> tuple[ssl.SSLSocket, str]:
        """(an open tunnel, the head of the answer)."""
        lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGVzdHMgc2VuZCBhIGtleQ=="]
        return self.head(path, *lines, *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()))

    def head(self, path: str, *lines: str, method: str = "GET") -> tuple[ssl.SSLSocket, str]:
        """Send the head of a request and nothing more: (the connection, the head of the answer)."""
        tunnel = self._context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S), server_hostname="localhost"
        )
        tunnel.sendall("\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = tunnel.recv(4096)
            assert piece, head
            head += piece
        return tunnel, head.decode()

    def worker_of(self, path: str = "/xiaozhi/v1/", **headers: str) -> int:
        """The port of the worker that a device got."""
        tunnel, head = self.upgrade(path, **headers)
        tunnel.close()
        found = re.search(r"^Port: (\d+)", head, re.MULTILINE | re.IGNORECASE)
        assert found, head
        return int(found[1])
