"""One MQTT connection as a socket: packets in, a bounded queue of packets out, deadlines, exactly one ending.

Not what the packets mean (`mqtt_control.py`) nor how they are written (`protocol/mqtt.py`).

Reading: `receive` waits for the socket, reads once, and takes all packets out of what it read before it waits again.

Writing never waits, so that anybody may write at any time: what the kernel does not take at once waits in a queue, and
a greenlet that lives as long as something waits. When more waits than `MAX_WAITING_BYTES`, or one packet longer than
the send deadline, the device does not read, and the connection is dropped."""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.ssl import SSLSocket

from xiaozhi.errors import ConnectionClosed
from xiaozhi.net.tcp import RESET_ON_CLOSE
from xiaozhi.protocol import close_codes, mqtt
from xiaozhi.runtime.tasks import spawn

READ_BYTES: Final = 4096
MAX_WAITING_BYTES: Final = 65_536
"""Beyond what the kernel holds. A packet that is larger is sent when nothing else waits."""
SLOW: Final = "the device stopped reading"

_READ: Final = 1
_WRITE: Final = 2


class _Interrupted(OSError):
    """Raised in a greenlet that waits for a socket which another greenlet has closed."""


class MqttSocket:
    """See the module. One greenlet calls `receive`; all the rest may be called from any greenlet and never waits.

    `sock`: a connected gevent (SSL) socket that nobody else uses any more. `max_packet`: the largest packet that is
    read, bytes. `send_timeout`: how long the device may take to make room for one packet, s."""

    __slots__ = (
        "_clock",
        "_ended",
        "_hub",
        "_inbound",
        "_queue",
        "_readable",
        "_secure",
        "_send_timeout",
        "_sock",
        "_waiting_bytes",
        "_writable",
        "bytes_in",
        "bytes_out",
    )

    def __init__(
        self, sock: Any, *, max_packet: int, send_timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # The socket object itself must never wait, see websocket.py.
        sock.settimeout(0.0)
        self._sock = sock
        self._clock = clock
        self._send_timeout = send_timeout
        self._hub = gevent.get_hub()
        self._secure = isinstance(sock, SSLSocket)
        self._readable = self._hub.loop.io(sock.fileno(), _READ)
        self._writable: Any = None  # exists while something waits
        self._inbound = mqtt.MqttInbound(max_packet)
        self._queue: deque[bytes] | None = None  # likewise
        self._waiting_bytes = 0
        self._ended: tuple[int, str] | None = None
        self.bytes_in = 0
        """Bytes received."""
        self.bytes_out = 0
        """Bytes that the kernel has taken."""

    @property
    def ending(self) -> tuple[int, str]:
        """(code of `close_codes`, reason) of how it ended; 1006 while it has not."""
        return self._ended or (close_codes.ABNORMAL, "")

    def allow(self, max_packet: int) -> None:
        """The largest packet that is read from now on."""
        self._inbound.max_bytes = max_packet

    # --- reading ------------------------------------------------------------------------------------------------------

    def receive(self) -> mqtt.ClientPacket:
        """The next packet; waits for it. Raises ConnectionClosed, or ProtocolError: then nothing more can be read."""
        inbound = self._inbound
        while self._ended is None:
            packet = inbound.next()
            if packet is not None:
                return packet
            self._fill()
        raise ConnectionClosed(*self._ended)

    def _fill(self) -> None:
        """Wait for bytes and feed them. Raises ConnectionClosed at the end of the stream."""
        try:
            # TLS may hold bytes that are decrypted already: the kernel then reports nothing to read.
            if not (self._secure and self._sock.pending()):
                self._hub.wait(self._readable)
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            self.abort("the device went away")
            raise ConnectionClosed(*self.ending)
        self.bytes_in += len(data)
        self._inbound.feed(data)

    # --- writing ------------------------------------------------------------------------------------------------------

    def send(self, packet: bytes) -> None:
        """Send, or queue to be sent. Raises ConnectionClosed; also when that has become too much."""
        if not self.offer(packet):
            self.abort(SLOW)
            raise ConnectionClosed(*self.ending)

    def offer(self, packet: bytes) -> bool:
        """Like `send`, but False where too much waits already. Raises ConnectionClosed."""
        if self._ended is not None:
            raise ConnectionClosed(*self._ended)
        if self._queue is None:
            try:
                sent = self._take(packet)
            except OSError as error:
                raise self._lost(error) from None
            if sent < len(packet):
                self._queue = deque((packet[sent:],))
                self._waiting_bytes = len(packet) - sent
                self._writable = self._hub.loop.io(self._sock.fileno(), _WRITE)
                spawn("mqtt-writer", self._write, self._queue)
            return True
        if self._waiting_bytes + len(packet) > MAX_WAITING_BYTES:
            return False
        self._queue.append(packet)
        self._waiting_bytes += len(packet)
        return True

    def _take(self, packet: bytes) -> int:
        """Give the kernel as much as it takes; how much that was. Raises OSError."""
        try:
            sent: int = self._sock.send(packet)
        except BlockingIOError:
            return 0  # a TLS socket says 0 itself
        self.bytes_out += sent
        return sent

    def _write(self, queue: deque[bytes]) -> None:
        """Send what waits, in its order. With TLS what was offered once must be offered again: so it stays in the
        queue until it is sent."""
        deadline = self._clock() + self._send_timeout
        try:
            while queue and self._ended is None:
                left = deadline - self._clock()
                if left <= 0:
                    self.abort(SLOW)
                    return
                with gevent.Timeout(left, False):
                    self._hub.wait(self._writable)
                if self._ended is not None:
                    return
                sent = self._take(queue[0])
                self._waiting_bytes -= sent
                if sent < len(queue[0]):
                    queue[0] = queue[0][sent:]
                else:
                    queue.popleft()
                    deadline = self._clock() + self._send_timeout
        except OSError as error:
            self._lost(error)
        finally:
            self._queue = None
            writable, self._writable = self._writable, None
            if writable is not None:
                writable.close()

    # --- ending -------------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """End it: MQTT 3.1.1 has no words for that. What the kernel holds is still sent. Idempotent."""
        if self._ended is None:
            self._ended = (code, reason)
            self._shut()

    def abort(self, reason: str) -> None:
        """Drop it at once, and what the kernel has not sent yet. Idempotent."""
        if self._ended is None:
            self._ended = (close_codes.ABNORMAL, reason)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._shut()

    def _lost(self, error: OSError) -> ConnectionClosed:
        self.abort(f"lost: {error.strerror or type(error).__name__}")
        return ConnectionClosed(*self.ending)

    def _shut(self) -> None:
        readable, self._readable = self._readable, None
        writable, self._writable = self._writable, None
        # Greenlets that wait are woken with an OSError before the descriptor can be used for another socket.
        watchers = [watcher for watcher in (readable, writable) if watcher is not None]
        self._hub.cancel_waits_close_and_then(watchers, _Interrupted, self._sock.close)
