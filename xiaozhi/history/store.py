"""The local store of what was said: a `HistorySink` that keeps it in the database, for a while.

Each turn is there once, however often it is delivered. What is older than its time is removed by a sweeper, a little at
a time, so that nothing else waits for the database; sound may have a shorter time than text. What was erased does not
come back, also if it still waits in a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gevent import Greenlet
from gevent.event import Event

from xiaozhi.errors import Overloaded, StorageError
from xiaozhi.history.encoding import packed, tool_body, tools_of, unpacked
from xiaozhi.history.entries import EndedSession, HistoryEntry, KeptSound, SessionInfo, ToolUse
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import turn_history
from xiaozhi.storage.database import Database
from xiaozhi.storage.turn_history import HistoryTotals, SessionRow, TurnRow

log = get_logger(__name__)

DAY_S: Final = 86_400.0
SWEEP_S: Final = 3_600.0
"""Between two rounds of the sweeper."""
SWEPT_AT_ONCE: Final = 500
"""Turns that one transaction removes: some ten milliseconds of the storage thread."""
FOREVER: Final = 0
WRITE_DEADLINE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what was said is kept, in days; 0: for ever. Sound is never kept longer than its turn."""

    days: int
    sound_days: int


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A turn as it is kept, without its sound."""

    session: str
    turn: int
    at: float
    said: str
    spoken: tuple[str, ...]
    tools: tuple[ToolUse, ...]
    outcome: str
    reason: str
    announcement: bool
    timings: dict[str, int]
    speaker: str


class LocalHistory:
    """A `HistorySink`. `retention` may change at any time; `clock`: seconds since 1970. `start` begins the sweeper."""

    name = "store"

    def __init__(
        self,
        database: Database,
        retention: Callable[[], Retention],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock
        self._sweeper: Greenlet | None = None
        self._closing = Event()
        self._beat = time.monotonic()

    # --- a sink -------------------------------------------------------------------------------------------------------

    def deliver(self, entries: Sequence[HistoryEntry]) -> None:
        """See HistorySink."""
        session = _session_row(entries[0].session)
        turns = [_turn_row(entry) for entry in entries]
        sounds = [(entry.turn, entry.at, packed(entry.sound)) for entry in entries if entry.sound is not None]
        self._database.run(
            lambda connection: turn_history.add(connection, session, turns, sounds), deadline=WRITE_DEADLINE_S
        )

    def session_ended(self, ended: EndedSession) -> None:
        """See HistorySink."""
        self._database.run(
            lambda connection: turn_history.end(connection, ended.session.id, ended.ended_at),
            deadline=WRITE_DEADLINE_S,
        )

    # --- its sweeper --------------------------------------------------------------------------------------------------

    @property
    def beat(self) -> float:
        """When the sweeper last began a round (monotonic seconds): every hour."""
        return self._beat

    def revive(self) -> None:
        """Have a sweeper, in the place of one that has failed or hangs."""
        if self._sweeper is not None:
            self._sweeper.kill(block=False)
        self._beat = time.monotonic()
        self._sweeper = tasks.spawn("history-sweeper", self._sweep)

    def close(self) -> None:
        """Stop sweeping. Idempotent."""
        self._closing.set()
        if self._sweeper is not None:
            tasks.end(self._sweeper)
            self._sweeper = None

    def sweep(self) -> int:
        """Remove what is older than its time; how much there was. Blocks. Raises StorageError, Overloaded."""
        retention, now = self._retention(), self._clock()
        turns_before, sounds_before = (
            now - days * DAY_S if days != FOREVER else 0.0 for days in (retention.days, retention.sound_days)
        )
        removed = 0
        while not self._closing.is_set():
            gone = self._database.run(
                lambda connection: turn_history.expire(connection, turns_before, sounds_before, SWEPT_AT_ONCE),
                deadline=WRITE_DEADLINE_S,
            )
            removed += gone
            if gone < SWEPT_AT_ONCE:
                break
        return removed

    def _sweep(self) -> None:
        while not self._closing.is_set():
            self._beat = time.monotonic()
            try:
                removed = self.sweep()
            except (StorageError, Overloaded) as error:
                log.warning("old history not removed, it is tried again", error=str(error))
            else:
                if removed:
                    log.info("old history removed", count=removed)
            self._closing.wait(timeout=SWEEP_S)

    # --- for people ---------------------------------------------------------------------------------------------------

    def newest(self, device_id: str, limit: int) -> list[KeptTurn]:
        """The last turns of a device, the oldest of them first. Blocks. Raises StorageError, Overloaded."""
        device = normal_device_id(device_id)
        rows = self._database.read(lambda connection: turn_history.newest_turns(connection, device, limit))
        return [kept_turn(row) for row in rows]

    def sessions(self, device_id: str) -> list[SessionRow]:
        """The sessions of a device, the oldest first. Blocks and raises as `newest`."""
        device = normal_device_id(device_id)
        return self._database.read(lambda connection: turn_history.sessions_of(connection, device))

    def turns(self, session: str) -> list[KeptTurn]:
        """The turns of a session in order. Blocks and raises as `newest`."""
        return [kept_turn(row) for row in self._database.read(lambda c: turn_history.turns_of(c, session))]

    def sound_turns(self, session: str) -> list[int]:
        """The turns of a session whose sound is kept. Blocks and raises as `newest`."""
        return self._database.read(lambda connection: turn_history.sound_turns_of(connection, session))

    def sound(self, session: str, turn: int) -> KeptSound | None:
        """What the user said in a turn, as sound. Blocks and raises as `newest`."""
        found = self._database.read(lambda connection: turn_history.sound_of(connection, session, turn))
        return unpacked(found) if found is not None else None

    def erase(self, device_id: str) -> tuple[int, int]:
        """Remove all that was said to and by a device; (turns, sounds) removed. Blocks and raises as `newest`."""
        device, now = normal_device_id(device_id), self._clock()
        return self._database.run(
            lambda connection: turn_history.erase(connection, device, now), deadline=WRITE_DEADLINE_S
        )

    def erase_session(self, session: str) -> tuple[int, int]:
        """Remove all that was said in one session so far; (turns, sounds) removed. Blocks and raises as `newest`."""
        now = self._clock()
        return self._database.run(
            lambda connection: turn_history.erase_session(connection, session, now), deadline=WRITE_DEADLINE_S
        )

    def totals(self) -> HistoryTotals:
        """How much is kept, of all devices. Blocks and raises as `newest`."""
        return self._database.read(turn_history.totals)


def _session_row(session: SessionInfo) -> SessionRow:
    return SessionRow(session.id, normal_device_id(session.device_id), session.client_id, session.began_at)


def _turn_row(entry: HistoryEntry) -> TurnRow:
    return TurnRow(
        session=entry.session.id,
        turn=entry.turn,
        at=entry.at,
        said=entry.said,
        spoken=list(entry.spoken),
        tools=[tool_body(use) for use in entry.tools],
        outcome=entry.outcome,
        reason=entry.reason,
        announcement=entry.announcement,
        timings=dict(entry.timings),
        speaker=entry.speaker,
    )


def kept_turn(row: TurnRow) -> KeptTurn:
    """A row as it was handed in."""
    return KeptTurn(
        session=row.session,
        turn=row.turn,
        at=row.at,
        said=row.said,
        spoken=tuple(row.spoken),
        tools=tools_of(row.tools),
        outcome=row.outcome,
        reason=row.reason,
        announcement=row.announcement,
        timings=dict(row.timings),
        speaker=row.speaker,
    )
