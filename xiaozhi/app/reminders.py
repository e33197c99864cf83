"""Timers, alarms and reminders, put together: the book that tools and pages use, and the scheduler that rings.

Part of the composition root: made with the server, started and closed with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import Final

from xiaozhi.app.telemetry import Observer
from xiaozhi.devices.messages import MessageSender
from xiaozhi.reminders.book import ReminderBook
from xiaozhi.reminders.scheduler import ReminderScheduler
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.watchdog import Watchdog
from xiaozhi.session.turn_record import Outcome, TurnRecord
from xiaozhi.settings import Settings, zone_of
from xiaozhi.storage.database import Database

PULSE_S: Final = 120.0
"""A scheduler that has not looked for so long is replaced."""


class ReminderService:
    """`start`, then `book` for whoever sets reminders; `close`. `current`: the settings in force."""

    def __init__(
        self,
        database: Database,
        sender: MessageSender,
        metrics: Metrics,
        observer: Observer,
        current: Callable[[], Settings],
    ) -> None:
        def zone() -> tzinfo:
            return zone_of(current())

        self._scheduler = ReminderScheduler(
            database, sender, zone=zone, on_due=lambda how: metrics.reminders_due.labels(how).inc()
        )
        self.book = ReminderBook(database, zone=zone, changed=self._scheduler.wake)
        metrics.watch("xiaozhi_reminders_waiting", "Reminders still to come.", lambda: self._scheduler.waiting)
        observer.on_turn.append(self._turn_ended)

    def start(self, watchdog: Watchdog) -> None:
        """Ring what is due from now on, what fell due meanwhile included."""
        self._scheduler.start()
        watchdog.expect("reminders", lambda: self._scheduler.beat, PULSE_S, self._scheduler.revive)

    def close(self) -> None:
        """Ring nothing any more. Idempotent."""
        self._scheduler.close()

    def _turn_ended(self, device: str, record: TurnRecord) -> None:
        # One that an alarm has interrupted says nothing about the alarm.
        if record.user_text and not record.announcement and record.outcome is not Outcome.INTERRUPTED:
            self._scheduler.spoke(device)
