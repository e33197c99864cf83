"""A wait that makes a fake clock run, in the place of `runtime.alarm.HubAlarm`."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from tests.fakes.clock import FakeClock


class FakeAlarm:
    """Waiting makes the fake clock run: as far as asked, or not at all when somebody has rung."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.waits: list[float] = []
        self.while_waiting: Callable[[float], None] | None = None
        """Called in the middle of each wait with its length; what happens then may ring."""
        self.rung = False

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.rung = False
        gevent.sleep(0)  # the others' turn
        if self.while_waiting is not None:
            self.while_waiting(seconds)
        if not self.rung:
            self.clock.advance(seconds)

    def ring(self) -> None:
        self.rung = True
