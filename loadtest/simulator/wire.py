"""The client's end of a WebSocket (RFC 6455), as small and as cheap as a load generator needs it.

Not a general client: no proxies, no extensions, no compression. Written here because five hundred simulated devices
share a core with what they measure: a frame that is sent often is masked once (`masked`) and after that costs one
`send`, and a received frame costs one slice. Blocking style; under gevent a blocked call costs a greenlet."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_HEADER_BYTES = 32 * 1024
RECEIVE_BYTES = 64 * 1024

_KEY = b"\x37\xfa\x21\x3d"
# One key for all: masking protects proxies from scripts in browsers (RFC 6455, 10.3); a load generator is neither.


class Closed(Exception):
    """The connection is over. `code` as in RFC 6455, 7.4; 1006 when the peer just went away."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed {code} {reason}".rstrip())


class UpgradeRefused(Exception):
    """The server answered the upgrade with something else than 101."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        self.status = status
        self.headers = dict(headers)
        self.body = body
        super().__init__(f"HTTP {status}: {body.strip()[:200]}")


@dataclass(frozen=True, slots=True)
class WireFrame:
    """One received frame; fragments of a message arrive as their own frames (`whole` False, then CONTINUATION)."""

    opcode: int
    payload: bytes
    whole: bool = True


def masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client frame, ready for the socket. May be sent any number of times, by any number of devices."""
    size = len(payload)
    first = (0x80 if fin else 0) | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    key = (_KEY * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + _KEY + mixed.to_bytes(size, "big")


class Wire:
    """One connected socket. `receive` is called by one greenlet; `send` by one at a time."""

    def __init__(self, connected: socket.socket, left_over: bytes = b"") -> None:
        self._socket = connected
        self._buffer = bytearray(left_over)

    @classmethod
    def connect(
        cls,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout: float = 10.0,
        verify: bool = True,
        source_address: str = "",
        receive_buffer: int = 0,
    ) -> Wire:
        """Open a TCP (or TLS) connection and upgrade it. Raises OSError, UpgradeRefused.

        `source_address`: come from this address of the machine, since one address has ports for some 28,000
        connections. `receive_buffer`: bytes the kernel holds for a device that does not read; 0: as the kernel
        likes."""
        parts = urlsplit(url)
        secure = parts.scheme in ("wss", "https")
        host, port = parts.hostname or "127.0.0.1", parts.port or (443 if secure else 80)
        plain = socket.create_connection(
            (host, port), timeout=timeout, source_address=(source_address, 0) if source_address else None
        )
        try:
            if receive_buffer:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected = _secured(plain, host, verify) if secure else plain
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            left_over = _upgrade(connected, f"{host}:{port}", target, headers)
            connected.settimeout(None)
        except BaseException:
            plain.close()
            raise
        return cls(connected, left_over)

    def send(self, ready: bytes) -> None:
        """Send bytes that `masked` made (or any others, to be rude). Raises Closed."""
        try:
            self._socket.sendall(ready)
        except OSError as error:
            raise Closed(1006, str(error)) from error

    def receive(self) -> WireFrame:
        """The next frame. Raises Closed when the stream ends; a close frame is returned like any other."""
        buffer = self._buffer
        while True:
            frame = take_frame(buffer)
            if frame is not None:
                return frame
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except OSError as error:
                raise Closed(1006, str(error)) from error
            if not data:
                raise Closed(1006, "the peer went away")
            buffer += data

    def shut_down(self) -> None:
        """Tell the peer that nothing more will come, and wake whoever receives."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was gone before

    def close(self) -> None:
        """Give the socket back. Idempotent."""
        self._socket.close()

    @property
    def socket(self) -> socket.socket:
        """For tests that misbehave below the WebSocket: half-open connections, tiny receive buffers."""
        return self._socket


def take_frame(buffer: bytearray) -> WireFrame | None:
    """Cut one complete frame off the front of `buffer`, or leave it as it is. A server's frames are not masked."""
    have = len(buffer)
    if have < 2:
        return None
    size, start = buffer[1] & 0x7F, 2
    if size == 126:
        if have < 4:
            return None
        size, start = buffer[2] << 8 | buffer[3], 4
    elif size == 127:
        if have < 10:
            return None
        size, start = int.from_bytes(buffer[2:10], "big"), 10
    end = start + size
    if have < end:
        return None
    first = buffer[0]
    frame = WireFrame(first & 0x0F, bytes(buffer[start:end]), first >= 0x80)
    del buffer[:end]
    return frame


def _secured(plain: socket.socket, host: str, verify: bool) -> socket.socket:
    return trust(verify).wrap_socket(plain, server_hostname=host)


@functools.cache
def trust(verify: bool) -> ssl.SSLContext:
    # One for all devices: reading the system's authorities takes 20 ms.
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _upgrade(connected: socket.socket, host: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The opening handshake (RFC 6455, 4.1); returns what came after the server's headers."""
    key = base64.b64encode(os.urandom(16))
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
    ]
    lines += [f"Sec-WebSocket-Key: {key.decode()}", *(f"{name}: {value}" for name, value in headers.items())]
    connected.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = connected.recv(4096)
        if not more or len(data) > MAX_HEADER_BYTES:
            raise UpgradeRefused(0, {}, f"no HTTP answer: {data[:100]!r}")
        data += more
    status_line, *header_lines = data[:end].decode("latin-1").split("\r\n")
    answer = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in header_lines)}
    rest = data[end + 4 :]
    words = status_line.split(" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    if status != 101:
        raise UpgradeRefused(status, answer, _body(connected, rest, int(answer.get("content-length") or 0)))
    expected = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    if answer.get("sec-websocket-accept") != expected:
        raise UpgradeRefused(status, answer, "wrong Sec-WebSocket-Accept")
    return rest


def _body(connected: socket.socket, begun: bytes, length: int) -> str:
    body = begun
    while len(body) < min(length, MAX_HEADER_BYTES):
        more = connected.recv(4096)
        if not more:
            break
        body += more
    return body.decode("utf-8", "replace")
