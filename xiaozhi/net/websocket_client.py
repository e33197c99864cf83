"""A blocking WebSocket client for vendors: deadlines on every wait, bounded messages, typed errors, `close` from any
greenlet.

Not the device's socket (`transport/websocket.py` is the server's side), and it does not reconnect: a provider knows
whether a lost connection may be replaced. websocket-client speaks the protocol; the deadlines, bounds and errors are
added here."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import gevent
import orjson
import websocket
from gevent import select
from websocket import ABNF
from websocket._abnf import frame_buffer

from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.http_errors import error_for_status, redact, shown_address
from xiaozhi.net.tls import client_context
from xiaozhi.protocol import close_codes

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
SEND_SECONDS = 5.0
# A close frame is sent within this time or not at all.
CLOSE_SECONDS = 0.2
READ_BYTES = 65_536

T = TypeVar("T")


class VendorSocket:
    """One connection. One greenlet may send while another receives; `close` may come from anywhere and wakes both.

    `connect` seconds cover name, TCP, TLS and handshake. `headers` are sent as they are; `secrets` never appear in an
    error message. `verify=False` accepts any certificate (self-hosted vendors). Raises VendorError: a refused handshake
    becomes the error of its status."""

    def __init__(
        self,
        vendor: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        connect: float = 5.0,
        verify: bool = True,
        secrets: Sequence[str] = (),
        max_message: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.vendor = vendor
        self._secrets = tuple(secrets)
        self._max_message = max_message
        self._closed = False
        self._asked_at = shown_address(url)
        self._socket = _Client(max_message, {"context": client_context(verify)} if url.startswith("wss:") else {})
        self._within(connect, "no connection", self._connect, url, headers, subprotocols)

    def __enter__(self) -> VendorSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """True after `close`, or after a failure, which closes."""
        return self._closed

    @property
    def subprotocol(self) -> str:
        """What the vendor chose, "" when nothing."""
        response = self._socket.handshake_response
        return (response.subprotocol or "") if response is not None else ""

    def send_text(self, text: str) -> None:
        """Send one text message. Raises VendorError."""
        self._within(SEND_SECONDS, "message not taken", self._socket.send, text.encode(), ABNF.OPCODE_TEXT)

    def send_json(self, message: Mapping[str, Any]) -> None:
        """Send one text message, an object in JSON. Raises VendorError."""
        self._within(SEND_SECONDS, "message not taken", self._socket.send, orjson.dumps(message), ABNF.OPCODE_TEXT)

    def send_binary(self, data: bytes) -> None:
        """Send one binary message. Raises VendorError."""
        self._within(SEND_SECONDS, "message not taken", self._socket.send, data, ABNF.OPCODE_BINARY)

    def receive(self, deadline: float) -> str | bytes:
        """The next message, text or binary. Raises VendorTimeout after `deadline` seconds, VendorUnavailable when the
        connection ends."""
        return self._within(deadline, "nothing heard", self._receive)

    def is_idle(self) -> bool:
        """True when the connection is open and nothing has arrived on it: fit to be used again."""
        sock = self._socket.sock
        if self._closed or self._socket.unread or sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return False
        readable, _, _ = select.select([sock], [], [], 0)
        return not readable

    def close(self) -> None:
        """Send a close frame without waiting for the answer, and close. Idempotent, callable from any greenlet."""
        if self._closed:
            return
        self._closed = True
        if self._socket.connected and not self._socket.lock.locked():
            timer = gevent.Timeout.start_new(CLOSE_SECONDS)
            try:
                self._socket.send(close_codes.NORMAL.to_bytes(2, "big"), ABNF.OPCODE_CLOSE)
            except (websocket.WebSocketException, OSError):
                pass  # already gone
            except gevent.Timeout as fired:
                if fired is not timer:
                    raise
            finally:
                timer.close()
        self._socket.abort()  # wakes a reader
        self._socket.shutdown()

    def _connect(self, url: str, headers: Mapping[str, str] | None, subprotocols: Sequence[str]) -> None:
        self._socket.connect(
            url,
            header=[f"{name}: {value}" for name, value in (headers or {}).items()],
            subprotocols=list(subprotocols) or None,
            suppress_origin=True,
            redirect_limit=0,  # would carry the credentials to wherever the vendor points
        )
        if self._socket.sock is not None:
            self._socket.sock.settimeout(None)  # the deadlines here are the only ones

    def _receive(self) -> str | bytes:
        parts: list[bytes] = []
        size = 0
        opcode = 0
        while True:
            frame = self._socket.recv_frame()
            if frame.opcode == ABNF.OPCODE_PING:
                self._socket.pong(frame.data)
                continue
            if frame.opcode == ABNF.OPCODE_PONG:
                continue
            if frame.opcode == ABNF.OPCODE_CLOSE:
                code = int.from_bytes(frame.data[:2], "big") if len(frame.data) >= 2 else close_codes.NO_STATUS
                reason = redact(frame.data[2:].decode("utf-8", "replace"), self._secrets)
                raise VendorUnavailable(self.vendor, f"closed by the vendor: {code} {reason}".rstrip())
            if (frame.opcode == ABNF.OPCODE_CONT) != bool(parts):
                raise VendorGarbage(self.vendor, "fragments out of order")
            opcode = opcode or frame.opcode
            size += len(frame.data)
            if size > self._max_message:
                raise VendorGarbage(self.vendor, f"message longer than {self._max_message} bytes")
            if frame.fin and not parts:
                return self._decoded(opcode, frame.data)
            parts.append(frame.data)
            if frame.fin:
                return self._decoded(opcode, b"".join(parts))

    def _decoded(self, opcode: int, data: bytes) -> str | bytes:
        if opcode == ABNF.OPCODE_BINARY:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise VendorGarbage(self.vendor, "text that is not UTF-8") from None

    def _within(self, seconds: float, what: str, function: Callable[..., T], *args: Any) -> T:
        timer = gevent.Timeout.start_new(seconds)
        try:
            return function(*args)
        except gevent.Timeout as fired:
            self.close()
            if fired is not timer:
                raise
            late = VendorTimeout(self.vendor, f"{what} within {seconds:g} s")
            late.asked_at = self._asked_at
            raise late from None
        except (VendorError, websocket.WebSocketException, OSError, ValueError, AttributeError) as error:
            was_closed = self._closed
            self.close()
            failure = self._translate(error, was_closed)
            failure.asked_at = self._asked_at
            raise failure from error
        except BaseException:
            self.close()
            raise
        finally:
            timer.close()

    def _translate(self, error: Exception, was_closed: bool) -> VendorError:
        if was_closed:
            return VendorUnavailable(self.vendor, "closed")
        if isinstance(error, VendorError):
            return error
        text = redact(str(error), self._secrets)
        if isinstance(error, websocket.WebSocketBadStatusException):
            body = redact((error.resp_body or b"").decode("utf-8", "replace"), self._secrets)
            return error_for_status(self.vendor, error.status_code, error.resp_headers or {}, body)
        if isinstance(error, (websocket.WebSocketProtocolException, websocket.WebSocketPayloadException)):
            return VendorGarbage(self.vendor, text)
        if isinstance(
            error, (websocket.WebSocketConnectionClosedException, websocket.WebSocketAddressException, OSError)
        ):
            return VendorUnavailable(self.vendor, text)
        if isinstance(error, ValueError):
            return VendorRejected(self.vendor, f"unusable address: {text}")
        return VendorGarbage(self.vendor, f"no WebSocket: {text}")


class _Client(websocket.WebSocket):
    """websocket-client with one read of the socket for many frames, and a bound on what a frame may claim to be."""

    def __init__(self, max_message: int, sslopt: dict[str, Any]) -> None:
        super().__init__(sslopt=sslopt, skip_utf8_validation=True)
        self.frame_buffer = _BoundedFrames(self._take, max_message)
        self._received = b""
        self._position = 0

    @property
    def unread(self) -> bool:
        """True when bytes were received that were not asked for yet."""
        return self._position < len(self._received)

    def _take(self, size: int) -> bytes:
        # Asked for 2, 0..8 and n bytes of each frame.
        if self._position == len(self._received):
            self._received = self._recv(READ_BYTES)
            self._position = 0
        taken = self._received[self._position : self._position + size]
        self._position += len(taken)
        return taken


class _BoundedFrames(frame_buffer):
    """Refuses a frame by its header; the original buffers whatever length the peer claims."""

    def __init__(self, take: Callable[[int], bytes], max_bytes: int) -> None:
        super().__init__(take, skip_utf8_validation=True)
        self._max_bytes = max_bytes

    def recv_length(self) -> None:
        """Read the length of a frame."""
        super().recv_length()
        if self.length is not None and self.length > self._max_bytes:
            raise websocket.WebSocketProtocolException(f"frame of {self.length} bytes")
