"""A circuit breaker per vendor endpoint: opens on the rate of failures, lets one request at a time probe, closes again.

Our own, because pybreaker 1.4 holds its RLock for the whole call, which under gevent (where that lock is a greenlet
lock) lets one request at a time through each breaker, and it opens on consecutive failures, not on a rate."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from xiaozhi.errors import CircuitOpen

Clock = Callable[[], float]
"""Monotonic seconds."""


class BreakerState(StrEnum):
    """Of a breaker. HALF_OPEN: one request at a time is let through to see whether the vendor is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """Opens when at least `error_rate` of at least `min_volume` calls within `window` seconds failed; tries again after
    `open_for` seconds."""

    error_rate: float = 0.5
    min_volume: int = 6
    window: float = 30.0
    open_for: float = 15.0


class Breaker:
    """Keeps devices from waiting for an endpoint that is known to be down.

    `admit` gives a ticket, `record` hands it back with the result: a call that was admitted before the breaker opened
    cannot close it."""

    def __init__(self, name: str, options: BreakerOptions = BreakerOptions(), *, clock: Clock = time.monotonic) -> None:
        self.name = name
        self.options = options
        self.clock = clock
        self._state = BreakerState.CLOSED
        self._results: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._opened_at = 0.0
        self._generation = 0
        self._probing = False
        self.listeners: list[Callable[[str, BreakerState], None]] = []
        """Called with (name, new state) at every change; must not block."""

    @property
    def state(self) -> BreakerState:
        """OPEN turns into HALF_OPEN when its time is over and somebody asks to be admitted."""
        return self._state

    def admit(self) -> int:
        """A ticket for one call. Raises CircuitOpen."""
        if self._state is BreakerState.OPEN:
            left = self._opened_at + self.options.open_for - self.clock()
            if left > 0:
                raise CircuitOpen(self.name, f"not asked again for {left:.0f} s")
            self._change(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN:
            if self._probing:
                raise CircuitOpen(self.name, "being probed")
            self._probing = True
        return self._generation

    def record(self, ticket: int, ok: bool | None) -> None:
        """What became of the call: True, False, or None when nobody can tell (it was cancelled)."""
        if ticket != self._generation:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._probing = False
            if ok is not None:
                self._change(BreakerState.CLOSED if ok else BreakerState.OPEN)
            return
        if ok is None:
            return
        now = self.clock()
        self._results.append((now, ok))
        self._failures += not ok
        while self._results and self._results[0][0] < now - self.options.window:
            _, was_ok = self._results.popleft()
            self._failures -= not was_ok
        volume = len(self._results)
        if not ok and volume >= self.options.min_volume and self._failures >= self.options.error_rate * volume:
            self._change(BreakerState.OPEN)

    def reset(self) -> None:
        """Close, and forget every result: somebody knows that the vendor is well."""
        self._change(BreakerState.CLOSED)

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self._generation += 1
        self._probing = False
        self._results.clear()
        self._failures = 0
        if state is BreakerState.OPEN:
            self._opened_at = self.clock()
        for listener in self.listeners:
            listener(self.name, state)
