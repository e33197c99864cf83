"""A clock that sleeping moves on."""

from __future__ import annotations

from tests.fakes.clock import FakeClock


class SleepingClock(FakeClock):
    """Its `sleep` stands in for a sleep, and is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
