"""A simulated device's microphone: one packet per frame duration, on a monotonic clock, from the caller or in the
background."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import gevent

from loadtest.simulator import framing, speech
from loadtest.simulator.wire import Closed

NEW_STREAM_FRAMES = 5
"""After a pause as long as this the next frame begins a new beat; until then it is a late one."""


class Microphone:
    """`send` puts ready bytes on the socket and raises Closed."""

    def __init__(self, send: Callable[[bytes], None], form: framing.Framing, frame_ms: int, name: str) -> None:
        self.frame_ms = frame_ms
        self.late_ms = 0.0
        """The worst lateness of a frame: a client that is saturated shows here."""
        self._send = send
        self.form: framing.Framing = form
        """How packets are wrapped."""
        self._name = name
        self._next_due = 0.0
        self._stream: gevent.Greenlet | None = None
        self._to_say: deque[bytes] = deque()
        self._on_said: Callable[[], None] = lambda: None

    def send(
        self,
        packets: Sequence[bytes],
        *,
        realtime: bool = True,
        until: Callable[[], bool] | None = None,
        on_sent: Callable[[int], None] | None = None,
    ) -> int:
        """Send packets from the caller's greenlet; stops early once `until()`. `on_sent(index)` follows each. Returns
        how many went out."""
        for index, ready in enumerate(framing.prepared(tuple(packets), self.form, self.frame_ms)):
            if realtime:
                self._keep_time()
            if until is not None and until():
                return index
            self._send(ready)
            if on_sent is not None:
                on_sent(index)
        return len(packets)

    @property
    def is_open(self) -> bool:
        """True while the background stream runs."""
        return self._stream is not None

    @property
    def left_to_say(self) -> int:
        """Frames of `say` that have not gone out yet."""
        return len(self._to_say)

    def open(self) -> None:
        """Stream silence in the background, and what `say` brings, until `close`."""
        if self._stream is None:
            self._stream = gevent.spawn(self._run)
            self._stream.name = f"{self._name} microphone"

    def say(self, packets: Sequence[bytes], on_said: Callable[[], None]) -> None:
        """Let the background stream say this instead of silence; `on_said` is called after each frame."""
        self._to_say.extend(framing.prepared(tuple(packets), self.form, self.frame_ms))
        self._on_said = on_said
        self.open()

    def close(self) -> None:
        """Stop the background stream. Idempotent."""
        if self._stream is not None:
            self._stream.kill()
            self._stream = None
        self._to_say.clear()

    def _run(self) -> None:
        quiet = framing.prepared((speech.silence(self.frame_ms),), self.form, self.frame_ms)[0]
        try:
            while True:
                self._keep_time()
                if self._to_say:
                    self._send(self._to_say.popleft())
                    self._on_said()
                else:
                    self._send(quiet)
        except Closed:
            return  # the reader has seen it too and tells whoever waits

    def _keep_time(self) -> None:
        now = time.monotonic()
        frame = self.frame_ms / 1000
        if now - self._next_due > NEW_STREAM_FRAMES * frame:
            self._next_due = now
        elif self._next_due > now:
            gevent.sleep(self._next_due - now)
            now = time.monotonic()
        self.late_ms = max(self.late_ms, (now - self._next_due) * 1000)
        self._next_due += frame
