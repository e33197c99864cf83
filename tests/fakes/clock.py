"""A clock that moves when told. For code that takes time as an argument or a `clock` callable; nothing here waits."""

from __future__ import annotations


class FakeClock:
    """Call it for the time in seconds, as one calls time.monotonic."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass; returns the new time."""
        self.now += seconds
        return self.now
