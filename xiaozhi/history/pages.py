"""What was said, for people who look through it: conversations by page, one of them, what is usual for its device.

Beside `store.py`, which takes what sessions hand in. All methods block for the database, and raise StorageError and
Overloaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from xiaozhi.history.slowness import UsualTimes, usual_times
from xiaozhi.history.store import KeptTurn, kept_turn
from xiaozhi.storage import turn_history, turn_pages
from xiaozhi.storage.database import Database, Transaction
from xiaozhi.storage.turn_history import HistoryTotals, SessionRow
from xiaozhi.storage.turn_pages import KeptConversation, WantedConversations

SEARCH_S: Final = 8.0
"""How long a search may take; it reads every turn that is kept of the days it is about."""
COMPARED_TURNS: Final = 200
COMPARED_DAYS: Final = 7
COMPARED_OF_ALL_S: Final = 3_600.0


class HistoryPages:
    """`clock`: seconds since 1970."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def conversations(self, wanted: WantedConversations, limit: int) -> list[KeptConversation]:
        """Conversations, the newest first."""
        return self._database.read(lambda each: turn_pages.conversations(each, wanted, limit), deadline=SEARCH_S)

    def session(self, session: str) -> SessionRow | None:
        """One of them; None when nothing is kept of it (any more)."""
        return self._database.read(lambda each: turn_pages.session_of(each, session))

    def turns(self, session: str, after: int, limit: int) -> tuple[list[KeptTurn], list[int]]:
        """(turns of a session in order, from the one behind `after` on; those whose sound is kept)."""
        rows, sounds = self._database.read(
            lambda each: (
                turn_pages.turns_after(each, session, after, limit),
                turn_history.sound_turns_of(each, session),
            )
        )
        return [kept_turn(row) for row in rows], sounds

    def devices(self, limit: int) -> list[str]:
        """Devices of which something is kept, those that talked last first."""
        return self._database.read(lambda each: turn_pages.devices(each, limit))

    def usual(self, session: SessionRow) -> UsualTimes:
        """What turns of this device took in the days until this session ended, its own left out; where there are too
        few, what those of all devices took in the hour before it began."""
        until = session.ended_at or self._clock()
        since = until - COMPARED_DAYS * 86_400

        def read(each: Transaction) -> UsualTimes:
            own = turn_pages.timings(each, session.device, since, until, COMPARED_TURNS, without=session.id)
            begin = session.began_at - COMPARED_OF_ALL_S
            return usual_times(own, turn_pages.timings(each, "", begin, until, COMPARED_TURNS, without=session.id))

        return self._database.read(read)

    def totals(self) -> HistoryTotals:
        """How much is kept, of all devices."""
        return self._database.read(turn_history.totals)

    def pulse(self) -> float:
        """When the latest turn was (seconds since 1970); 0 when there is none."""
        return self._database.read(turn_pages.pulse)
