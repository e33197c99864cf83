"""The last hour of this process, minute by minute: what a page draws where nobody keeps a time series.

Not a second count: what other objects count is read from them. Put in as it happens is only what they do not keep apart
by time: how long answers were waited for (an addition to the small histogram of its minute) and how late the hub was.
The memory does not depend on how much is said: about 1 KB a minute in which somebody was answered."""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

MINUTE_S: Final = 60.0
MINUTES: Final = 60
SHORTEST_S: Final = 0.01
RATIO: Final = 1.04
"""Of the ends of a bucket: a quantile is right within 2 %."""
BUCKETS: Final = 222
"""The last one holds everything from a minute on."""
RATE_MINUTES: Final = 5
_SCALE: Final = 1 / math.log(RATIO)
_NO_WAITS: Final = array("I")


@dataclass(frozen=True, slots=True)
class MinuteFigures:
    """One minute. `began`: seconds since 1970; `p50_s`, `p95_s`: from the end of the user's voice to the first frame,
    None when nobody was answered."""

    began: float
    devices: int
    """Connected at its end."""
    turns: int
    p50_s: float | None
    p95_s: float | None
    worst_lag_s: float


@dataclass(slots=True)
class _Minute:
    number: int
    began: float
    turns_before: float
    worst_lag_s: float = 0.0
    waits: array[int] = field(default_factory=lambda: _NO_WAITS)


class LastHour:
    """`tick` a few times a second. `wall`: seconds since 1970, for labels; `clock`: monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.devices: Callable[[], int] = lambda: 0
        """Connected now."""
        self.turns: Callable[[], float] = lambda: 0.0
        """That have ended so far."""
        self._clock = clock
        self._wall = wall
        self._closed: deque[tuple[int, MinuteFigures, array[int]]] = deque()
        self._now = self._begin(0.0)
        self._sum = _NO_WAITS

    def answered(self, waited_s: float) -> None:
        """Somebody heard the first sound of an answer, so long after the end of their voice."""
        if not self._now.waits:
            self._now.waits = array("I", bytes(BUCKETS * _NO_WAITS.itemsize))
        place = int(math.log(max(waited_s, SHORTEST_S) / SHORTEST_S) * _SCALE)
        self._now.waits[min(place, BUCKETS - 1)] += 1

    def tick(self, lag_s: float) -> None:
        """The hub was so late."""
        if self._number() != self._now.number:
            self._close()
        if lag_s > self._now.worst_lag_s:
            self._now.worst_lag_s = lag_s

    def minutes(self) -> list[MinuteFigures]:
        """The oldest first; the last one is under way. Minutes in which the process stood still are missing."""
        oldest = self._number() - MINUTES
        return [*(figures for number, figures, _ in self._closed if number > oldest), self._figures(self._now)]

    def waited(self, *shares: float) -> tuple[int, list[float | None]]:
        """(answers in the last hour, the wait in s that each share of them did not exceed; None without answers)."""
        waits = _added([self._sum, self._now.waits])
        return sum(waits), [_quantile(waits, share) for share in shares]

    def turns_per_minute(self) -> float:
        """Of the last `RATE_MINUTES`, the one under way included."""
        recent = self._number() - RATE_MINUTES
        since = [figures for number, figures, _ in self._closed if number > recent]
        began = since[0].began if since else self._now.began
        turns = sum(figures.turns for figures in since) + self.turns() - self._now.turns_before
        return max(0.0, turns) / max(1.0, (self._wall() - began) / MINUTE_S)

    def _number(self) -> int:
        return int(self._clock() // MINUTE_S)

    def _begin(self, turns_before: float) -> _Minute:
        return _Minute(self._number(), self._wall(), turns_before)

    def _close(self) -> None:
        over, fresh = self._now, self._begin(self.turns())
        self._closed.append((over.number, self._figures(over), over.waits))
        while self._closed and self._closed[0][0] <= fresh.number - MINUTES:
            self._closed.popleft()
        self._sum = _added([waits for _, _, waits in self._closed])
        self._now = fresh

    def _figures(self, minute: _Minute) -> MinuteFigures:
        return MinuteFigures(
            minute.began,
            self.devices(),
            max(0, round(self.turns() - minute.turns_before)),
            _quantile(minute.waits, 0.5),
            _quantile(minute.waits, 0.95),
            minute.worst_lag_s,
        )


def _added(histograms: Iterable[array[int]]) -> array[int]:
    used = [each for each in histograms if each]
    return array("I", map(sum, zip(*used, strict=True))) if len(used) > 1 else (used[0] if used else _NO_WAITS)


def _quantile(waits: array[int], share: float) -> float | None:
    wanted = max(1, math.ceil(sum(waits) * share))
    seen = 0
    for place, count in enumerate(waits):
        seen += count
        if seen >= wanted:
            return float(SHORTEST_S * RATIO ** (place + 0.5))
    return None
