"""How many characters a device has been told today, across restarts: the memory behind `device_max_output_size`.

Not a limiter: the session decides what to do about an empty allowance. Kept in SQLite because it must survive a restart
and may be shared by the worker processes of one machine; read from memory on the hot path, written in batches by one
greenlet."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Callable
from pathlib import Path

from gevent import Greenlet

from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

WRITE_BEHIND_S = 1.0
BUSY_TIMEOUT_S = 5.0
KEPT_DAYS = 7

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS output (day TEXT NOT NULL, device TEXT "
    "NOT NULL, characters INTEGER NOT NULL, PRIMARY KEY (day, device))"
)
_ADD = """INSERT INTO output (day, device, characters) VALUES (?, ?, ?)
          ON CONFLICT (day, device) DO UPDATE SET characters = characters + excluded.characters"""


class OutputQuota:
    """`limit` characters per device and day (0: none). `today` gives the current date in the server's time zone."""

    def __init__(self, path: Path, limit: int, today: Callable[[], datetime.date]) -> None:
        self.limit = 0
        self._today = today
        self._day = ""
        self._used: dict[str, int] = {}
        self._unsaved: dict[str, int] = {}
        self._writer: Greenlet | None = None
        self._path = path
        self._database: sqlite3.Connection | None = None
        self.adopt(limit)

    def adopt(self, limit: int) -> None:
        """Another limit from now on. Raises sqlite3.Error and OSError when the counts cannot be kept; the limit stays
        as it was then."""
        if limit > 0 and self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_SCHEMA)
            self._database = database
            self._turn_page()
        self.limit = limit

    def left(self, device: str) -> int | None:
        """Characters `device` may still hear today; None: no limit."""
        if self.limit <= 0:
            return None
        self._turn_page()
        return max(0, self.limit - self._used.get(device, 0))

    def spend(self, device: str, characters: int) -> None:
        """Count what was spoken; on disk within a second."""
        if self.limit <= 0 or characters <= 0:
            return
        self._turn_page()
        self._used[device] = self._used.get(device, 0) + characters
        self._unsaved[device] = self._unsaved.get(device, 0) + characters
        if self._writer is None:
            self._writer = tasks.spawn_later(WRITE_BEHIND_S, "quota-writer", self._write_behind)

    def flush(self) -> None:
        """Write what is not on disk yet."""
        unsaved, self._unsaved = self._unsaved, {}
        if self._database is None or not unsaved:
            return
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany(_ADD, [(self._day, device, count) for device, count in unsaved.items()])
        except sqlite3.Error as error:
            log.error("quota not written", error=str(error))
            for device, count in unsaved.items():
                self._unsaved[device] = self._unsaved.get(device, 0) + count

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.kill(block=False)
        self.flush()
        if self._database is not None:
            self._database.close()
            self._database = None

    def _write_behind(self) -> None:
        self._writer = None
        self.flush()

    def _turn_page(self) -> None:
        """Load the day's counts when a day begins (or the process does)."""
        day = self._today().isoformat()
        if day == self._day or self._database is None:
            return
        self.flush()
        self._day = day
        oldest = (self._today() - datetime.timedelta(days=KEPT_DAYS)).isoformat()
        self._database.execute("DELETE FROM output WHERE day < ?", (oldest,))
        self._used = dict(
            self._database.execute("SELECT device, characters FROM output WHERE day = ?", (day,)).fetchall()
        )
