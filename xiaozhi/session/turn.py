"""One answer, from a heard utterance (or a typed text) to the last word spoken. "The mind": one greenlet per answer.

    utterance ─► ASR ─┬─ released? ─► stt, tts start ─► Answer (intent, LLM ⇄ tools) ─► Reply ─► tts stop
                      └─ prepared during a pause: waits here (`speculative: asr`), or goes on to the LLM and the first
                         sentence's sound (`speculative: llm`) without anything leaving the server before the release

Not a loop that lives as long as the visit, and not the owner of the history: a turn keeps its own script and hands it over once, when it
ends, so that a discarded speculation leaves no trace. Every released turn ends in exactly one `Outcome`, whoever ends it: `conclude` is
the single door. Two turns share nothing mutable; the old one may still unwind while the next begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gevent.event import Event

from xiaozhi.errors import ConnectionClosed, Overloaded, TurnClosed, VendorError
from xiaozhi.protocol import messages as wire
from xiaozhi.runtime.logs import bind_context, get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.answer import Answer, AnswerParts
from xiaozhi.session.dialogue import Exchange
from xiaozhi.session.listener import Utterance
from xiaozhi.session.outbox import Outbox
from xiaozhi.session.record import Outcome, Speculation, Timeline, TurnRecord
from xiaozhi.session.speaker import Reply, Speaker

log = get_logger(__name__)

# A prepared turn that nobody releases or discards is a fault of the listener; it must not wait for ever.
RELEASE_DEADLINE_S = 30.0
# How long playback may outlast the last frame that was queued.
PLAYBACK_SLACK_S = 30.0
# Shorter unintelligible sounds are noise, and noise is not answered.
UNHEARD_VOICED_MS = 600


@dataclass(frozen=True, slots=True)
class TurnHooks:
    """What a turn asks and tells its session; each returns at once."""

    refusal: Callable[[], str]
    """A text to speak instead of an answer, "" to go on. Raises Overloaded."""
    on_text: Callable[[str], bool]
    """Told what was said before it is answered; False when the session has dealt with it itself (an exit command)."""
    on_end: Callable[[Turn, TurnRecord], None]


class Turn:
    """`start` once; then `release` or `discard` (prepared turns) and at most one `interrupt`.

    What starts it is exactly one of `utterance`, `text` (typed), `fixed` (a text to be spoken as it is; `text` is then only shown) or the
    extra prompt among `parts`."""

    def __init__(
        self,
        turn_id: int,
        *,
        parts: AnswerParts,
        speaker: Speaker,
        outbox: Outbox,
        hooks: TurnHooks,
        utterance: Utterance | None = None,
        text: str = "",
        fixed: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = turn_id
        self.utterance = utterance
        self.timeline = Timeline(voice_ended=utterance.ended_at if utterance else clock())
        self.record: TurnRecord | None = None
        self._parts = parts
        self._options = parts.options
        self._speaker = speaker
        self._outbox = outbox
        self._hooks = hooks
        self._text = text
        self._fixed = fixed
        self._clock = clock
        self._released = Event()
        self._ended = Event()
        self._tasks = Tasks()
        self._reply: Reply | None = None
        self._answer: Answer | None = None
        self._exchange = Exchange()
        self._to_play: list[Path] = []
        self._prepared = False
        self._opened = False
        self._discarded = False

    # --- called by the session ------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the turn has an outcome, or was discarded."""
        return self.record is not None or self._discarded

    @property
    def speaking(self) -> bool:
        """True between tts start and tts stop."""
        return self._opened and not self.ended

    def start(self, *, prepared: bool) -> None:
        """Begin; a `prepared` turn stays invisible until `release`."""
        self._prepared = prepared
        if prepared:
            self.timeline.prepared = self._clock()
        else:
            self.release()
        self._tasks.spawn(f"turn-{self.id}", self._run)

    def release(self) -> None:
        """The user has finished: what was prepared may be heard."""
        if self.ended or self._released.is_set():
            return
        self.timeline.released = self._clock()
        if self.utterance is not None:
            self.timeline.voice_ended = self.utterance.ended_at
        self._released.set()

    def discard(self) -> None:
        """The user went on speaking: forget the prepared turn without a trace."""
        if not self.ended and not self._released.is_set():
            self._discarded = True
            self._ended.set()
            self._stop()

    def interrupt(self, reason: str) -> bool:
        """Shut the gate now, then stop the work; True if there was something to interrupt."""
        if self.ended:
            return False
        self._outbox.shut_turn(self.id)
        self.conclude(Outcome.INTERRUPTED, reason=reason)
        self._stop()
        return True

    def play(self, path: Path) -> None:
        """Play a sound file after the words of this answer."""
        self._to_play.append(path)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; True when it has come."""
        return bool(self._ended.wait(timeout=seconds))

    def conclude(self, outcome: Outcome, *, reason: str = "", vendor: str = "") -> None:
        """Give the turn its one outcome; later calls change nothing."""
        if self.ended:
            return
        timeline = self.timeline
        timeline.ended = self._clock()
        self._collect()
        self.record = TurnRecord(
            turn_id=self.id,
            outcome=outcome,
            timeline=timeline,
            speculative=self._prepared,
            reason=reason,
            failed_vendor=vendor,
            user_text=self._text,
            characters=sum(map(len, self._exchange.heard)),
            sentences=len(self._exchange.heard),
            tool_calls=self._answer.tool_calls if self._answer is not None else 0,
            script=self._exchange.remembered(whole=outcome is Outcome.ANSWERED),
        )
        if self._opened:
            self._outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))
        if self.utterance is not None:
            self.utterance.close()
        self._hooks.on_end(self, self.record)
        self._ended.set()

    # --- the turn's greenlet --------------------------------------------------------------------------------------

    def _run(self) -> None:
        bind_context(turn=self.id)
        try:
            try:
                self.conclude(self._converse())
            except (TurnClosed, ConnectionClosed) as error:
                self.conclude(Outcome.INTERRUPTED, reason=str(error))
            except Overloaded as error:
                self._apologise()
                self.conclude(Outcome.OVERLOADED, reason=error.what)
            except VendorError as error:
                log.warning("vendor failed the turn", vendor=error.vendor, error=str(error)[:200])
                self._apologise()
                self.conclude(Outcome.FAILED, reason=type(error).__name__, vendor=error.vendor)
            except Exception as error:
                log.exception("turn failed")
                self._apologise()
                self.conclude(Outcome.FAILED, reason=type(error).__name__)
        finally:
            # Reached by a kill as well; a turn that was killed from outside is an interrupted one.
            if self._released.is_set():
                self.conclude(Outcome.INTERRUPTED, reason="killed")
            if self._reply is not None:
                self._reply.close()

    def _converse(self) -> Outcome:
        if self._fixed:
            self._say_fixed()
            return Outcome.ANSWERED
        if self.utterance is not None:
            self._text = self.utterance.transcribe().text.strip()
            self.timeline.heard = self._clock()
        if not self._text and not self._parts.extra_prompt:
            return self._unheard()
        if self._options.speculative is not Speculation.LLM:
            self._await_release()
        refused = self._hooks.refusal()
        if refused:
            self._await_release()
            if self._announce():
                self._speak_only(refused)
            return Outcome.ANSWERED
        if self._released.is_set():
            if not self._announce():
                return Outcome.ANSWERED
        else:
            # Prepared up to the first sentence's sound: stt and tts start go out at the release, ahead of that sound.
            self._tasks.spawn(f"turn-{self.id}-release", self._announce_at_release)
        self._exchange = Exchange(self._text)
        self._answer = Answer(self._parts, self._new_reply(), self.timeline, self._exchange, self._await_release, self._clock)
        self._answer.answer(self._text)
        self._await_release()
        self._finish_speaking()
        return Outcome.ANSWERED

    def _say_fixed(self) -> None:
        self._exchange = Exchange(self._text)
        self._exchange.answered(self._fixed)
        self._open()
        self._speak_only(self._fixed)

    def _unheard(self) -> Outcome:
        self._await_release()
        unheard = self._parts.providers.asr.unheard_reply
        if not unheard or self.utterance is None or self.utterance.voiced_ms < UNHEARD_VOICED_MS:
            return Outcome.UNHEARD
        self._open()
        self._speak_only(unheard)
        return Outcome.UNHEARD

    def _await_release(self) -> None:
        if not self._released.wait(timeout=RELEASE_DEADLINE_S):
            raise TurnClosed("never released")

    def _announce_at_release(self) -> None:
        self._await_release()
        if not self._announce():
            self._outbox.shut_turn(self.id)
            self.conclude(Outcome.ANSWERED)
            self._stop()

    def _announce(self) -> bool:
        """stt and tts start; False when the session has dealt with the text itself."""
        if not self._hooks.on_text(self._text):
            return False
        self._open()
        return True

    def _open(self) -> None:
        self._outbox.open_turn(self.id)
        if self._text:
            self._outbox.message(self.id, wire.Stt(self._text))
        self._outbox.message(self.id, wire.TtsState(wire.TtsPhase.START))
        self._opened = True

    def _new_reply(self) -> Reply:
        self._collect()
        if self._reply is not None:
            self._reply.close()
        self._reply = Reply(
            self._speaker,
            turn_id=self.id,
            tts=self._parts.providers.tts,
            context=self._parts.context,
            released=self._released,
            tasks=self._tasks,
            stall_seconds=self._options.tts_stall,
            emotes=self._options.emotes,
        )
        return self._reply

    def _speak_only(self, text: str) -> None:
        """Speak a ready text as the whole reply."""
        Answer(self._parts, self._new_reply(), self.timeline, self._exchange, self._await_release, self._clock).speak(text)
        self._finish_speaking()

    def _finish_speaking(self) -> None:
        if self._reply is not None:
            self._reply.finish()
            for path in self._to_play:
                self._reply.play(path)
            if self._options.chime:
                self._reply.chime()
        self._outbox.finish(self.id, PLAYBACK_SLACK_S)

    def _apologise(self) -> None:
        """Say sorry in whatever voice still works; raises nothing but a kill."""
        if self.ended:
            return
        try:
            self._await_release()
            if not self._opened:
                if not self._hooks.on_text(self._text):
                    return
                self._open()
            if self._options.apology:
                self._speak_only(self._options.apology)
        except (VendorError, Overloaded) as error:
            log.warning("apology failed", error=str(error)[:200])
            self._subtitle(self._options.apology)
        except (TurnClosed, ConnectionClosed):
            return
        except Exception:
            log.exception("apology failed")

    def _subtitle(self, text: str) -> None:
        """No voice at all: at least show it."""
        try:
            self._outbox.message(self.id, wire.TtsState(wire.TtsPhase.SENTENCE_START, text))
            self._outbox.finish(self.id, PLAYBACK_SLACK_S)
        except (TurnClosed, ConnectionClosed):
            return

    def _collect(self) -> None:
        """Take over what the current reply knows: when it was first heard, and which sentences."""
        reply = self._reply
        if reply is None:
            return
        if self.timeline.tts_first is None:
            self.timeline.tts_first = reply.first_sound_at
        if self.timeline.first_frame is None:
            self.timeline.first_frame = reply.first_frame_at
        for sentence in reply.heard:
            self._exchange.sentence_heard(sentence)
        reply.heard = []

    def _stop(self) -> None:
        if self._reply is not None:
            self._reply.close()
        self._tasks.kill(timeout=0)
