"""A second carrier of sessions, for tests only: messages over plain TCP, each behind its kind and its length.

    u8 kind | u32 length | payload        T text, B binary, P ping, Q pong, C close: u16 code, reason

The first message of a device is a text with its device id. It shares nothing with the WebSocket, so whatever works on
both does not depend on what carries it: `PrefixedPort` needs the server's `ConnectionServices` and `Admission`, no
more."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.lock import Semaphore
from gevent.server import StreamServer

from tests.waiting import PATIENCE_S
from xiaozhi.errors import ConnectionClosed, Overloaded
from xiaozhi.protocol import close_codes
from xiaozhi.runtime.limits import Admission
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.link import Identity
from xiaozhi.transport.connection import Connection, ConnectionServices

HEAD = struct.Struct("!cI")
SEND_SECONDS = 2.0
GOODBYE_SECONDS = 0.5


def frame(kind: bytes, payload: bytes) -> bytes:
    """One message on the wire."""
    return HEAD.pack(kind, len(payload)) + payload


def read_frame(file: Any) -> tuple[bytes, bytes] | None:
    """(kind, payload) of the next message; None at the end."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    kind, size = HEAD.unpack(head)
    payload = file.read(size)
    return (kind, payload) if len(payload) == size else None


class PrefixedSocket:
    """The server's end; implements `transport.message_socket.MessageSocket`."""

    def __init__(self, sock: Any, file: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._sock = sock
        self._file = file
        self._clock = clock
        self._lock = Semaphore()
        self._tasks = Tasks()
        self._ended: tuple[int, str] | None = None
        self.received = 0
        self.sent = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.held_bytes = 0
        self.last_control = 0.0
        self.closing_since: float | None = None

    @property
    def ending(self) -> tuple[int, str]:
        return self._ended or (close_codes.ABNORMAL, "")

    def receive(self) -> str | bytes:
        while True:
            try:
                found = read_frame(self._file)
            except (OSError, ValueError):
                found = None
            if found is None:
                self._end(close_codes.ABNORMAL, "the device went away")
                raise ConnectionClosed(*self.ending)
            kind, payload = found
            match kind:
                case b"C":
                    self._end(struct.unpack("!H", payload[:2])[0], payload[2:].decode())
                    raise ConnectionClosed(*self.ending)
                case b"Q":
                    self.last_control = self._clock()
                case _ if self._ended is None:
                    self.received += 1
                    return payload if kind == b"B" else payload.decode()

    def send_text(self, text: str, /) -> None:
        self._send(b"T", text.encode())

    def send_binary(self, data: bytes, /) -> None:
        self._send(b"B", data)

    def ping(self) -> bool:
        if self._ended is None:
            self._tasks.spawn("ping", self._write, frame(b"P", b""))
        return self._ended is None

    def close(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._end(code, reason)
            self._tasks.spawn("goodbye", self._say_goodbye, code, reason)

    def abort(self, reason: str) -> None:
        self._end(close_codes.ABNORMAL, reason)
        self._shut()

    def finish(self) -> None:
        self.close(close_codes.GOING_AWAY, "")
        self._tasks.join(GOODBYE_SECONDS * 2)
        self._shut()

    def _send(self, kind: bytes, payload: bytes) -> None:
        if self._ended is not None:
            raise ConnectionClosed(*self.ending)
        try:
            with gevent.Timeout(SEND_SECONDS, TimeoutError("the device stopped reading")):
                self._write(frame(kind, payload))
        except OSError as error:
            self.abort(str(error))
            raise ConnectionClosed(*self.ending) from error
        self.sent += 1

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._sock.sendall(data)

    def _say_goodbye(self, code: int, reason: str) -> None:
        try:
            with gevent.Timeout(GOODBYE_SECONDS, TimeoutError()):
                self._write(frame(b"C", struct.pack("!H", code) + reason.encode()))
        except OSError:
            pass  # nobody listens any more
        self._shut()

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is shut already

    def _end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = code, reason
            self.closing_since = self._clock()


class PrefixedPort:
    """Accepts devices and serves each with the server's own connections, limits and sessions. Use as a context
    manager."""

    def __init__(self, services: ConnectionServices, admission: Admission) -> None:
        self.services = services
        self._admission = admission
        self._tasks = Tasks()
        self._server = StreamServer(("127.0.0.1", 0), self._serve, spawn=self._spawn)

    def __enter__(self) -> PrefixedPort:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        assert self._tasks.join(PATIENCE_S), "connections did not end"

    def device(self, device_id: str) -> PrefixedDevice:
        """A device that has connected and said who it is."""
        return PrefixedDevice(self._server.server_port, device_id)

    def _spawn(self, run: Callable[..., None], *args: Any) -> None:
        self._tasks.spawn("prefixed", run, *args)

    def _serve(self, sock: Any, address: tuple[str, int]) -> None:
        with sock.makefile("rb") as file:
            opening = read_frame(file)
            if opening is None:
                return
            identity = Identity(json.loads(opening[1])["device_id"], peer_ip=address[0])
            try:
                self._admission.check_handshake(identity.peer_ip)
                permit = self._admission.enter(identity.device_id.lower(), identity.peer_ip)
            except Overloaded as refusal:
                sock.sendall(frame(b"C", struct.pack("!H", close_codes.TRY_AGAIN_LATER) + str(refusal).encode()))
                return
            try:
                Connection(PrefixedSocket(sock, file), identity, self.services).run()
            finally:
                permit.release()


class PrefixedDevice:
    """The device's end, in blocking style. Use as a context manager."""

    def __init__(self, port: int, device_id: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._file = self._sock.makefile("rb")
        self.closed: tuple[int, str] | None = None
        self.pings = 0
        self._write(b"T", json.dumps({"device_id": device_id}).encode())

    def __enter__(self) -> PrefixedDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a JSON message."""
        self._write(b"T", json.dumps({"type": kind, **fields}).encode())

    def send_sound(self, *packets: bytes) -> None:
        """Send Opus packets."""
        for packet in packets:
            self._write(b"B", packet)

    def close(self, code: int = close_codes.NORMAL, reason: str = "") -> None:
        """Say goodbye."""
        self._write(b"C", struct.pack("!H", code) + reason.encode())

    def receive(self) -> dict[str, Any] | bytes | None:
        """The next message, parsed, or packet; None when the server has closed, see `closed`. Answers pings."""
        while (found := read_frame(self._file)) is not None:
            kind, payload = found
            match kind:
                case b"T":
                    message: dict[str, Any] = json.loads(payload)
                    return message
                case b"B":
                    return payload
                case b"P":
                    self.pings += 1
                    self._write(b"Q", b"")
                case b"C":
                    self.closed = struct.unpack("!H", payload[:2])[0], payload[2:].decode()
        return None

    def until(self, *wanted: str) -> list[dict[str, Any] | bytes]:
        """Everything up to the message whose type, or type and state, is `wanted`. Raises AssertionError if it does not
        come."""
        heard: list[dict[str, Any] | bytes] = []
        while (message := self.receive()) is not None:
            heard.append(message)
            if isinstance(message, dict) and (message["type"], message.get("state"))[: len(wanted)] == wanted:
                return heard
        raise AssertionError(f"closed {self.closed} before {wanted}; heard {heard}")

    def ending(self) -> tuple[int, str] | None:
        """How the server closed it; waits for it."""
        while self.receive() is not None:
            pass
        return self.closed

    def _write(self, kind: bytes, payload: bytes) -> None:
        self._sock.sendall(frame(kind, payload))
