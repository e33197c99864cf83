"""One WebSocket: a socket with limits, deadlines, a send lock and exactly one ending.

Not HTTP (`acceptor.py` has done the upgrade), not JSON, not devices. It replaces the object that gevent-websocket would
make, which has no message-size limit, no send lock, no deadline and no ping, and believes the length a peer claims.

Reading: `receive` waits for the socket, takes what is there (at most `READ_BYTES`), and cuts all messages out of it
before it waits again. It never reads without having waited, so that a flooding device gets one read per turn of the hub
and no more.

Writing: a frame is first offered to the kernel without waiting, which costs no timer and no lock. Only when the
kernel's buffer is full does the sender queue behind a lock and a deadline; then the socket is aborted. A frame of which
a part was sent is always completed first, whatever happened to its sender, or the stream would be unreadable.

Ending: whoever comes first (the peer, `close`, `abort`, a violation) decides code and reason; everybody else gets them
as ConnectionClosed. The reader calls `finish` in the end, which is what closes the descriptor."""

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
from xiaozhi.runtime.limits import TokenBucket
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import spawn_later
from xiaozhi.transport import rfc6455

READ_BYTES: Final = 4096
"""One read. A dozen frames of a device that was held up; more does not make it faster, and is garbage when it is not
filled."""
LARGE_READ_BYTES: Final = 65_536
"""One read in the middle of a long message."""
CONTROL_FRAMES_PER_SECOND: Final = 10.0
CONTROL_BURST: Final = 20.0
MAX_EXCESS_CONTROLS: Final = 1000
"""Pings beyond the rate are not answered; beyond this many the peer is sent away."""
LINGER_BYTES: Final = 1 << 20
"""What a peer may still send after our close frame before it is cut off."""

_READ: Final = 1
_WRITE: Final = 2

log = get_logger(__name__)


class _Interrupted(OSError):
    """Thrown into whoever waits for a socket that was aborted by somebody else."""


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
        "_sock",
        "_tail",
        "_turnstile",
        "_waiting",
        "_writable",
        "closing_since",
        "last_control",
        "peer_ip",
        "received",
        "sent",
    )

    def __init__(
        self,
        sock: Any,
        *,
        peer_ip: str,
        limits: SocketLimits,
        early: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sock`: a connected gevent (SSL) socket that nobody else uses any more. `early`: bytes that came behind the
        upgrade request."""
        self.peer_ip = peer_ip
        self.received = 0
        """Messages received."""
        self.sent = 0
        """Frames sent."""
        self.last_control = 0.0
        """When the last ping or pong came, on `clock`; 0: never."""
        self.closing_since: float | None = None
        """When this socket's end began, on `clock`."""
        # Never let the socket object wait: TLS sockets of gevent forget the deadline, and fail oddly when they are
        # closed meanwhile.
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
        self._tail = b""  # what is left of a frame whose sender had to go
        self._waiting = 0  # senders that wait for the kernel
        self._turnstile: Semaphore | None = None  # which they pass one by one
        self._controls: TokenBucket | None = None
        self._excess_controls = 0
        self._close_deadline: gevent.Greenlet | None = None

    @property
    def closed(self) -> bool:
        """True from the moment on at which nothing can be sent any more."""
        return self._ended is not None

    @property
    def ending(self) -> tuple[int, str]:
        """(code, reason) of how it ended; 1006 while it has not."""
        return self._ended or (rfc6455.ABNORMAL, "")

    # --- reading ----------------------------------------------------------------------------------------------------

    def receive(self) -> str | bytes:
        """The next message; waits for it. Raises ConnectionClosed: from then on only `finish` makes sense."""
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
            # TLS may hold decrypted bytes that the kernel knows nothing of.
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
                self._offer(rfc6455.close_frame(rfc6455.NORMAL if code == rfc6455.NO_STATUS else code))
            raise self._closed_error()
        now = self._clock()
        self.last_control = now
        if self._controls is None:
            self._controls = TokenBucket(CONTROL_FRAMES_PER_SECOND, CONTROL_BURST, now)
        if not self._controls.take(now):
            self._excess_controls += 1
            if self._excess_controls > MAX_EXCESS_CONTROLS:
                raise self._violated(ProtocolError("too many control frames", close_code=rfc6455.POLICY))
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
        """Give the kernel what it takes without waiting; bytes taken. Raises ConnectionClosed."""
        try:
            return self._take(frame)
        except OSError as error:
            raise self._failed(error) from None

    def _take(self, frame: bytes) -> int:
        """Like `_try`. Raises OSError."""
        try:
            return self._sock.send(frame)  # type: ignore[no-any-return]
        except BlockingIOError:
            return 0  # as TLS sockets do

    def _offer(self, frame: bytes) -> bool:
        """Send a control frame if nobody has to wait for it; False if nothing was sent."""
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
        """The kernel's buffer is full, or somebody waits for it already: queue up, with one deadline for everything."""
        deadline = gevent.Timeout.start_new(self._limits.send_timeout)
        self._waiting += 1
        if self._turnstile is None:
            self._turnstile = Semaphore()
        try:
            with self._turnstile:
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
                self._turnstile = None
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

    def close(self, code: int = rfc6455.NORMAL, reason: str = "") -> None:
        """Say goodbye, at once and without waiting: the reader will see the answer, or the socket is aborted after a
        while. Idempotent."""
        if self._ended is not None:
            return
        self._end(code, reason)
        if self._offer(rfc6455.close_frame(code, reason)) and not self._tail:
            self._close_deadline = spawn_later(self._limits.close_timeout, "close-deadline", self.abort)
        else:
            self.abort()

    def abort(self, reason: str = "aborted") -> None:
        """Drop the connection, and what the kernel still holds for it, at once. Idempotent."""
        self._end(rfc6455.ABNORMAL, reason)
        if self._readable is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._shut()

    def finish(self) -> None:
        """Give the socket back. For the reader, after ConnectionClosed; may wait for the peer, at most the close
        timeout. Idempotent."""
        self.close(rfc6455.GOING_AWAY)
        if self._close_deadline is not None:
            self._close_deadline.kill(block=False)
            self._close_deadline = None
        if self._readable is not None and not self._peer_done:
            self._linger()
        self._shut()

    def _linger(self) -> None:
        """Read until the peer has hung up: closing with unread bytes would reset the connection, and with it our close
        frame."""
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
            # Whoever waits is woken with an OSError before the descriptor can be given to somebody else.
            self._hub.cancel_waits_close_and_then([readable, writable], _Interrupted, self._sock.close)

    def _end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = (code, reason)
            self.closing_since = self._clock()

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(*self.ending)

    def _gone(self, reason: str) -> ConnectionClosed:
        """The stream has ended without a close frame."""
        self._end(rfc6455.ABNORMAL, reason)
        return self._closed_error()

    def _failed(self, error: OSError) -> ConnectionClosed:
        self.abort(f"lost: {error.strerror or type(error).__name__}")
        return self._closed_error()

    def _violated(self, error: ProtocolError) -> ConnectionClosed:
        """The peer broke the rules: tell it which."""
        if self._ended is None:
            code = error.close_code or rfc6455.PROTOCOL_VIOLATION
            self._end(code, str(error))
            self._offer(rfc6455.close_frame(code, str(error)))
        return self._closed_error()
