"""From a session's turns to entries of the history.

Nothing here blocks: what is kept goes to the journal, which writes it on a thread of its own (`history/journal.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable

from xiaozhi.chat import CallContext
from xiaozhi.history.entries import EndedSession, HistoryEntry, SessionInfo
from xiaozhi.session.services import HistoryKeeper
from xiaozhi.session.turn_record import Outcome, TurnRecord

_TROUBLE = (Outcome.FAILED, Outcome.OVERLOADED)


class SessionHistory:
    """What one session hands in. `clock`: that of the turns' timelines; `now`: seconds since 1970."""

    __slots__ = ("_clock", "_keeper", "_kept", "_now", "_session")

    def __init__(
        self,
        keeper: HistoryKeeper,
        context: CallContext,
        clock: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._now = now
        self._session = SessionInfo(context.session_id, context.device_id, context.client_id, now())
        self._kept = 0

    def turn_ended(self, record: TurnRecord, mode: str) -> None:
        """Keep a turn as `history.mode` says ("off", "text", "sound"); not one in which nothing was said."""
        happened = record.user_text or record.spoken or record.tools or record.outcome in _TROUBLE
        if mode == "off" or not happened:
            return
        timeline = record.timeline
        ago = self._clock() - timeline.voice_ended if timeline.voice_ended is not None else 0.0
        timings = timeline.account()
        ended = timeline.since_voice("ended")
        if ended is not None:
            timings["ended"] = round(ended * 1000)
        entry = HistoryEntry(
            session=self._session,
            turn=record.turn_id,
            at=self._now() - ago,
            said=record.user_text,
            spoken=record.spoken,
            tools=record.tools,
            outcome=record.outcome.value,
            reason=record.reason,
            announcement=record.announcement,
            timings=timings,
            speaker=record.speaker,
        )
        self._kept += 1
        self._keeper.append(entry, *((record.sound, record.voices) if mode == "sound" else ()))

    def end(self) -> None:
        """The session is over."""
        if self._kept:
            self._keeper.end(EndedSession(self._session, self._now(), self._kept))
