"""What one connection costs, and how much of the hub's time its messages may take.

A `ConnectionUsage` belongs to a connection. It is found by contextvar, so whoever works for a device charges what was
measured without being handed the object: the greenlets of a session inherit the context of its reader (`tasks.py`). Not
the limits on numbers of messages (`limits.py`): a few messages can be dear.

Two allowances: bytes of text, and seconds of hub time. Each is repaid at a steady rate and may be overdrawn; then the
reader waits before it reads on (`pause`), which the device feels as a full TCP window. Sound is not charged: frames are
small, all alike, and have a rate of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

BURST_BYTES: Final = 4 << 20
"""Text that may come at once after a pause: all tools of a device, several times over."""
BURST_WORK_S: Final = 1.0
"""Hub time that may be used at once after a pause."""
LONGEST_PAUSE_S: Final = 1.0
"""Of one wait: the reader must notice the end of the connection."""
PATIENCE_S: Final = 10.0
"""A device that has been made to wait for so long in all, and goes on, is sent away."""
FORGIVE_S: Final = 10.0
"""After this long without a wait, earlier waits are forgotten."""
_SHORTEST_PAUSE_S: Final = 0.001
TURN_S: Final = 0.004
"""What is charged for a turn beside its text: its work is spread over many greenlets and cannot be measured
cheaply."""


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """Of one connection; 0: no limit."""

    text_bytes_per_second: float = 1_048_576.0
    work_per_second: float = 0.05
    """Seconds of the hub's time per second."""


class _Allowance:
    """`rate` per second, at most `burst` saved up; may be overdrawn."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._left = burst
        self._at = now

    def spend(self, amount: float, now: float) -> float:
        """Take `amount`; the seconds until what was overdrawn is repaid, 0 when nothing is."""
        if not self._rate:
            return 0.0
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - amount
        self._at = now
        return max(0.0, -self._left / self._rate)


class ConnectionUsage:
    """See the module. Plain numbers, as they are added to on busy paths."""

    __slots__ = (
        "_bytes",
        "_clock",
        "_owed_until",
        "_paused_at",
        "_paused_s",
        "_work",
        "bytes_in",
        "bytes_out",
        "hub_s",
        "model_s",
        "overdrawn",
        "pool_s",
        "received",
        "sent",
        "text_bytes",
        "turns",
        "vendor_s",
        "waited_s",
    )

    def __init__(self, limits: UsageLimits = UsageLimits(), clock: Callable[[], float] = time.monotonic) -> None:
        now = clock()
        self.text_bytes = 0
        self.bytes_in = self.bytes_out = 0
        self.received = self.sent = 0
        """Bytes and messages of all kinds; set when the connection has ended."""
        self.turns = 0
        self.hub_s = 0.0
        """Measured on the hub's thread: reading messages, making tools, cleaning text; and a flat charge per turn."""
        self.pool_s = 0.0
        """On pool threads, for voice detection and codecs."""
        self.model_s = 0.0
        """On pool threads, for local recognition and synthesis, which turn-taking bounds."""
        self.vendor_s = 0.0
        """That vendors worked."""
        self.waited_s = 0.0
        """That the reader was made to wait."""
        self.overdrawn = False
        """Whether the reader has to ask for a `pause`."""
        self._clock = clock
        self._bytes = _Allowance(limits.text_bytes_per_second, BURST_BYTES, now)
        self._work = _Allowance(limits.work_per_second, BURST_WORK_S, now)
        self._owed_until = now
        self._paused_s = 0.0
        self._paused_at = now

    @property
    def cpu_s(self) -> float:
        """Processor time that the device itself brings about: of the hub, and of the pool but for local models."""
        return self.hub_s + self.pool_s

    def milliseconds(self) -> dict[str, int]:
        """Who worked for it how long, for a log line."""
        spent = {"hub": self.hub_s, "pool": self.pool_s, "models": self.model_s, "vendors": self.vendor_s}
        return {f"{what}_ms": round(1000 * seconds) for what, seconds in spent.items()}

    def spend(self, seconds: float, text_bytes: int = 0) -> None:
        """So much hub time was used, for a message of so many bytes."""
        now = self._clock()
        self.hub_s += seconds
        self.text_bytes += text_bytes
        if self._work.spend(seconds, now) > 0 or (text_bytes and self._bytes.spend(text_bytes, now) > 0):
            self.overdrawn = True

    def owe(self, seconds: float) -> None:
        """Make the reader wait so long, whatever its messages cost: more processor time was used than is allowed."""
        self._owed_until = self._clock() + seconds
        self.overdrawn = True

    def pause(self) -> float:
        """Seconds for which nothing should be read now; 0: read on."""
        now = self._clock()
        owed_s = max(self._work.spend(0.0, now), self._bytes.spend(0.0, now), self._owed_until - now)
        if owed_s < _SHORTEST_PAUSE_S:
            self.overdrawn = False
            return 0.0
        if now - self._paused_at > FORGIVE_S:
            self._paused_s = 0.0
        pause_s = min(owed_s, LONGEST_PAUSE_S)
        self._paused_at = now + pause_s
        self._paused_s += pause_s
        self.waited_s += pause_s
        return pause_s

    @property
    def goes_on(self) -> bool:
        """Whether it has been made to wait for so long that it has to go."""
        return self._paused_s > PATIENCE_S


_current: ContextVar[ConnectionUsage | None] = ContextVar("usage", default=None)


def enter(usage: ConnectionUsage) -> None:
    """From here on, in this greenlet and in those that it spawns, work is for the connection of `usage`."""
    _current.set(usage)


def current() -> ConnectionUsage | None:
    """Whom the work of this greenlet is for."""
    return _current.get()


def turn_begins() -> None:
    """A turn begins for whom the work of this greenlet is."""
    usage = _current.get()
    if usage is not None:
        usage.turns += 1
        usage.spend(TURN_S)


@contextmanager
def charged(text: str = "") -> Iterator[None]:
    """Charge the processor time of the block, which must not wait for anything; and the message that it is about."""
    usage = _current.get()
    if usage is None:
        yield
        return
    began = time.thread_time()
    try:
        yield
    finally:
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        usage.spend(time.thread_time() - began, size)
