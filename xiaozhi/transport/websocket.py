"""One WebSocket: a socket with limits, deadlines, a send lock and exactly one ending.

The first `MessageSocket` (`message_socket.py`). Not HTTP (`acceptor.py` has done the upgrade), not JSON, not devices.
It replaces the object that gevent-websocket would make, which has no message-size limit, no send lock, no deadline and
no ping, and believes the length a peer claims.

Reading: `receive` waits for the socket, takes what has arrived (at most `READ_BYTES`), and cuts all messages out of it
before it waits again. It never reads without having waited, so that a flooding device gets one read per turn of the hub
and no more.

Writing: a frame is first offered to the kernel without waiting, which costs no timer and no lock. Only when the
kernel's buffer is full does the sender wait for a lock and for room, with one deadline; if the deadline passes, the
socket is aborted. A frame of which a part was sent is always completed before the next one, even if its sender was
killed: otherwise the stream could not be read any more.

Ending: the first of the peer, `close`, `abort` and a violation decides code and reason; everybody else gets them as
ConnectionClosed. The reader calls `finish` in the end, which closes the descriptor."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.lock import Semaphore
from gevent.ssl import SSLSocket

from xiaozhi.errors import ConnectionClosed, ProtocolError
from xiaozhi.net.tcp import RESET_ON_CLOSE, SocketLimits
from xiaozhi.protocol import close_codes
from xiaozhi.runtime.limits import TokenBucket
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import spawn_later
from xiaozhi.transport import rfc6455

READ_BYTES: Final = 4096
"""One read: room for a dozen frames of a device that was held up. More does not make it faster, and is wasted memory as
a rule."""
LARGE_READ_BYTES: Final = 65_536
"""One read in the middle of a long message."""
CONTROL_FRAMES_PER_SECOND: Final = 10.0
CONTROL_BURST: Final = 20.0
MAX_EXCESS_CONTROLS: Final = 1000
"""Pings beyond the rate are not answered; after this many of them the connection is closed."""
LINGER_BYTES: Final = 1 << 20
"""What a peer may still send after our close frame before the connection is dropped."""

_READ: Final = 1
_WRITE: Final = 2

log = get_logger(__name__)


class _Interrupted(OSError):
    """Raised in a greenlet that waits for a socket which another greenlet has aborted."""


class WebSocket:
    """See the module. One greenlet calls `receive` and `finish`; the rest may be called from any greenlet."""

    __slots__ = (
        "_clock",
        "_close_deadline",
        "_controls",
        "_ended",
        "_excess_controls",
        "_hub",
        "_inbound",
        "_limits",
        "_peer_done",
        "_readable",
        "_secure",
        "_send_lock",
        "_sock",
        "_tail",
        "_waiting",
        "_writable",
        "bytes_in",
        "bytes_out",
        "closing_since",
        "last_control",
        "received",
        "sent",
    )

    def __init__(
        self,
        sock: Any,
        *,
        limits: SocketLimits,
        early: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sock`: a connected gevent (SSL) socket that nobody else uses any more. `early`: bytes that came behind the
        upgrade request."""
        self.received = 0
        """Messages received."""
        self.sent = 0
        """Frames sent."""
        self.bytes_in = 0
        """Bytes received, frame heads and control frames included."""
        self.bytes_out = 0
        """Bytes that the kernel has taken."""
        self.last_control = 0.0
        """When the last ping or pong came, on `clock`; 0: never."""
        self.closing_since: float | None = None
        """When this socket's end began, on `clock`."""
        # The socket object itself must never wait: gevent's TLS sockets forget the deadline, and fail with wrong errors
        # when they are closed meanwhile.
        sock.settimeout(0.0)
        self._sock = sock
        self._limits = limits
        self._clock = clock
        self._hub = gevent.get_hub()
        self._secure = isinstance(sock, SSLSocket)
        self._readable = self._hub.loop.io(sock.fileno(), _READ)
        self._writable: Any = None  # exists while somebody waits for the kernel
        self._inbound = rfc6455.Inbound(max_binary=limits.binary_bytes, max_text=limits.text_bytes)
        if early:
            self._inbound.feed(early)
        self._ended: tuple[int, str] | None = None
        self._peer_done = False
        self._tail = b""  # the rest of a frame that was begun and must be completed
        self._waiting = 0  # senders that wait for the kernel
        self._send_lock: Semaphore | None = None  # exists while somebody waits
        self._controls: TokenBucket | None = None
        self._excess_controls = 0
        self._close_deadline: gevent.Greenlet | None = None

    @property
    def closed(self) -> bool:
        """True once nothing can be sent any more."""
        return self._ended is not None

    @property
    def ending(self) -> tuple[int, str]:
        """(code, reason) of how it ended; 1006 while it has not."""
        return self._ended or (close_codes.ABNORMAL, "")

    @property
    def waiting(self) -> int:
        """Senders that wait for the kernel to take their bytes."""
        return self._waiting

    @property
    def held_bytes(self) -> int:
        """What it keeps of a message that has not arrived whole."""
        return self._inbound.held_bytes

    # --- reading ----------------------------------------------------------------------------------------------------

    def receive(self) -> str | bytes:
        """The next message; waits for it. Raises ConnectionClosed; after that only `finish` may be called."""
        inbound = self._inbound
        while True:
            try:
                message = inbound.next()
            except ProtocolError as error:
                raise self._violated(error) from None
            if message is None:
                self._fill()
            elif isinstance(message, rfc6455.Control):
                self._on_control(message)
            elif self._ended is None:
                self.received += 1
                return message

    def _fill(self) -> None:
        """Wait for bytes and feed them. Raises ConnectionClosed at the end of the stream."""
        size = LARGE_READ_BYTES if self._inbound.missing > READ_BYTES else READ_BYTES
        if self._readable is None:
            raise self._gone("closed")
        try:
            # TLS may hold bytes that are decrypted already: the kernel then reports nothing to read.
            if not (self._secure and self._sock.pending()):
                self._hub.wait(self._readable)
            data = self._sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise self._failed(error) from None
        if not data:
            self._peer_done = True
            raise self._gone("the device went away")
        self.bytes_in += len(data)
        self._inbound.feed(data)

    def _on_control(self, frame: rfc6455.Control) -> None:
        if frame.opcode == rfc6455.CLOSE:
            self._peer_done = True
            try:
                code, reason = rfc6455.parse_close(frame.payload)
            except ProtocolError as error:
                raise self._violated(error) from None
            if self._ended is None:
                self._end(code, reason)
                self._offer(rfc6455.close_frame(close_codes.NORMAL if code == close_codes.NO_STATUS else code))
            raise self._closed_error()
        now = self._clock()
        self.last_control = now
        if self._controls is None:
            self._controls = TokenBucket(CONTROL_FRAMES_PER_SECOND, CONTROL_BURST, now)
        if not self._controls.take(now):
            self._excess_controls += 1
            if self._excess_controls > MAX_EXCESS_CONTROLS:
                raise self._violated(ProtocolError("too many control frames", close_code=close_codes.POLICY_VIOLATION))
        elif frame.opcode == rfc6455.PING and self._ended is None:
            self._offer(rfc6455.frame(rfc6455.PONG, frame.payload))

    # --- writing ----------------------------------------------------------------------------------------------------

    def send_text(self, text: str) -> None:
        """Send a text message; waits at most the send deadline. Raises ConnectionClosed. Lone surrogates are sent as
        "?"."""
        self._send(rfc6455.frame(rfc6455.TEXT, text.encode("utf-8", "replace")))

    def send_binary(self, data: bytes) -> None:
        """Send a binary message; waits at most the send deadline. Raises ConnectionClosed."""
        self._send(rfc6455.binary_frame(data))

    def ping(self) -> bool:
        """Send a ping if that can be done without waiting; False if not."""
        return self._ended is None and self._offer(rfc6455.frame(rfc6455.PING, b""))

    def _send(self, frame: bytes) -> None:
        if self._ended is not None:
            raise self._closed_error()
        if not self._waiting and not self._tail:
            sent = self._try(frame)
            if sent == len(frame):
                self.sent += 1
                return
            if sent or self._secure:
                # A frame that was begun must be completed. With TLS even one of which nothing was taken: it may be
                # encrypted already.
                self._tail, frame = frame[sent:], b""
        self._send_patiently(frame)

    def _try(self, frame: bytes) -> int:
        """Give the kernel as much as it takes without waiting; returns the bytes taken. Raises ConnectionClosed."""
        try:
            return self._take(frame)
        except OSError as error:
            raise self._failed(error) from None

    def _take(self, frame: bytes) -> int:
        """Like `_try`. Raises OSError."""
        try:
            sent: int = self._sock.send(frame)
        except BlockingIOError:
            return 0  # as TLS sockets do
        self.bytes_out += sent
        return sent

    def _offer(self, frame: bytes) -> bool:
        """Send a control frame if that is possible without waiting; False if nothing was sent."""
        if self._waiting or self._tail:
            return False
        try:
            sent = self._try(frame)
        except ConnectionClosed:
            return False
        if sent or self._secure:
            self._tail = frame[sent:]
        return sent > 0

    def _send_patiently(self, frame: bytes) -> None:
        """The kernel's buffer is full, or other senders wait already: wait for both, with one deadline."""
        deadline = gevent.Timeout.start_new(self._limits.send_timeout)
        self._waiting += 1
        if self._send_lock is None:
            self._send_lock = Semaphore()
        try:
            with self._send_lock:
                self._push(b"")
                self._push(frame)
            self.sent += 1
        except gevent.Timeout as fired:
            if fired is not deadline:
                raise
            self.abort("the device stopped reading")
            raise self._closed_error() from None
        except OSError as error:
            raise self._failed(error) from None
        finally:
            deadline.close()
            self._waiting -= 1
            if not self._waiting:
                self._send_lock = None
                watcher, self._writable = self._writable, None
                if watcher is not None:
                    watcher.close()

    def _push(self, frame: bytes) -> None:
        """Send all of a frame, or of the tail if `frame` is empty. If the sender is stopped midway, the rest becomes
        the tail."""
        begun = not frame
        rest = frame or self._tail
        try:
            while rest:
                sent = self._take(rest)
                if sent:
                    begun = True
                    rest = rest[sent:]
                else:
                    self._wait_writable()
        finally:
            if begun or self._secure:
                self._tail = rest

    def _wait_writable(self) -> None:
        if self._readable is None:
            raise _Interrupted("closed")
        if self._writable is None:
            self._writable = self._hub.loop.io(self._sock.fileno(), _WRITE)
        self._hub.wait(self._writable)

    # --- ending -----------------------------------------------------------------------------------------------------

    def close(self, code: int = close_codes.NORMAL, reason: str = "") -> None:
        """Send a close frame and return at once: the reader will see the peer's answer, or the socket is aborted after
        the close timeout. Idempotent."""
        if self._ended is not None:
            return
        self._end(code, reason)
        if self._offer(rfc6455.close_frame(code, reason)) and not self._tail:
            self._close_deadline = spawn_later(self._limits.close_timeout, "close-deadline", self.abort)
        else:
            self.abort()

    def abort(self, reason: str = "aborted") -> None:
        """Drop the connection at once, and what the kernel has not sent yet. Idempotent."""
        self._end(close_codes.ABNORMAL, reason)
        if self._readable is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._shut()

    def finish(self) -> None:
        """Close the descriptor. For the reader, after ConnectionClosed; may wait for the peer, at most the close
        timeout. Idempotent."""
        self.close(close_codes.GOING_AWAY)
        if self._close_deadline is not None:
            self._close_deadline.kill(block=False)
            self._close_deadline = None
        if self._readable is not None and not self._peer_done:
            self._linger()
        self._shut()

    def _linger(self) -> None:
        """Read until the peer has closed too: closing with unread bytes resets the connection, and the peer might never
        see our close frame."""
        deadline = gevent.Timeout.start_new(self._limits.close_timeout)
        left = LINGER_BYTES
        try:
            self._sock.settimeout(None)
            self._sock.shutdown(socket.SHUT_WR)
            while left > 0:
                data = self._sock.recv(LARGE_READ_BYTES)
                if not data:
                    return
                left -= len(data)
        except OSError as error:
            log.debug("lost while closing", reason=str(error))
        except gevent.Timeout as fired:
            if fired is not deadline:
                raise
        finally:
            deadline.close()

    def _shut(self) -> None:
        readable, self._readable = self._readable, None
        writable, self._writable = self._writable, None
        if readable is not None:
            # Greenlets that wait are woken with an OSError before the descriptor can be used for another socket.
            self._hub.cancel_waits_close_and_then([readable, writable], _Interrupted, self._sock.close)

    def _end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = (code, reason)
            self.closing_since = self._clock()

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(*self.ending)

    def _gone(self, reason: str) -> ConnectionClosed:
        """The stream has ended without a close frame."""
        self._end(close_codes.ABNORMAL, reason)
        return self._closed_error()

    def _failed(self, error: OSError) -> ConnectionClosed:
        self.abort(f"lost: {error.strerror or type(error).__name__}")
        return self._closed_error()

    def _violated(self, error: ProtocolError) -> ConnectionClosed:
        """The peer broke the rules: close, and say which one."""
        if self._ended is None:
            code = error.close_code or close_codes.PROTOCOL_ERROR
            self._end(code, str(error))
            self._offer(rfc6455.close_frame(code, str(error)))
        return self._closed_error()
