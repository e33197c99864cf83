"""The timers, alarms and reminders of all devices: set, listed, changed, cancelled, put off.

A row of the store each (`storage/reminders.py`), of one device and of the user who set it. Not who rings them
(`scheduler.py`), and not the tools that users speak to."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.reminders.recurrence import is_elapsed
from xiaozhi.reminders.ringing import ReminderKind, over
from xiaozhi.reminders.understanding import When
from xiaozhi.reminders.wording import spoken_text
from xiaozhi.storage import reminders
from xiaozhi.storage.database import Database
from xiaozhi.storage.reminders import ReminderRow

MAX_PER_DEVICE: Final = 50
MAX_TEXT_CHARS: Final = 300
RANG_S: Final = 1_800.0
"""So long after it has rung, it can be put off or stopped without being named."""


class ReminderBook:
    """Methods block for the database and raise StorageError, Overloaded. `zone`: where the owner lives. `changed`: told
    when there may be something new to ring; may not wait. `clock`: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        *,
        zone: Callable[[], tzinfo] = lambda: UTC,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._zone = zone
        self._changed = changed
        self._clock = clock

    def now(self) -> datetime:
        """The time where the owner lives."""
        return datetime.fromtimestamp(self._clock(), self._zone())

    def set(
        self, device: str, person: str, kind: ReminderKind, when: When, *, text: str = "", chinese: bool = False
    ) -> ReminderRow | None:
        """Keep a new one; None when the device has MAX_PER_DEVICE already. `text`: what it is about."""
        row = ReminderRow(
            id=uuid.uuid4().hex[:12],
            device=normal_device_id(device),
            person=person,
            kind=kind.value,
            text=spoken_text(text)[:MAX_TEXT_CHARS],
            language="zh" if chinese else "en",
            created_at=self._clock(),
            due_at=0.0,
            look_at=0.0,
        )
        row = _at(row, when)
        kept = self._database.run(lambda connection: reminders.add(connection, row, MAX_PER_DEVICE))
        self._changed()
        return row if kept else None

    def coming(self, device: str, person: str | None = None) -> list[ReminderRow]:
        """Those of a device that are still to come, the next one first; `person`: only his. One that repeats and rings
        now stands there with its next time."""
        name = normal_device_id(device)
        rows = self._database.read(lambda connection: reminders.of_device(connection, name, person))
        now, zone = self._clock(), self._zone()
        return sorted((over(row, now, zone) if row.again else row for row in rows), key=lambda row: row.due_at)

    def change(self, row: ReminderRow, *, when: When | None = None, text: str | None = None) -> ReminderRow:
        """Another time, another text, or both; as it is now."""
        changed = row if text is None else replace(row, text=spoken_text(text)[:MAX_TEXT_CHARS])
        if when is not None:
            changed = _at(changed, when)
        self._database.run(lambda connection: reminders.replace(connection, replace(changed, worker="")))
        self._changed()
        return changed

    def cancel(self, device: str, ids: Sequence[str] | None = None) -> int:
        """Forget some of a device, None: all; how many there were."""
        name = normal_device_id(device)
        return self._database.run(lambda connection: reminders.erase(connection, name, ids))

    def rang_last(self, device: str, person: str) -> ReminderRow | None:
        """The one that was heard last, if that was a moment ago."""
        name, since = normal_device_id(device), self._clock() - RANG_S
        return self._database.read(lambda connection: reminders.rang_last(connection, name, person, since))

    def stop(self, row: ReminderRow) -> None:
        """Do not repeat one that rings."""
        self._database.run(lambda connection: reminders.replace(connection, over(row, self._clock(), self._zone())))

    def snooze(self, row: ReminderRow, minutes: int) -> ReminderRow | None:
        """Have one that has rung ring once more; None when the device has MAX_PER_DEVICE already."""
        now = self._clock()
        at = now + 60.0 * minutes
        if not row.rule:
            put_off = replace(row, due_at=at, look_at=at, rang_at=None, again=0, worker="")
            self._database.run(lambda connection: reminders.replace(connection, put_off))
            self._changed()
            return put_off
        self.stop(row)
        when = When(datetime.fromtimestamp(at, self._zone()), span=timedelta(minutes=minutes))
        kind, chinese = ReminderKind(row.kind), row.language == "zh"
        return self.set(row.device, row.person, kind, when, text=row.text, chinese=chinese)


def _at(row: ReminderRow, when: When) -> ReminderRow:
    at = when.at.timestamp()
    start = ""
    if when.rule and when.start is not None:
        start = (when.start if is_elapsed(when.rule) else when.start.replace(tzinfo=None)).isoformat()
    return replace(row, due_at=at, look_at=at, rule=when.rule, start=start, rang_at=None, again=0)
