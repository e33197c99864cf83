"""One turn: the life of one answer, from what opens it to the last word played. One greenlet per turn.

    start ─► PREPARED ─► RELEASED ─► AUDIBLE ─► ENDED      release: the user has finished; audible: tts start was sent
                 │           └──────────────────► ENDED    nothing to say, failed or interrupted before it was heard
                 └─► DISCARDED                             the user went on speaking: no record, no trace

What is said is made by a `Pipeline`; the turn lets it know when it may be heard (`TurnControl`), speaks the fixed texts
(greeting, refusal, apology) itself, and ends in exactly one `Outcome`, whoever ends it. A prepared turn may run up to
the first sentence's sound without anything leaving the server.

Not a loop that lives as long as the session, and not the owner of the history: a turn keeps its own exchange and hands
it over once, when it ends. Two turns share nothing mutable; the old one may still unwind while the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gevent.event import Event

from xiaozhi.chat import CallContext
from xiaozhi.errors import ConnectionClosed, Overloaded, TurnClosed, VendorError, forget_trace
from xiaozhi.history.entries import KeptSound
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.runtime.logs import bind_context, get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.runtime.tracing import new_trace_id
from xiaozhi.session.listening.utterance import Utterance
from xiaozhi.session.speaking.outbox import Outbox
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.speaking.voice import DeviceVoice
from xiaozhi.session.turn_record import Outcome, Timeline, TurnOptions, TurnRecord
from xiaozhi.session.turns.dialogue import Exchange
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.pipeline import OutputLimit, Pipeline
from xiaozhi.session.turns.spoken_text import SpokenText
from xiaozhi.session.turns.turn_state import NEXT, OVER, TurnState
from xiaozhi.settings.fields import text_in
from xiaozhi.speech.language import spoken_language
from xiaozhi.speech.sentences import Sentence
from xiaozhi.tools.music import Track

log = get_logger(__name__)

RELEASE_DEADLINE_S: Final = 30.0
"""A prepared turn that nobody releases or discards is a fault of the listener; it must not wait for ever."""
PLAYBACK_SLACK_S: Final = 30.0
"""How long playing may outlast the last frame that was queued."""


@dataclass(frozen=True, slots=True)
class TurnHooks:
    """What a turn asks and tells its session; each returns at once unless it says otherwise."""

    output_limit: Callable[[str], OutputLimit | None]
    """language -> how much the device may still be told; None: no limit. Raises Overloaded."""
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
    """`start` once; then `release` or `discard` (prepared turns) and at most one `interrupt`. Is a `TurnControl` for
    its pipeline. `release_deadline`: seconds a prepared turn waits for its release."""

    def __init__(
        self,
        turn_id: int,
        opening: Opening,
        *,
        pipeline: Pipeline,
        context: CallContext,
        options: TurnOptions,
        phrases: Phrases,
        speaker: DeviceVoice,
        outbox: Outbox,
        hooks: TurnHooks,
        clock: Callable[[], float] = time.monotonic,
        release_deadline: float = RELEASE_DEADLINE_S,
    ) -> None:
        utterance = opening.utterance
        self.id = turn_id
        self.opening = opening
        self.utterance = utterance
        self.context = context
        self.options = options
        self.clock = clock
        self.state = TurnState.PREPARED
        self.trace = utterance.trace if utterance is not None else new_trace_id()
        self.timeline = Timeline(voice_ended=utterance.ended_at if utterance is not None else clock())
        self.exchange = Exchange()
        self.record: TurnRecord | None = None
        self.tracks: list[Track] = []
        """What is played behind the words."""
        self._pipeline: Pipeline | None = pipeline
        self._phrases = phrases
        self._speaker = speaker
        self._outbox = outbox
        self._hooks = hooks
        self._release_deadline = release_deadline
        self._text = opening.text
        self._characters = 0
        self._spoken: list[str] = []
        keeps_voices = options.keeps_answers and speaker.voice.format == "opus"
        self._voices: list[list[bytes]] | None = [] if keeps_voices else None
        self._tasks = Tasks()
        self._playback: Playback | None = None
        self._awaited: dict[TurnState, Event] = {}
        """What wakes those who wait for a state; made when somebody does."""

    # --- called by turn-taking and the session ------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the turn has an outcome, or was discarded."""
        return self.state in OVER

    @property
    def speaking(self) -> bool:
        """True between tts start and tts stop."""
        return self.state is TurnState.AUDIBLE

    def start(self, *, prepared: bool) -> None:
        """Begin; a `prepared` turn stays invisible until `release`."""
        if prepared:
            self.timeline.prepared = self.clock()
        else:
            self.release()
        self._tasks.spawn("turn", self._run)

    def release(self) -> None:
        """The user has finished: what was prepared may be heard. Without effect later."""
        if self.state is not TurnState.PREPARED:
            return
        self.timeline.released = self.clock()
        if self.utterance is not None:
            self._note_ending(self.utterance)
        self._move(TurnState.RELEASED)
        if self._playback is not None:
            # Prepared up to the first sentence's sound: stt and tts start go out now, ahead of that sound.
            self._tasks.spawn("turn-open", self._open_aside)

    def _note_ending(self, utterance: Utterance) -> None:
        timeline, ending = self.timeline, utterance.ending
        timeline.voice_ended = utterance.ended_at
        if ending is not None:
            timeline.quiet, timeline.silent, timeline.arrived = ending.quiet_at, ending.silent_at, ending.arrived_at

    def discard(self) -> None:
        """The user went on speaking: forget the prepared turn without a trace. Without effect after the release."""
        if self.state is not TurnState.PREPARED:
            return
        self._move(TurnState.DISCARDED)
        self._hooks.on_discard()
        self._stop()

    def interrupt(self, reason: str) -> bool:
        """Shut the gate now, then stop the work; True if there was something to interrupt."""
        if self.ended:
            return False
        self._outbox.shut_turn(self.id)
        self._conclude(Outcome.INTERRUPTED, reason=reason)
        self._stop()
        return True

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; True when it has come."""
        return self.ended or bool(self._event(TurnState.ENDED).wait(timeout=seconds))

    # --- called by the pipeline (TurnControl) -------------------------------------------------------------------------

    @property
    def language(self) -> str:
        """See `TurnControl`."""
        options = self.options
        return options.language or spoken_language(self._text) or self.context.language or options.home_language

    def heard(self, text: str) -> None:
        """See `TurnControl`."""
        self._text = text
        self.timeline.heard = self.clock()
        log.debug("heard", text=text)

    def wait_release(self) -> None:
        """See `TurnControl`."""
        waits = self.state is TurnState.PREPARED
        if waits and not self._event(TurnState.RELEASED).wait(timeout=self._release_deadline):
            raise TurnClosed("never released")

    def open(self) -> None:
        """See `TurnControl`."""
        self.wait_release()
        self._hooks.await_quiet()
        if self.state is TurnState.RELEASED:
            if self._hooks.on_text(self._text):
                self._become_audible()
            else:
                self._conclude(Outcome.ANSWERED)
        if self.ended:
            raise TurnClosed("nothing more to say")

    def output_limit(self) -> OutputLimit | None:
        """See `TurnControl`."""
        return self._hooks.output_limit(self.language)

    def open_playback(self, voice: Tts) -> Playback:
        """See `TurnControl`."""
        if self.state is not TurnState.PREPARED:
            self.open()
        return self._new_playback(voice)

    def take_back(self, voice: Tts, heard: int) -> Playback:
        """See `TurnControl`."""
        playback = self._new_playback(voice)
        self._outbox.take_back(self.id)
        self.exchange.forget_heard(heard)
        del self._spoken[heard:], (self._voices or [])[heard:]
        return playback

    def speak_fixed(self, text: str) -> None:
        """See `TurnControl`."""
        self.open()
        self._speak(text, self._phrases.fixed)

    def show_call(self, tool: str) -> None:
        """See `TurnControl`."""
        if self.options.show_tool_calls and not self.ended:
            # Aside: behind words that still wait for their time, which the tool does not have to.
            self._tasks.spawn("turn-show-call", self._show_aside, wire.Stt(f"% {tool}"))

    def play(self, track: Track) -> None:
        """See `TurnControl`; called by tools."""
        self.tracks.append(track)

    # --- the state ----------------------------------------------------------------------------------------------------

    def _move(self, state: TurnState) -> None:
        """The one place where the state changes."""
        assert state in NEXT[self.state], f"turn {self.id}: from {self.state.value} to {state.value}"
        self.state = state
        awaited = self._awaited.get(TurnState.ENDED if state is TurnState.DISCARDED else state)
        if awaited is not None:
            awaited.set()

    def _event(self, state: TurnState) -> Event:
        """Set when `state` is reached (ENDED: or the turn is discarded); to be asked for before that, or in it."""
        event = self._awaited.get(state)
        if event is None:
            event = self._awaited[state] = Event()
            if self.state is state:
                event.set()
        return event

    def _become_audible(self) -> None:
        """Tell the device that an answer comes."""
        self._hooks.on_open()
        self._outbox.open_turn(self.id)
        shown = self._text or self.opening.shown
        if shown:
            self._outbox.message(self.id, wire.Stt(shown))
        self._outbox.message(self.id, wire.TtsState(wire.TtsPhase.START))
        # Only now: sound that waits for this must find the turn open, and its start in front of it.
        self._move(TurnState.AUDIBLE)

    def _conclude(self, outcome: Outcome, *, reason: str = "", vendor: str = "", told: str = "") -> None:
        """Give the turn its one outcome; later calls change nothing. One that was never released is discarded
        instead. `told`: what may be said of a failure to whoever tries the server."""
        if self.ended:
            return
        if self.state is TurnState.PREPARED:
            self.discard()
            return
        was_audible = self.speaking
        self.timeline.ended = self.clock()
        played_ms = self._outbox.played_ms(self.id) if self.tracks else 0.0
        for track in self.tracks:
            track.settle(played_ms)
        self.record = TurnRecord(
            turn_id=self.id,
            outcome=outcome,
            timeline=self.timeline,
            speculative=self.timeline.prepared is not None,
            announcement=self.opening.announcement is not None,
            reason=reason,
            failed_vendor=vendor,
            user_text=self._text,
            speaker=self.exchange.speaker,
            characters=self._characters,
            sentences=len(self.exchange.heard),
            tool_calls=self.exchange.tool_calls,
            script=self.exchange.remembered(whole=outcome is Outcome.ANSWERED),
            spoken=tuple(self._spoken),
            tools=self.exchange.tools,
            sound=self._sound_to_keep(),
            voices=tuple(KeptSound(tuple(frames)) for frames in self._voices or ()),
            trace=self.trace,
        )
        self._move(TurnState.ENDED)
        if was_audible:
            # Everything has been played, or is not wanted any more: whatever still works for this turn must not be
            # heard after tts stop.
            self._outbox.shut_turn(self.id)
            if not self._outbox.line_open:
                self._outbox.urgent(wire.TtsState(wire.TtsPhase.STOP, failure=told))
        if self.utterance is not None:
            self.utterance.close()
        if self.opening.announcement is not None:
            self.opening.announcement.ended(self.record)
        self._hooks.on_end(self, self.record)

    def _sound_to_keep(self) -> bytes | KeptSound:
        utterance = self.utterance
        if utterance is None or not self.options.keeps_sound:
            return b""
        return KeptSound(utterance.packets) if utterance.packets else utterance.pcm

    def _stop(self) -> None:
        """End whatever still works for this turn."""
        if self._playback is not None:
            self._playback.close()
        self._tasks.kill(timeout=0)

    # --- the turn's greenlet ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._bind_context()
        try:
            try:
                self._conclude(self._answer())
            except Exception as error:  # noqa: BLE001  `_fail` logs it
                self._fail(error)
                forget_trace(error)
        finally:
            # Reached by a kill as well; a turn that was killed from outside is an interrupted one.
            if self.state is not TurnState.PREPARED:
                self._conclude(Outcome.INTERRUPTED, reason="killed")
            self._stop()
            # Both may know this turn by its methods; a turn is freed by reference count, not by a collection that stops
            # the hub.
            self._playback = self._pipeline = None

    def _fail(self, error: Exception) -> None:
        match error:
            case TurnClosed() | ConnectionClosed():
                self._conclude(Outcome.INTERRUPTED, reason=str(error))
            case Overloaded():
                self._apologise()
                self._conclude(Outcome.OVERLOADED, reason=error.what, told=str(error))
            case VendorError():
                log.warning("vendor failed the turn", vendor=error.vendor, error=str(error)[:200])
                self._apologise()
                told = f"{error.vendor}: {error.remedy or type(error).__name__}"
                self._conclude(Outcome.FAILED, reason=type(error).__name__, vendor=error.vendor, told=told)
            case _:
                log.exception("turn failed")
                self._apologise()
                told = "an error of the server; its log has the traceback"
                self._conclude(Outcome.FAILED, reason=type(error).__name__, told=told)

    def _answer(self) -> Outcome:
        """Say it and play it to its end."""
        opening = self.opening
        if opening.fixed:
            self.exchange.asked(self._text)
            self.exchange.answered(opening.fixed)
            self._become_audible()
            self._speak(opening.fixed, self._phrases.fixed)
            outcome = Outcome.ANSWERED
        else:
            assert self._pipeline is not None
            outcome = self._pipeline.run(self)
        if self._playback is not None:
            self.open()
            self._finish(self._playback, self.tracks)
        return outcome

    def _open_aside(self) -> None:
        self._bind_context()
        try:
            self.open()
        except TurnClosed:
            self._stop()

    def _show_aside(self, message: wire.Stt) -> None:
        try:
            self._outbox.message(self.id, message)
        except TurnClosed:
            return

    def _bind_context(self) -> None:
        # All of it: a goodbye after silence is begun by the sweeper, whose lines bear no device.
        context = self.context
        bind_context(session=context.session_id[:8], device=context.device_id, turn=self.id, trace=self.trace)

    # --- speaking -----------------------------------------------------------------------------------------------------

    def _new_playback(self, voice: Tts, *, remember: bool = True) -> Playback:
        if self._playback is not None:
            self._playback.close()
        self._playback = Playback(
            self._speaker,
            turn_id=self.id,
            tts=voice,
            context=self.context,
            audible=self._event(TurnState.AUDIBLE),
            tasks=self._tasks,
            timeline=self.timeline,
            on_heard=self._sentence_heard if remember else self._sentence_counted,
            voices=self._voices,
            stall_seconds=self.options.tts_stall,
            emotes=self.options.emotes,
        )
        return self._playback

    def _speak(self, text: str, voice: Tts, *, remember: bool = True) -> None:
        spoken = SpokenText(
            self._new_playback(voice, remember=remember), self.timeline, self.options.correct_words, self.clock
        )
        spoken.write(text)
        spoken.end()

    def _finish(self, playback: Playback, tracks: Sequence[Track] = ()) -> None:
        """Wait until what was said, and what is to be played behind it, has been heard."""
        playback.finish()
        playback.play_all(tracks)
        if self.options.chime:
            playback.chime()
        self._outbox.finish(self.id, PLAYBACK_SLACK_S)

    def _sentence_heard(self, sentence: str) -> None:
        self.exchange.sentence_heard(sentence)
        self._sentence_counted(sentence)

    def _sentence_counted(self, sentence: str) -> None:
        self._characters += len(sentence)
        self._spoken.append(sentence)

    # --- when something failed ----------------------------------------------------------------------------------------

    def _apologise(self) -> None:
        """Say sorry in whatever voice still works; raises nothing but a kill."""
        apology = text_in(self.options.apology, self.language)
        if self.ended or not apology or not self._was_asked:
            return
        try:
            self.open()
            voice_works = self._say_the_rest()
            # An apology is no answer: it is heard, and counted, but a language model that read it would go on
            # apologising.
            self._speak(apology, self._phrases.apology(voice_failed=not voice_works), remember=False)
            assert self._playback is not None
            self._finish(self._playback)
        except (VendorError, Overloaded) as error:
            log.warning("apology failed", error=str(error)[:200])
            self._show(apology)
            forget_trace(error)
        except (TurnClosed, ConnectionClosed):
            return
        except Exception as error:
            log.exception("apology failed")
            forget_trace(error)

    @property
    def _was_asked(self) -> bool:
        """Whether somebody waits for an answer; nobody does for a goodbye or an alarm."""
        return not self.opening.instruction and self.opening.announcement is None

    def _say_the_rest(self) -> bool:
        """Let whole sentences that came before the failure be heard; False when it is the voice that fails."""
        playback = self._playback
        if playback is None:
            return True
        if playback.error is None:
            try:
                playback.finish()
            except (VendorError, Overloaded) as error:
                forget_trace(error)
                return False
        return playback.error is None

    def _show(self, text: str) -> None:
        """No voice at all: at least show it."""
        try:
            shown = Sentence(text, "").subtitle
            self._outbox.message(self.id, wire.TtsState(wire.TtsPhase.SENTENCE_START, shown))
            self._outbox.finish(self.id, PLAYBACK_SLACK_S)
        except (TurnClosed, ConnectionClosed):
            return
