"""A carrier of messages that is no more than two lists and a queue: what a `Connection` needs, without any network."""

from __future__ import annotations

import time
from collections.abc import Callable

from gevent.event import Event
from gevent.queue import Queue

from xiaozhi.errors import ConnectionClosed
from xiaozhi.protocol import close_codes


class MemorySocket:
    """Implements `transport.message_socket.MessageSocket`. `deliver` and `hang_up` are what a device does.

    The peer never answers a close: as soon as either side ends it, `receive` raises."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._inbound: Queue[str | bytes | None] = Queue()
        self._ended: tuple[int, str] | None = None
        self.received = 0
        self.sent = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.held_bytes = 0
        self.last_control = 0.0
        self.closing_since: float | None = None
        self.log: list[str | bytes] = []
        """What was sent to the device."""
        self.pings = 0
        self.finished = Event()

    # --- the device's side ---

    def deliver(self, *messages: str | bytes) -> None:
        """The device sends these."""
        for message in messages:
            self._inbound.put(message)

    def hang_up(self, code: int = close_codes.NORMAL, reason: str = "") -> None:
        """The device ends it, behind what it has sent so far."""
        self.deliver(f"\0{code} {reason}")

    def pong(self) -> None:
        """The device shows that it is alive, without a message."""
        self.last_control = self._clock()

    # --- MessageSocket ---

    @property
    def ending(self) -> tuple[int, str]:
        return self._ended or (close_codes.ABNORMAL, "")

    def receive(self) -> str | bytes:
        while self._ended is None:
            message = self._inbound.get()
            if isinstance(message, str) and message.startswith("\0"):
                code, _, reason = message[1:].partition(" ")
                self.close(int(code), reason)
            elif message is not None:
                self.received += 1
                self.bytes_in += len(message)
                return message
        raise ConnectionClosed(*self.ending)

    def send_text(self, text: str, /) -> None:
        self._send(text)

    def send_binary(self, data: bytes, /) -> None:
        self._send(data)

    def ping(self) -> bool:
        self.pings += 1
        return self._ended is None

    def close(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = code, reason
            self.closing_since = self._clock()
            self._inbound.put(None)

    def abort(self, reason: str) -> None:
        self.close(close_codes.ABNORMAL, reason)

    def finish(self) -> None:
        self.close(close_codes.GOING_AWAY, "")
        self.finished.set()

    def _send(self, message: str | bytes) -> None:
        if self._ended is not None:
            raise ConnectionClosed(*self.ending)
        self.sent += 1
        self.bytes_out += len(message)
        self.log.append(message)
