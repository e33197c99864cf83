"""Rings what is due: one greenlet per process, which sleeps until the next time of all devices.

    look ─► nothing due: sleep, at most CHECK_S, until somebody changes something
        └─► due: claim (a lease) ▸ hand over to the MessageSender ▸ settle
Workers that share a database all look; one gets the claim. When it dies before it has settled, its lease ends and
another hands over the same message again, which counts once: the sender knows it by its key. Sleeping is bounded, so
that a clock that jumps, and what other workers set, is seen within CHECK_S. Getting the words to the device, now or
when it comes back, is the sender's business."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Final

from cachetools import LRUCache
from gevent import Greenlet

from xiaozhi.devices.messages import MessageSender, MessageState
from xiaozhi.errors import Overloaded, StorageError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.reminders.recurrence import is_elapsed, next_after
from xiaozhi.reminders.ringing import AGAIN_S, LATE_S, caught_up, expires_at, message, over, rung, start_of
from xiaozhi.runtime import tasks
from xiaozhi.runtime.alarm import Alarm, HubAlarm
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import reminders
from xiaozhi.storage.database import Database
from xiaozhi.storage.reminders import ReminderRow

log = get_logger(__name__)

CHECK_S: Final = 20.0
"""Longest sleep."""
LEASE_S: Final = 30.0
RETRY_S: Final = 5.0
"""Between two tries while the database fails."""
AT_ONCE: Final = 20
"""Claimed with one look."""
KEPT_S: Final = 3_600.0
"""How long what is over is known, to be put off."""
COUNT_S: Final = 15.0
"""How old the number of those that wait may be."""
DEADLINE_S: Final = 10.0
MAX_HEARD: Final = 10_000
_HEARD: Final = (MessageState.SPOKEN, MessageState.SENT)


class ReminderScheduler:
    """`start`, `close`. `sender`: who gets words to devices. `zone`: where the owner lives. `on_due`: told of each one
    that was due, with "on_time", "late", "missed" (no worker was there until it was not worth saying) or "failed".
    `clock`: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        sender: MessageSender,
        *,
        zone: Callable[[], tzinfo] = lambda: UTC,
        on_due: Callable[[str], None] = lambda how: None,
        clock: Callable[[], float] = time.time,
        alarm: Alarm | None = None,
    ) -> None:
        self.waiting = 0
        """Of all devices, as of a look a moment ago."""
        self._database = database
        self._sender = sender
        self._zone = zone
        self._on_due = on_due
        self._clock = clock
        self._alarm: Alarm = alarm if alarm is not None else HubAlarm()
        self._worker = uuid.uuid4().hex
        self._heard: LRUCache[str, float] = LRUCache(MAX_HEARD)
        """When users of devices have last spoken to this process."""
        self._ringing: frozenset[str] = frozenset()
        self._zone_seen = ""
        self._looked_at = math.inf
        """By the clock on the wall; at first, whatever it shows, it may have been set back before."""
        self._counted_at = -math.inf
        self._greenlet: Greenlet | None = None
        self._beat = time.monotonic()
        self._changed = False
        self._failing = False

    @property
    def beat(self) -> float:
        """When the last look began, monotonic seconds."""
        return self._beat

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._greenlet is None:
            self.revive()

    def revive(self) -> None:
        """Have somebody look, in the place of one who has failed or hangs."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        self._beat = time.monotonic()
        self._greenlet = tasks.spawn("reminders", self._run)

    def close(self) -> None:
        """Ring nothing any more; what was claimed is due again, for any worker, when the lease ends. Idempotent."""
        if self._greenlet is not None:
            tasks.end(self._greenlet)
            self._greenlet = None

    def wake(self) -> None:
        """Something has changed. Does not block."""
        self._changed = True
        self._alarm.ring()

    def spoke(self, device: str) -> None:
        """The user of a device has said something. Does not block."""
        name = normal_device_id(device)
        self._heard[name] = self._clock()
        if name in self._ringing:
            self.wake()

    def look(self) -> float:
        """Ring what is due; seconds until something may be due again. Blocks for the database and the sender. Raises
        StorageError, Overloaded."""
        self._beat, self._changed = time.monotonic(), False
        zone, now = self._zone(), self._clock()
        if now < self._looked_at:  # the clock was set back
            self._database.run(
                lambda connection: reminders.free_stuck(connection, now, now + 2 * LEASE_S), deadline=DEADLINE_S
            )
        if str(zone) != self._zone_seen:
            self._follow(zone, now)
        if not now - COUNT_S < self._counted_at <= now:
            self.waiting, self._counted_at = self._database.read(reminders.waiting, deadline=DEADLINE_S), now
        seen = self._database.read(
            lambda connection: reminders.outlook(connection, now + AGAIN_S + LEASE_S), deadline=DEADLINE_S
        )
        self._looked_at = now
        self._ringing = frozenset(row.device for row in seen.ringing)
        heard = [row for row in seen.ringing if self._heard.get(row.device, 0.0) > (row.rang_at or now)]
        for row in heard:
            self._settle(row, over(row, now, zone))
        if seen.next_at is None or seen.next_at > now:
            return CHECK_S if seen.next_at is None else min(CHECK_S, seen.next_at - now)
        claimed = self._database.run(
            lambda connection: reminders.claim(
                connection,
                self._worker,
                now,
                now + LEASE_S,
                limit=AT_ONCE,
                kept_since=now - KEPT_S,
            ),
            deadline=DEADLINE_S,
        )
        for row in claimed:
            try:
                self._ring(row, zone)
            except Overloaded as error:  # too many messages wait for this device: tried again when the lease ends
                log.warning("reminder not handed over", device=row.device, error=str(error))
        return 0.0 if claimed else RETRY_S

    def _run(self) -> None:
        while True:
            try:
                pause = self.look()
                self._failing = False
            except (StorageError, Overloaded) as error:
                if not self._failing:
                    log.warning("reminders are not rung, will be tried again", error=str(error))
                self._failing, pause = True, RETRY_S
            if pause > 0 and not self._changed:
                self._alarm.wait(pause)

    def _ring(self, row: ReminderRow, zone: tzinfo) -> None:
        now = self._clock()
        if row.again:
            self._repeat(row, zone, now)
            return
        row = caught_up(row, now, zone)
        how = "missed" if now >= expires_at(row, zone) else "late" if now > row.due_at + LATE_S else "on_time"
        if how == "missed":
            after = over(row, now, zone)
        else:
            result = self._sender.send(message(row, zone))
            how = "failed" if result.state is MessageState.FAILED else how
            after = rung(row, now, zone)
        if self._settle(row, after):
            self._on_due(how)
            log.info("reminder due", device=row.device, kind=row.kind, how=how)

    def _repeat(self, row: ReminderRow, zone: tzinfo, now: float) -> None:
        """Once more, if it was heard and nobody has answered it."""
        if self._heard.get(row.device, 0.0) <= (row.rang_at or 0.0):
            first = self._sender.send(message(row, zone))  # known by its key: this only asks what became of it
            if first.state in _HEARD:
                self._sender.send(message(row, zone, repeated=True, now=now))
        self._settle(row, over(row, now, zone))

    def _settle(self, row: ReminderRow, after: ReminderRow) -> bool:
        return self._database.run(lambda connection: reminders.settle(connection, row, after), deadline=DEADLINE_S)

    def _follow(self, zone: tzinfo, now: float) -> None:
        """What is counted on the owner's clock follows it to another zone."""
        rows = self._database.read(reminders.repeating, deadline=DEADLINE_S)
        for row in rows:
            if is_elapsed(row.rule) or row.again or row.worker or row.due_at <= now:
                continue
            at = next_after(row.rule, start_of(row), datetime.fromtimestamp(now, zone), zone)
            if at is not None and at.timestamp() != row.due_at:
                self._settle(row, replace(row, due_at=at.timestamp(), look_at=at.timestamp()))
        self._zone_seen = str(zone)
