"""How often somebody may do something: so many times a minute, an hour, counted in windows by the package `limits`.

For requests and for wrong secrets, not for messages and frames: their token buckets are in `limits.py`. The package's
own store in memory has no bound and sweeps all keys each 10 ms; this one is a bounded table, without timers. Counts are
of this process unless they are kept elsewhere (`storage/shared_counts.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cachetools import LRUCache
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from xiaozhi.errors import TooOften

MAX_COUNTS: Final = 16_384
"""Windows that are remembered; beyond it the one that was asked for longest ago is forgotten."""


class Rates:
    """`who`: what the counts are kept apart by, such as the place and the address. `counts`: where they are kept, by
    the same clock; None: in this process, and nothing here waits."""

    def __init__(self, counts: Storage | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts = counts if counts is not None else BoundedCounts(clock)
        self._windows = FixedWindowRateLimiter(self._counts)

    def wait(self, limit: RateLimitItem, *who: str) -> float:
        """Seconds until one more is within the limit; 0: it is now."""
        if self._windows.test(limit, *who):
            return 0.0
        return max(0.0, self._windows.get_window_stats(limit, *who).reset_time - self._clock())

    def count(self, limit: RateLimitItem, *who: str) -> None:
        """One more, within the limit or not."""
        self._windows.hit(limit, *who)

    def ask(self, per_minute: int, what: str, *who: str) -> None:
        """Count one more `what`, at most `per_minute` (0: any number). Raises TooOften instead when that is
        reached."""
        if not per_minute:
            return
        limit = RateLimitItemPerMinute(per_minute)
        left = self.wait(limit, what, *who)
        if left > 0:
            raise TooOften(what, left)
        self.count(limit, what, *who)

    def forget(self, limit: RateLimitItem, *who: str) -> None:
        """Begin anew with them."""
        self._windows.clear(limit, *who)

    def clear(self) -> None:
        """Begin anew with everybody."""
        self._counts.reset()


class BoundedCounts(Storage):
    """What `limits` counts in: (count, end of the window) by key."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._counts: LRUCache[str, tuple[int, float]] = LRUCache(MAX_COUNTS)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count, end = self._current(key)
        self._counts[key] = count + amount, end or self._clock() + expiry
        return count + amount

    def get(self, key: str) -> int:
        return self._current(key)[0]

    def get_expiry(self, key: str) -> float:
        return self._current(key)[1] or self._clock()

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        known = len(self._counts)
        self._counts.clear()
        return known

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _current(self, key: str) -> tuple[int, float]:
        count, end = self._counts.get(key) or (0, 0.0)
        return (count, end) if end > self._clock() else (0, 0.0)
