"""When the garbage collector looks at everything: when the process has grown, and not by a count of objects.

A full collection stops the hub for as long as it takes (tens of milliseconds with many sessions), so CPython's own rule
is as good as switched off (`app/process.py`). What sessions leave is freed by reference count; this is for what some
library, or some fault of ours, leaves in cycles: without it that would be kept for ever. Decisions only: memory, clock
and collector are given."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final

import psutil

from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

GROWTH_BYTES: Final = 64 << 20
"""Least growth since the last full collection that is a reason for one."""
GROWTH_SHARE: Final = 0.25
"""Of what it was then, when that is more: a large process grows in larger steps."""
LOOK_S: Final = 5.0
"""Between two looks at the memory."""
REST_S: Final = 30.0
"""Least time between two full collections."""


def resident_bytes() -> int:
    """Memory of this process that is in use (RSS)."""
    return int(psutil.Process().memory_info().rss)


class GrowthCollector:
    """`check` now and then; never in the path of a frame."""

    def __init__(
        self,
        *,
        resident: Callable[[], int] = resident_bytes,
        collect: Callable[[], int] = gc.collect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resident = resident
        self._collect = collect
        self._clock = clock
        self._level = 0
        """Memory after the last full collection, or the least since."""
        self._look_at = 0.0
        self._not_before = 0.0

    def check(self, now: float) -> bool:
        """Collect if it is time for that; whether it was."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_S
        held = self._resident()
        if not self._level or held < self._level:
            self._level = held
        if now < self._not_before or held - self._level < max(GROWTH_BYTES, GROWTH_SHARE * self._level):
            return False
        self._not_before = now + REST_S
        began = self._clock()
        objects = self._collect()
        took_s = self._clock() - began
        # What is still there is in use: only growth beyond it is a reason to look again.
        self._level = self._resident()
        log.info(
            "memory collected",
            objects=objects,
            mb_before=held >> 20,
            mb_after=self._level >> 20,
            ms=round(1000 * took_s),
        )
        return True
