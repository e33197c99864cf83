"""A distribution of many durations in little memory: counts per tenth of a millisecond, mergeable between processes.

Not an estimate: quantiles are exact to the width of a bin (nearest rank). Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

BIN_MS = 0.1


class Spread:
    """Durations in ms."""

    __slots__ = ("_bins", "count", "largest", "total")

    def __init__(self, values_ms: Iterable[float] = ()) -> None:
        self._bins: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.largest = 0.0
        for value in values_ms:
            self.add(value)

    def add(self, ms: float, times: int = 1) -> None:
        """Count one duration; negative ones (a clock's last digit) count as nothing."""
        ms = max(0.0, ms)
        place = round(ms / BIN_MS)
        self._bins[place] = self._bins.get(place, 0) + times
        self.count += times
        self.total += ms * times
        self.largest = max(self.largest, ms)

    def merge(self, other: Spread) -> None:
        """Count everything that `other` counted."""
        for place, times in other._bins.items():
            self._bins[place] = self._bins.get(place, 0) + times
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    @property
    def mean(self) -> float | None:
        """ms; None when nothing was counted."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The duration (ms) that `share` (0..1) of all do not exceed; None when nothing was counted."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count - 1e-9))
        seen = 0
        for place, times in sorted(self._bins.items()):
            seen += times
            if seen >= rank:
                return round(place * BIN_MS, 1)
        return round(self.largest, 1)

    def share_over(self, ms: float) -> float | None:
        """The share (0..1) of durations longer than `ms`; None when nothing was counted."""
        if not self.count:
            return None
        limit = round(ms / BIN_MS)
        return sum(times for place, times in self._bins.items() if place > limit) / self.count

    def histogram(self, width_ms: float, *, most_ms: float = math.inf) -> list[tuple[float, int]]:
        """(start of a bar in ms, how many) for bars of `width_ms`; what is beyond `most_ms` is in the last bar."""
        bars: dict[int, int] = {}
        for place, times in self._bins.items():
            bar = int(min(place * BIN_MS, most_ms) / width_ms + 1e-9)
            bars[bar] = bars.get(bar, 0) + times
        return [(bar * width_ms, times) for bar, times in sorted(bars.items())]

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """(ms, how many), ascending."""
        return ((place * BIN_MS, times) for place, times in sorted(self._bins.items()))

    def pairs(self) -> list[list[int]]:
        """For JSON and for other processes: [bin, how many]."""
        return [[place, times] for place, times in sorted(self._bins.items())]

    @classmethod
    def from_pairs(cls, pairs: Sequence[Sequence[int]]) -> Spread:
        """What `pairs` gave, up to the width of a bin in sums."""
        spread = cls()
        for place, times in pairs:
            spread.add(place * BIN_MS, times)
        return spread
