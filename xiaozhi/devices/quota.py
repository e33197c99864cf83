"""How many characters a device has been told today, across restarts and workers: the memory behind
`device_max_output_size`.
 Not a limiter: the session decides what to do about an empty allowance. `left` and `spend` are on the hot path and
touch memory only. Counts are written behind (`storage/write_behind.py`), where those of all workers add up; what the
others wrote is read every `SYNC_S` seconds. So a device that changes its worker may hear a few seconds' worth too much,
and a new day's first answers are given before its counts are read.
"""

from __future__ import annotations

import datetime
import operator
import time
from collections.abc import Callable, Mapping

from gevent import Greenlet
from gevent.event import Event

from xiaozhi.errors import Overloaded, StorageError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import output_counts
from xiaozhi.storage.database import Database
from xiaozhi.storage.write_behind import WriteBehind

log = get_logger(__name__)

SYNC_S = 3.0
"""Between two looks at what other workers have counted."""
OVERLAP_S = 60.0
"""Each look goes back so far: clocks differ a little, and a transaction ends later than it began."""
KEPT_DAYS = 7
READ_DEADLINE_S = 10.0


class OutputQuota:
    """`limit` characters per device and day (0: none, as long as `adopt` was not called). A device may have a limit of
    its own, see `left`. `today`: the date in the server's time zone.

    `clock`: seconds since 1970."""

    def __init__(
        self, database: Database, today: Callable[[], datetime.date], *, clock: Callable[[], float] = time.time
    ) -> None:
        self.limit = 0
        self._database = database
        self._today = today
        self._clock = clock
        self._day = today()
        self._stored: dict[str, int] = {}
        self._read_until = 0.0
        self._counts: WriteBehind[tuple[datetime.date, str], int] = WriteBehind(
            "quota",
            database,
            lambda connection, batch: output_counts.add(connection, batch, clock(), kept_days=KEPT_DAYS),
            merge=operator.add,
            on_written=self._on_written,
        )
        self._another_day = Event()
        self._reader: Greenlet | None = None
        self._unread = False
        self._own_limits = False
        """Whether there have been devices with limits of their own."""
        self._beat = 0.0

    def adopt(self, limit: int) -> None:
        """Another limit from now on. The first one above 0 reads today's counts; blocks for that. Raises StorageError,
        Overloaded; then the limit stays as it was."""
        if limit > 0:
            self._begin()
        self.limit = limit

    def allow_own_limits(self) -> None:
        """Count from now on, whatever the general limit: a device has one of its own. Blocks and raises as `adopt`."""
        self._begin()
        self._own_limits = True

    @property
    def beat(self) -> float:
        """When the reader last began a round (monotonic seconds): every few seconds. Now, if there is none."""
        return self._beat if self._reader is not None else time.monotonic()

    def revive(self) -> None:
        """Have a reader, in the place of one that has failed or hangs."""
        if self._reader is not None:
            self._reader.kill(block=False)
        self._beat = time.monotonic()
        self._reader = tasks.spawn("quota-reader", self._read)

    def left(self, device: str, limit: int | None = None) -> int | None:
        """Characters `device` may still hear today; None: no limit. `limit`: its own one (0: none); None: the general
        one."""
        allowed = self.limit if limit is None else limit
        if allowed <= 0:
            return None
        self._turn_page()
        return max(0, allowed - self._stored.get(device, 0) - self._counts.unwritten((self._day, device), 0))

    def used(self, device: str) -> int | None:
        """Characters that `device` was told today; None: nothing is counted, as there is no limit."""
        if not self._counting:
            return None
        self._turn_page()
        return self._stored.get(device, 0) + self._counts.unwritten((self._day, device), 0)

    def spend(self, device: str, characters: int) -> None:
        """Count what was spoken; in the database within a second or so."""
        if characters <= 0 or not self._counting:
            return
        self._turn_page()
        if not self._counts.put((self._day, device), characters):
            # No room to have it written: this worker at least still knows it.
            self._stored[device] = self._stored.get(device, 0) + characters

    def flush(self) -> bool:
        """Write what is not in the database yet; False when that failed."""
        return self._counts.flush()

    def sync(self) -> None:
        """Read what all workers have counted since the last time. Raises StorageError, Overloaded."""
        self._turn_page()
        day, since, now = self._day, self._read_until - OVERLAP_S, self._clock()
        changed = self._database.read(
            lambda connection: output_counts.changed_since(connection, day, since), deadline=READ_DEADLINE_S
        )
        if day != self._day:
            return
        self._read_until = now
        self._know(changed)

    def close(self, seconds: float = 5.0) -> int:
        """Write what is left, within about `seconds`, and stop; how many counts were lost. Idempotent."""
        if self._reader is None:
            return 0
        tasks.end(self._reader)
        return self._counts.close(seconds)

    @property
    def _counting(self) -> bool:
        return self.limit > 0 or self._own_limits

    def _begin(self) -> None:
        if self._reader is None:
            self.sync()
            self.revive()

    def _read(self) -> None:
        while True:
            self._beat = time.monotonic()
            self._counts.start()
            self._another_day.wait(timeout=SYNC_S)
            self._another_day.clear()
            if not self._counting:
                continue
            try:
                self.sync()
            except (StorageError, Overloaded) as error:
                if not self._unread:
                    log.warning("counts of other workers not read", error=str(error))
                self._unread = True
            else:
                self._unread = False

    def _on_written(
        self, batch: Mapping[tuple[datetime.date, str], int], totals: Mapping[tuple[datetime.date, str], int]
    ) -> None:
        self._know({device: total for (day, device), total in totals.items() if day == self._day})

    def _know(self, totals: Mapping[str, int]) -> None:
        # Totals only rise within a day, so the higher one is the newer one.
        for device, total in totals.items():
            if total > self._stored.get(device, 0):
                self._stored[device] = total

    def _turn_page(self) -> None:
        """Begin with empty counts when a day begins; what stands in the database is read soon."""
        day = self._today()
        if day != self._day:
            self._day = day
            self._stored = {}
            self._read_until = 0.0
            self._another_day.set()
