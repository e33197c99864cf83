"""Turn-taking: who may speak. At most one turn is heard, at most one more is being prepared, and announcements wait
until neither the user nor the server speaks.

Implements what the listener tells (`ListenerSink`, in the listener's greenlet) and what interrupts; it decides and
hands on, and waits for nothing. Not the making of turns (the session does that) and not their work.

An interrupt is always the same four steps, all in `Turn.interrupt`: shut the gate for that turn, keep in the dialogue
what was heard, `tts stop`, stop the work. The next turn never waits for the old one to unwind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from gevent.event import Event

from xiaozhi.errors import Overloaded, TurnClosed
from xiaozhi.runtime.alarm import Alarm
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.listener import Utterance
from xiaozhi.session.turns.announcements import AnnouncementQueue
from xiaozhi.session.turns.opening import Announcement, Opening
from xiaozhi.session.turns.turn import Turn

log = get_logger(__name__)

COURTESY_S: Final = 3.0
"""How long an answer waits for somebody who has begun to speak again."""
PAUSE_S: Final = 0.5
"""Silence before an announcement: a device needs a moment for what follows tts stop, and its user one to speak."""
ANNOUNCEMENT_DEADLINE_S: Final = 60.0
"""How long an announcement waits for its moment unless its caller says otherwise."""

TurnFactory = Callable[[Opening], Turn]
"""Makes a turn that has not started."""


def _no_more_turns(opening: Opening) -> Turn:
    raise TurnClosed("the session is over")


def _never() -> bool:
    return False


def _nothing() -> None:
    """Nobody is told."""


class TurnTaking:
    """`accepts` says whether turns may begin; `barges_in` whether speech interrupts speech (realtime mode); `on_voice`
    is told that somebody begins to speak. `prepares`: whether pauses are used to prepare answers; not while `admit`
    raises Overloaded. `tasks`: where announcements are waited with."""

    def __init__(
        self,
        make_turn: TurnFactory,
        *,
        tasks: Tasks,
        accepts: Callable[[], bool],
        barges_in: Callable[[], bool],
        on_voice: Callable[[], None] = _nothing,
        prepares: bool = True,
        admit: Callable[[], None] = _nothing,
        clock: Callable[[], float] = time.monotonic,
        alarm: Alarm | None = None,
    ) -> None:
        self._make_turn = make_turn
        self._tasks = tasks
        self._accepts = accepts
        self._barges_in = barges_in
        self._on_voice = on_voice
        self.prepares = prepares
        self._admit = admit
        self._clock = clock
        self._alarm = alarm
        self._prepared: Turn | None = None
        self._quiet = Event()
        self._quiet.set()
        self._silent_since = clock()
        self._announcements: AnnouncementQueue | None = None
        self.current: Turn | None = None

    @property
    def speaking(self) -> bool:
        """True while an answer is being spoken."""
        return self.current is not None and self.current.speaking

    @property
    def taken(self) -> bool:
        """True from the moment an answer begins to be made until it is over."""
        return self.current is not None and not self.current.ended

    @property
    def in_use(self) -> bool:
        """True while somebody speaks or is answered."""
        return not self._quiet.is_set() or self.under_way is not None

    @property
    def under_way(self) -> Turn | None:
        """The turn that is being answered, or else prepared."""
        return next((turn for turn in (self.current, self._prepared) if turn is not None and not turn.ended), None)

    def begin(self, opening: Opening) -> None:
        """Answer a typed text, speak a fixed one, or follow an instruction; interrupts the turn under way."""
        self.discard()
        self._take_over(self._make_turn(opening)).start(prepared=False)

    def announce(
        self, opening: Opening, when: Literal["idle", "now"] = "idle", *, deadline: float = ANNOUNCEMENT_DEADLINE_S
    ) -> Announcement:
        """Speak what nobody has asked for: an alarm, a call, an operator's message. Returns at once; what became of it
        is told by the result.

        "now" interrupts the turn under way, as `begin` does. "idle" waits, at most `deadline` seconds, until nobody
        speaks: what the user says meanwhile is answered first. At most `announcements.MAX_WAITING` wait; one more is
        dropped at once."""
        announcement = Announcement(self._clock() + deadline)
        opening = replace(opening, announcement=announcement)
        if not self._accepts():
            announcement.drop("the session takes no more turns")
        elif when == "now" or (self._pause_left() == 0 and not self._announcements):
            self._speak(opening, announcement)
        else:
            self._queue().add(opening, announcement)
        return announcement

    def interrupt(self, reason: str) -> bool:
        """Silence the current turn and forget the prepared one; True if there was something to silence."""
        self.discard()
        return self.current is not None and self.current.interrupt(reason)

    def discard(self) -> None:
        """Forget the prepared turn without a trace."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.discard()

    def close(self) -> None:
        """The session is over: part with all turns, drop what waits, and let no turn begin."""
        self.discard()
        self.current = None
        if self._announcements is not None:
            self._announcements.close("the session is over")
            self._announcements = None
        self._make_turn = _no_more_turns
        self._accepts = self._barges_in = _never
        self._on_voice = _nothing

    def turn_ended(self) -> None:
        """A turn has ended, whoever ended it: perhaps an announcement may begin."""
        self._silence()

    def await_quiet(self) -> None:
        """Where speech interrupts, do not begin to speak while somebody does: wait for the end of it, which may well
        supersede the caller.

        Blocks at most `COURTESY_S`: what never ends is not somebody who wants to be heard."""
        if self._barges_in():
            self._quiet.wait(timeout=COURTESY_S)

    def forget_voice(self) -> None:
        """The listener was reset: it will not tell the end of what had begun."""
        self._hush()

    # --- what the listener tells --------------------------------------------------------------------------------------

    def speech_started(self) -> None:
        """Someone speaks; in realtime mode that interrupts us."""
        self._quiet.clear()
        self._on_voice()
        if self._barges_in() and self.speaking:
            self.interrupt("barge-in")

    def utterance_paused(self, utterance: Utterance) -> None:
        """Maybe finished: prepare an answer that nobody hears yet."""
        self.discard()
        if self.prepares and self._accepts() and not self._overloaded():
            self._prepared = self._make_turn(Opening(utterance=utterance))
            self._prepared.start(prepared=True)

    def utterance_resumed(self) -> None:
        """Not finished after all."""
        self.discard()

    def utterance_ended(self, utterance: Utterance) -> None:
        """Finished: answer, with what was prepared if it was prepared for this."""
        self._hush()
        log.debug("utterance", trace=utterance.trace, voiced_ms=round(utterance.voiced_ms))
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.utterance is utterance and not prepared.ended:
            self._take_over(prepared).release()
        else:
            if prepared is not None:
                prepared.discard()
            if self._accepts():
                self._take_over(self._make_turn(Opening(utterance=utterance))).start(prepared=False)
            else:
                utterance.close()

    def utterance_dropped(self, reason: str) -> None:
        """Too short to be speech."""
        self._hush()
        self.discard()
        log.debug("utterance dropped", reason=reason)

    def _overloaded(self) -> bool:
        try:
            self._admit()
        except Overloaded:
            return True
        return False

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take_over(self, turn: Turn) -> Turn:
        if self.current is not None:
            self.current.interrupt("superseded")
        self.current = turn
        return turn

    def _speak(self, opening: Opening, announcement: Announcement) -> None:
        self.discard()
        turn = self._make_turn(opening)
        announcement.begun()
        self._take_over(turn).start(prepared=False)

    def _queue(self) -> AnnouncementQueue:
        if self._announcements is None:
            self._announcements = AnnouncementQueue(
                pause_left=self._pause_left, speak=self._speak, tasks=self._tasks, clock=self._clock, alarm=self._alarm
            )
        return self._announcements

    def _pause_left(self) -> float | None:
        """Seconds until an announcement may begin; None while somebody speaks, is answered, or is about to leave."""
        if self.in_use or not self._accepts():
            return None
        return max(0.0, self._silent_since + PAUSE_S - self._clock())

    def _hush(self) -> None:
        """The user does not speak any more."""
        self._quiet.set()
        self._silence()

    def _silence(self) -> None:
        self._silent_since = self._clock()
        if self._announcements is not None:
            self._announcements.look()
