"""Announcements (alarms, calls, operators) that wait for a moment in which nobody speaks.

Not the speaking itself (an announcement is a turn like any other) and not the scheduler that knows when an alarm is
due. Whether one may be spoken now is decided by `TurnTaking`, which is asked through `pause_left`.

Overflow: at most `MAX_WAITING` wait, each until its own deadline. A full queue takes no more: the new announcement is
dropped at once, because its caller is there to be told. One greenlet runs while anything waits, none otherwise."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gevent import Greenlet

from xiaozhi.runtime.alarm import Alarm, HubAlarm
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.turns.opening import Announcement, Opening

log = get_logger(__name__)

MAX_WAITING: Final = 8


class AnnouncementQueue:
    """Openings with an announcement that wait, in the order they came.

    `pause_left()`: seconds until one may begin; None while somebody speaks or is being answered, of whose end `look`
    tells. `speak` begins one; it must not block."""

    def __init__(
        self,
        *,
        pause_left: Callable[[], float | None],
        speak: Callable[[Opening, Announcement], None],
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
        alarm: Alarm | None = None,
    ) -> None:
        self._pause_left = pause_left
        self._speak = speak
        self._tasks = tasks
        self._clock = clock
        self._alarm: Alarm = alarm if alarm is not None else HubAlarm()
        self._waiting: deque[tuple[Opening, Announcement]] = deque()
        self._watch: Greenlet | None = None

    def __len__(self) -> int:
        """How many wait; an empty queue is false."""
        return len(self._waiting)

    def add(self, opening: Opening, announcement: Announcement) -> None:
        """Let it wait for its moment; dropped at once when too many do."""
        if len(self._waiting) >= MAX_WAITING:
            announcement.drop("too many announcements are waiting")
            return
        self._waiting.append((opening, announcement))
        self.look()

    def look(self) -> None:
        """Something has changed, perhaps one may begin. Never blocks."""
        if not self._waiting:
            return
        if self._watch is None:
            self._watch = self._tasks.spawn("announcements", self._run)
        else:
            self._alarm.ring()

    def close(self, reason: str) -> None:
        """Drop all that wait. Idempotent."""
        while self._waiting:
            self._waiting.popleft()[1].drop(reason)
        self._alarm.ring()

    def _run(self) -> None:
        try:
            while self._waiting:
                wait_s = self._step()
                if self._waiting:
                    self._alarm.wait(wait_s)
        finally:
            self._watch = None

    def _step(self) -> float:
        """Begin or drop what is due; seconds until there may be something to do again."""
        now = self._clock()
        for waiting in [waiting for waiting in self._waiting if waiting[1].deadline <= now]:
            self._waiting.remove(waiting)
            waiting[1].drop("nobody was silent before its deadline")
        pause = self._pause_left()
        if pause is not None and pause <= 0 and self._waiting:
            self._begin(*self._waiting.popleft())
            pause = self._pause_left()
        until_deadline = min((waiting[1].deadline for waiting in self._waiting), default=now) - now
        return until_deadline if pause is None else min(pause, until_deadline)

    def _begin(self, opening: Opening, announcement: Announcement) -> None:
        try:
            self._speak(opening, announcement)
        except Exception:
            # One that cannot begin must not keep the others from being heard.
            log.exception("announcement cannot begin")
            announcement.drop("could not begin")
