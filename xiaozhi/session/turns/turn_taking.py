"""Turn-taking: who has the floor. At most one turn is heard, at most one more is being prepared.

Implements what the ears tell (`ListenerSink`, in the listener's greenlet) and what interrupts; it decides and hands on,
and waits for nothing. Not the making of turns (the session does that) and not their work.

An interrupt is always the same four steps, all in `Turn.interrupt`: shut the gate for that turn, keep in the dialogue
what was heard, `tts stop`, stop the work. The next turn never waits for the old one to unwind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gevent.event import Event

from xiaozhi.errors import TurnClosed
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.listening.listener import Utterance
from xiaozhi.session.turns.turn import Opening, Turn

log = get_logger(__name__)

COURTESY_S = 3.0
"""How long an answer waits for somebody who has begun to speak again."""


class TurnFactory(Protocol):
    """Makes a turn that has not started; `extra_prompt` is an instruction instead of an opening."""

    def __call__(self, opening: Opening, *, extra_prompt: str = "") -> Turn: ...


def _no_more_turns(opening: Opening, *, extra_prompt: str = "") -> Turn:
    raise TurnClosed("the visit is over")


def _never() -> bool:
    return False


def _nothing() -> None:
    """Nobody is told."""


class TurnTaking:
    """`accepts` says whether turns may begin; `barges_in` whether speech interrupts speech (realtime mode); `on_voice`
    is told that somebody begins to speak. `prepares`: whether pauses are used to prepare answers."""

    def __init__(
        self,
        make_turn: TurnFactory,
        *,
        accepts: Callable[[], bool],
        barges_in: Callable[[], bool],
        on_voice: Callable[[], None] = _nothing,
        prepares: bool = True,
    ) -> None:
        self._make_turn = make_turn
        self._accepts = accepts
        self._barges_in = barges_in
        self._on_voice = on_voice
        self.prepares = prepares
        self._prepared: Turn | None = None
        self._quiet = Event()
        self._quiet.set()
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
    def under_way(self) -> Turn | None:
        """The turn that is being answered, or else prepared."""
        return next((turn for turn in (self.current, self._prepared) if turn is not None and not turn.ended), None)

    def begin(self, opening: Opening, *, extra_prompt: str = "") -> None:
        """Answer a typed text, speak a fixed one, or follow an instruction; whoever had the floor loses it."""
        self.discard()
        self._take_over(self._make_turn(opening, extra_prompt=extra_prompt)).start(prepared=False)

    def interrupt(self, reason: str) -> bool:
        """Silence the current turn and forget the prepared one; True if there was something to silence."""
        self.discard()
        return self.current is not None and self.current.interrupt(reason)

    def discard(self) -> None:
        """Forget the prepared turn without a trace."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.discard()

    def release(self) -> None:
        """The visit is over: know nobody any more, and let no turn begin."""
        self.discard()
        self.current = None
        self._make_turn = _no_more_turns
        self._accepts = self._barges_in = _never
        self._on_voice = _nothing

    def await_quiet(self) -> None:
        """Where speech interrupts, do not begin to speak while somebody does: wait for the end of it, which may well
        supersede the caller.

        Blocks at most `COURTESY_S`: what never ends is not somebody who wants to be heard."""
        if self._barges_in():
            self._quiet.wait(timeout=COURTESY_S)

    def forget_voice(self) -> None:
        """The ears were reset: they will not tell the end of what had begun."""
        self._quiet.set()

    # --- what the ears tell -----------------------------------------------------------------------------------------

    def speech_started(self) -> None:
        """Someone speaks; in realtime mode that silences us."""
        self._quiet.clear()
        self._on_voice()
        if self._barges_in() and self.speaking:
            self.interrupt("barge-in")

    def utterance_paused(self, utterance: Utterance) -> None:
        """Maybe finished: prepare an answer that nobody hears yet."""
        self.discard()
        if self.prepares and self._accepts():
            self._prepared = self._make_turn(Opening(utterance=utterance))
            self._prepared.start(prepared=True)

    def utterance_resumed(self) -> None:
        """Not finished after all."""
        self.discard()

    def utterance_ended(self, utterance: Utterance) -> None:
        """Finished: answer, with what was prepared if it was prepared for this."""
        self._quiet.set()
        log.debug("utterance", trace=utterance.trace, voiced_ms=round(utterance.voiced_ms))
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.utterance is utterance and not prepared.ended:
            self._take_over(prepared).release()
            return
        if prepared is not None:
            prepared.discard()
        if self._accepts():
            self._take_over(self._make_turn(Opening(utterance=utterance))).start(prepared=False)
        else:
            utterance.close()

    def utterance_dropped(self, reason: str) -> None:
        """Too short to be speech."""
        self._quiet.set()
        self.discard()
        log.debug("utterance dropped", reason=reason)

    def _take_over(self, turn: Turn) -> Turn:
        if self.current is not None:
            self.current.interrupt("superseded")
        self.current = turn
        return turn
