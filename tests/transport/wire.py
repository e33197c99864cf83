"""A WebSocket client made of bytes, for tests that must be able to misbehave. What it sends is not checked by
anybody."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
from typing import Any

from tests.waiting import PATIENCE_S

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes = b"\x21\x43\x65\x87", rsv: int = 0
) -> bytes:
    """One frame as a client sends it; `mask` b"" leaves it unmasked."""
    size = len(payload)
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head.append(bit | size)
    elif size < 65_536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    if mask:
        key = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return bytes(head) + mask + payload


class Hung(AssertionError):
    """The server said nothing for longer than a test wants to wait."""


class Client:
    """A connection to the server under test. Use as a context manager."""

    def __init__(self, port: int, *, timeout: float = PATIENCE_S, tls: bool = False, receive_buffer: int = 0) -> None:
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(timeout)
        self.sock: Any = raw
        try:
            raw.connect(("127.0.0.1", port))
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                self.sock = context.wrap_socket(raw)
        except OSError:
            raw.close()
            raise
        self._data = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.sock.sendall(data)

    def say(self, text: str) -> None:
        """A text message."""
        self.send(frame(TEXT, text.encode()))

    def request(self, path: str = "/xiaozhi/v1/", **headers: str | None) -> bytes:
        """The bytes of an upgrade request; a header is given as device_id="...", and left out if it is None."""
        fields: dict[str, str | None] = {
            "host": "localhost",
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec_websocket_key": base64.b64encode(os.urandom(16)).decode(),
            "sec_websocket_version": "13",
            "device_id": "aa:bb:cc:dd:ee:ff",
            "client_id": "550e8400",
            "authorization": "Bearer good",
        }
        fields |= headers
        self.key = fields["sec_websocket_key"] or ""
        lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in fields.items() if value is not None]
        return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")

    def upgrade(self, path: str = "/xiaozhi/v1/", **headers: str | None) -> Client:
        """Ask for the upgrade and check the answer."""
        self.send(self.request(path, **headers))
        status, fields, _ = self.answer()
        assert status == 101, (status, fields)
        expected = base64.b64encode(hashlib.sha1((self.key + GUID).encode()).digest()).decode()
        assert fields["sec-websocket-accept"] == expected
        assert "sec-websocket-extensions" not in fields
        return self

    def answer(self) -> tuple[int, dict[str, str], str]:
        """(status, headers, body) of an HTTP answer; the body up to the end of the connection, unless it is an
        upgrade."""
        while b"\r\n\r\n" not in self._data:
            self._fill()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ")[1])
        if status == 101:
            return status, fields, ""
        while len(self._data) < int(fields.get("content-length", "0")):
            self._fill()
        return status, fields, self._data.decode()

    def receive(self) -> tuple[int, bytes]:
        """(opcode, payload) of the next frame. Raises EOFError at the end of the stream, Hung when nothing comes."""
        head = self._take(2)
        assert not head[1] & 0x80, "a server must not mask"
        assert not head[0] & 0x70, "reserved bits"
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self._take(size)

    def ending(self) -> tuple[int, str]:
        """(code, reason) of the server's close frame, skipping whatever comes before; (1006, "") if there is none."""
        try:
            while True:
                opcode, payload = self.receive()
                if opcode == CLOSE:
                    return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")
        except (EOFError, ConnectionError):
            return 1006, ""

    def eof(self) -> bool:
        """True once the server has hung up; skips what it still sends."""
        try:
            while True:
                self._data = b""
                self._fill()
        except (EOFError, ConnectionError):
            return True

    def reset(self) -> None:
        """Disappear without a word: a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._fill()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _fill(self) -> None:
        try:
            data = self.sock.recv(65_536)
        except TimeoutError as error:
            raise Hung("the server is silent") from error
        if not data:
            raise EOFError
        self._data += data
