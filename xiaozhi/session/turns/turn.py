"""One answer, from a heard utterance (or a typed text) to the last word spoken. "The mind": one greenlet per answer.

    utterance ─► ASR ─┬─ released? ─► stt, tts start ─► Cascade (intent, LLM ⇄ tools) ─► Playback ─► tts stop
                      └─ prepared during a pause: waits here (`speculative: asr`), or goes on to the LLM and the first
                         sentence's sound (`speculative: llm`) without anything leaving the server before the release

Not a loop that lives as long as the visit, and not the owner of the history: a turn keeps its own script and hands it
over once, when it ends, so that a discarded speculation leaves no trace. Every released turn ends in exactly one
`Outcome`, whoever ends it: `conclude` is the single door. Two turns share nothing mutable; the old one may still unwind
while the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gevent.event import Event

from xiaozhi.errors import ConnectionClosed, Overloaded, TurnClosed, VendorError
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.runtime.logs import bind_context, get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.runtime.tracing import new_trace_id
from xiaozhi.session.listening.listener import Utterance
from xiaozhi.session.speaking.outbox import Outbox
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.speaking.voice import DeviceVoice
from xiaozhi.session.turn_record import Outcome, Speculation, Timeline, TurnRecord
from xiaozhi.session.turns.cascade import Cascade, CascadeParts
from xiaozhi.session.turns.dialogue import Exchange

log = get_logger(__name__)

# A prepared turn that nobody releases or discards is a fault of the listener; it must not wait for ever.
RELEASE_DEADLINE_S = 30.0
# How long playback may outlast the last frame that was queued.
PLAYBACK_SLACK_S = 30.0
# Shorter unintelligible sounds are noise, and noise is not answered.
UNHEARD_VOICED_MS = 600


@dataclass(frozen=True, slots=True)
class Opening:
    """What starts a turn: exactly one of `utterance`, `text` (typed), `fixed` (to be spoken as it is) or the extra
    prompt of its parts.

    With `fixed`, `text` is what the user said to bring it about, and `shown` is displayed without anybody having said
    it."""

    utterance: Utterance | None = None
    text: str = ""
    fixed: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class TurnHooks:
    """What a turn asks and tells its session; each returns at once unless it says otherwise."""

    refusal: Callable[[], str]
    """A text to speak instead of an answer, "" to go on. Raises Overloaded."""
    on_text: Callable[[str], bool]
    """Told what was said before it is answered; False when the session has dealt with it itself (an exit command)."""
    await_quiet: Callable[[], None]
    """Returns when nobody is being talked over: at once, or after a few seconds at most."""
    on_open: Callable[[], None]
    """The server begins to speak."""
    on_end: Callable[[Turn, TurnRecord], None]
    on_discard: Callable[[], None]
    """A prepared turn is thrown away."""


class Turn:
    """`start` once; then `release` or `discard` (prepared turns) and at most one `interrupt`."""

    def __init__(
        self,
        turn_id: int,
        opening: Opening,
        *,
        parts: CascadeParts,
        phrases: Phrases,
        speaker: DeviceVoice,
        outbox: Outbox,
        hooks: TurnHooks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = turn_id
        self.utterance = opening.utterance
        self.trace = opening.utterance.trace if opening.utterance is not None else new_trace_id()
        self.timeline = Timeline(voice_ended=opening.utterance.ended_at if opening.utterance else clock())
        self.record: TurnRecord | None = None
        self._opening = opening
        self._parts = parts
        self._options = parts.options
        self._phrases = phrases
        self._speaker = speaker
        self._outbox = outbox
        self._hooks = hooks
        self._text = opening.text
        self._clock = clock
        self._released = Event()
        self._audible = Event()
        self._ended = Event()
        self._tasks = Tasks()
        self._reply: Playback | None = None
        self._answer: Cascade | None = None
        self._exchange = Exchange()
        self._characters = 0
        self._to_play: list[Path] = []
        self._prepared = False
        self._announced = False
        self._discarded = False

    # --- called by the session ------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the turn has an outcome, or was discarded."""
        return self.record is not None or self._discarded

    @property
    def speaking(self) -> bool:
        """True between tts start and tts stop."""
        return self._audible.is_set() and not self.ended

    def start(self, *, prepared: bool) -> None:
        """Begin; a `prepared` turn stays invisible until `release`."""
        self._prepared = prepared
        if prepared:
            self.timeline.prepared = self._clock()
        else:
            self.release()
        self._tasks.spawn("turn", self._run)

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
            self._hooks.on_discard()
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
        """Give the turn its one outcome; later calls change nothing. One that was never released is discarded
        instead."""
        if self.ended:
            return
        if not self._released.is_set():
            self.discard()
            return
        self.timeline.ended = self._clock()
        self.record = TurnRecord(
            turn_id=self.id,
            outcome=outcome,
            timeline=self.timeline,
            speculative=self._prepared,
            reason=reason,
            failed_vendor=vendor,
            user_text=self._text,
            characters=self._characters,
            sentences=len(self._exchange.heard),
            tool_calls=self._answer.tool_calls if self._answer is not None else 0,
            script=self._exchange.remembered(whole=outcome is Outcome.ANSWERED),
            trace=self.trace,
        )
        if self._audible.is_set():
            # Everything has been played, or is not wanted any more: whatever still works for this turn must not be
            # heard after tts stop.
            self._outbox.shut_turn(self.id)
            self._outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))
        if self.utterance is not None:
            self.utterance.close()
        self._hooks.on_end(self, self.record)
        self._ended.set()

    # --- the turn's greenlet --------------------------------------------------------------------------------------

    def _run(self) -> None:
        # All of it: a goodbye after silence is begun by the sweeper, whose lines bear no device.
        context = self._parts.context
        bind_context(session=context.session_id[:8], device=context.device_id, turn=self.id, trace=self.trace)
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
            # Both know this turn by its methods; a turn is freed by reference count, not by a collection that stops the
            # hub.
            self._reply = self._answer = None

    def _converse(self) -> Outcome:
        opening = self._opening
        if opening.fixed:
            self._exchange = Exchange(self._text)
            self._exchange.answered(opening.fixed)
            self._open()
            self._speak_only(opening.fixed)
            return Outcome.ANSWERED
        if self.utterance is not None:
            self._text = self.utterance.transcribe().text.strip()
            self.timeline.heard = self._clock()
            log.debug("heard", text=self._text)
        if not self._text and not self._parts.extra_prompt:
            return self._unheard()
        if self._options.speculative is not Speculation.LLM:
            self._await_release()
        refused = self._hooks.refusal()
        if refused:
            self._go()
            self._speak_only(refused)
            return Outcome.ANSWERED
        if self._released.is_set():
            self._go()
        else:
            # Prepared up to the first sentence's sound: stt and tts start go out at the release, ahead of that sound.
            self._tasks.spawn("turn-release", self._go_at_release)
        self._exchange = Exchange(self._text)
        self._answer = self._answer_with(self._new_reply(self._parts.providers.tts))
        self._answer.answer(self._text)
        self._go()
        self._finish_speaking()
        return Outcome.ANSWERED

    def _unheard(self) -> Outcome:
        self._await_release()
        unheard = self._parts.providers.asr.traits.unheard_reply
        if not unheard or self.utterance is None or self.utterance.voiced_ms < UNHEARD_VOICED_MS:
            return Outcome.UNHEARD
        self._open()
        self._speak_only(unheard)
        return Outcome.UNHEARD

    def _await_release(self) -> None:
        if not self._released.wait(timeout=RELEASE_DEADLINE_S):
            raise TurnClosed("never released")

    def _go(self) -> None:
        """Wait for the release, then stt and tts start, once. Raises TurnClosed when the session has dealt with the
        text itself."""
        self._await_release()
        self._hooks.await_quiet()
        if not self._announced:
            self._announced = True
            if self._hooks.on_text(self._text):
                self._open()
            else:
                self.conclude(Outcome.ANSWERED)
        if self.ended:
            raise TurnClosed("nothing more to say")

    def _go_at_release(self) -> None:
        try:
            self._go()
        except TurnClosed:
            self._stop()

    def _open(self) -> None:
        self._hooks.on_open()
        self._outbox.open_turn(self.id)
        shown = self._text or self._opening.shown
        if shown:
            self._outbox.message(self.id, wire.Stt(shown))
        self._outbox.message(self.id, wire.TtsState(wire.TtsPhase.START))
        # Only now: sound that waits for this must find the turn open, and its start in front of it.
        self._audible.set()

    def _new_reply(self, voice: Tts, *, remember: bool = True) -> Playback:
        if self._reply is not None:
            self._reply.close()
        self._reply = Playback(
            self._speaker,
            turn_id=self.id,
            tts=voice,
            context=self._parts.context,
            audible=self._audible,
            tasks=self._tasks,
            timeline=self.timeline,
            on_heard=self._heard if remember else self._count,
            stall_seconds=self._options.tts_stall,
            emotes=self._options.emotes,
        )
        return self._reply

    def _answer_with(self, reply: Playback) -> Cascade:
        return Cascade(self._parts, reply, self.timeline, self._exchange, self._go, self._clock)

    def _heard(self, sentence: str) -> None:
        self._exchange.sentence_heard(sentence)
        self._count(sentence)

    def _count(self, sentence: str) -> None:
        self._characters += len(sentence)

    def _speak_only(self, text: str) -> None:
        """Speak a ready text as the whole reply."""
        self._answer_with(self._new_reply(self._phrases.fixed)).speak(text)
        self._finish_speaking()

    def _finish_speaking(self) -> None:
        if self._reply is not None:
            self._reply.finish()
            for path in self._to_play:
                self._reply.play(path)
            if self._options.chime:
                self._reply.chime()
        self._outbox.finish(self.id, PLAYBACK_SLACK_S)

    # --- when something failed --------------------------------------------------------------------------------------

    def _apologise(self) -> None:
        """Say sorry in whatever voice still works; raises nothing but a kill."""
        if self.ended or not self._options.apology or self._parts.extra_prompt:
            return  # nobody has asked for what an extra prompt would have said, such as a goodbye
        try:
            if not self._audible.is_set():
                self._go()
            self._to_play.clear()
            voice_works = self._say_the_rest()
            # An apology is no answer: it is heard, and counted, but a language model that read it would go on
            # apologising.
            voice = self._phrases.apology(voice_failed=not voice_works)
            self._answer_with(self._new_reply(voice, remember=False)).speak(self._options.apology)
            self._finish_speaking()
        except (VendorError, Overloaded) as error:
            log.warning("apology failed", error=str(error)[:200])
            self._subtitle(self._options.apology)
        except (TurnClosed, ConnectionClosed):
            return
        except Exception:
            log.exception("apology failed")

    def _say_the_rest(self) -> bool:
        """Let whole sentences that came before the failure be heard; False when it is the voice that fails."""
        reply = self._reply
        if reply is None:
            return True
        if reply.error is None:
            try:
                reply.finish()
            except (VendorError, Overloaded):
                return False
        return reply.error is None

    def _subtitle(self, text: str) -> None:
        """No voice at all: at least show it."""
        try:
            self._outbox.message(self.id, wire.TtsState(wire.TtsPhase.SENTENCE_START, text))
            self._outbox.finish(self.id, PLAYBACK_SLACK_S)
        except (TurnClosed, ConnectionClosed):
            return

    def _stop(self) -> None:
        if self._reply is not None:
            self._reply.close()
        self._tasks.kill(timeout=0)
