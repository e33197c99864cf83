"""The cascade: an answer made in steps by separate providers, spoken while it comes.

    utterance ─► ASR ─► text ─► intent ─┬─► ready reply, or tools without a model
                                        └─► answer cache, else LLM ⇄ tools ─► sentences ─► playback

One `Pipeline` among others. It knows neither when it may be heard nor how the turn ends. With `speculative: asr` it
recognises during a pause and waits for the release before the language model is asked; with `llm` it goes on to the
first sentence's sound. Tools always wait for the release, because they have effects, and so does a vendor that keeps
the dialogue itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, Final

import gevent

from xiaozhi.chat import UNKNOWN_SPEAKER, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorGarbage, VendorTimeout
from xiaozhi.providers.contracts.llm import Retraction
from xiaozhi.session.listening.utterance import Utterance
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.turn_record import CallTimes, Outcome, Speculation
from xiaozhi.session.turns.dialogue import join_sentences
from xiaozhi.session.turns.pipeline import Briefing, OutputLimit, PipelineParts, TurnControl
from xiaozhi.session.turns.spoken_text import Allowance, AllowanceSpent, SpokenText
from xiaozhi.session.turns.tool_filler import meanwhile
from xiaozhi.session.turns.voices import NOBODY_ASKED
from xiaozhi.settings.fields import text_in
from xiaozhi.speech.transcripts import WEAK_VOICED_MS, heard
from xiaozhi.speech.voice_likeness import VoiceSample
from xiaozhi.tools.base import Action, AskedQuestion, ToolOutcome

FAILURES: Final = (Action.ERROR, Action.NOT_FOUND)
FAILED: Final = "error: "
"""How the result of a failed call begins."""
UNHEARD_VOICED_MS: Final = 600
"""Shorter unintelligible sounds are noise, and noise is not answered."""
_MIN_WAIT_S: Final = 0.01


class Cascade:
    """See the module. A `Pipeline`."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts

    def run(self, turn: TurnControl) -> Outcome:
        """See `Pipeline`."""
        opening = turn.opening
        text, speaker, voice = opening.text, "", None
        if opening.utterance is not None:
            text, speaker, voice = self._listen(turn, opening.utterance)
        if not text and not opening.instruction:
            return self._unheard(turn)
        if turn.options.speculative is not Speculation.LLM or self._parts.providers.llm.traits.keeps_dialogue:
            turn.wait_release()
        limit = turn.output_limit()
        if limit is not None and limit.characters <= 0:
            turn.speak_fixed(limit.words)
        else:
            playback = turn.open_playback(self._parts.providers.tts)
            told = self._parts.voices.told(text, speaker) if self._parts.voices is not None else text
            turn.exchange.asked(told, speaker)
            if opening.late is not None:
                call, outcome, ms = opening.late
                turn.exchange.calling("", [call])
                turn.exchange.call_ended(0, _told(outcome), failed=outcome.action in FAILURES, ms=ms)
            _Answer(self._parts, turn, playback, limit, voice).give(text)
        return Outcome.ANSWERED

    def _listen(self, turn: TurnControl, utterance: Utterance) -> tuple[str, str, VoiceSample | None]:
        """What was said, by whom ("": nobody tells speakers apart), and what the voice can be remembered by."""
        voices = self._parts.voices
        with voices.listening(utterance) if voices is not None else nullcontext(NOBODY_ASKED) as voice:
            transcript = utterance.transcribe()
            # What a recogniser makes of silence, noise or music is nothing that was said.
            text = heard(transcript.text, weak=utterance.voiced_ms < WEAK_VOICED_MS)
            turn.heard(text)
            name = voice.name(turn.language) if text else ""
            return text, name, voice.sample

    def _unheard(self, turn: TurnControl) -> Outcome:
        turn.wait_release()
        utterance, reply = turn.opening.utterance, self._parts.providers.asr.traits.unheard_reply
        if reply and utterance is not None and utterance.voiced_ms >= UNHEARD_VOICED_MS:
            turn.speak_fixed(reply)
        return Outcome.UNHEARD


class _Answer:
    """The answer to one text. Lives as long as `give` does, so it may know the turn."""

    def __init__(
        self,
        parts: PipelineParts,
        turn: TurnControl,
        playback: Playback,
        limit: OutputLimit | None,
        voice: VoiceSample | None,
    ) -> None:
        self._parts = parts
        self._turn = turn
        self._voice = voice
        self._playback = playback
        self._exchange = turn.exchange
        self._allowance = Allowance(limit.characters) if limit is not None else None
        self._beyond = limit.words if limit is not None else ""
        self._patience = turn.options.llm_total
        """What is left of it for all completions together: the user waits for one answer, however many rounds it
        takes."""
        self._said: Sequence[str] = ()
        """The sentences of the text that is being spoken."""
        self._filled = False
        """Whether something was said while tools worked."""
        self._text = ""

    def give(self, text: str) -> None:
        """Answer `text` ("": the instruction of the opening)."""
        self._text = text
        try:
            self._give(text)
        except AllowanceSpent:
            self._exchange.answered(join_sentences(self._said))
            self._allowance = None
            self._say(self._beyond)

    def _give(self, text: str) -> None:
        parts = self._parts
        intent = parts.providers.intent
        briefing = parts.brief(text)
        if text:
            intention = intent.classify(text, briefing.history, parts.toolbox.specs(), self._turn.context)
            if intention.reply:
                self._reply(intention.reply)
                return
            if intention.calls:
                if not self._run_tools(intention.calls, ""):
                    return
            elif self._answer_from_cache(briefing.cache_key):
                return
        self._ask_with_tools(briefing)

    def _ask_with_tools(self, briefing: Briefing) -> None:
        """Ask the model, and again with what its tools found, at most `tool_depth` times."""
        parts, exchange, llm = self._parts, self._exchange, self._parts.providers.llm
        # What a late call has found calls no tool, or one would follow the other with nobody having asked.
        late = self._turn.opening.late is not None
        offers = parts.providers.intent.traits.offers_tools and llm.traits.calls_tools and not late
        rounds = self._turn.options.tool_depth if offers else 0
        depth = 0
        while True:
            # At the limit the model is no longer offered tools: it has to answer with what it has.
            offer = parts.toolbox.specs(after_tools=depth > 0) if depth < rounds else []
            said, calls, direct = self._ask(briefing.history, offer)
            if direct:
                self._say(direct)
                said = f"{said} {direct}".strip()
            # What was not offered is not run, whatever a model makes up.
            if not calls or depth == rounds:
                break
            if not self._run_tools(calls, said):
                return
            depth += 1
        if not said.strip() and not exchange.tool_calls:
            raise VendorGarbage(llm.name or "llm", "an empty answer")
        exchange.answered(said)
        if not exchange.tool_calls and parts.answers is not None:
            self._turn.wait_release()  # a prepared answer that is thrown away leaves no trace
            parts.answers.put(briefing.cache_key, said)

    def _answer_from_cache(self, key: str) -> bool:
        known = self._parts.answers.get(key) if self._parts.answers is not None else ""
        if known:
            self._reply(known)
        return bool(known)

    def _reply(self, text: str) -> None:
        self._say(text)
        self._exchange.answered(text)

    def _say(self, text: str) -> None:
        spoken = self._spoken_text()
        spoken.write(text)
        spoken.end()

    def _spoken_text(self) -> SpokenText:
        turn = self._turn
        spoken = SpokenText(self._playback, turn.timeline, turn.options.correct_words, turn.clock, self._allowance)
        self._said = spoken.said
        return spoken

    # --- the language model -------------------------------------------------------------------------------------------

    def _ask(self, history: Sequence[Message], offer: Sequence[ToolSpec]) -> tuple[str, list[ToolCall], str]:
        """One streamed completion, spoken while it comes: (what it said, the tools it calls, an answer it gave through
        a tool)."""
        turn, toolbox = self._turn, self._parts.toolbox
        spoken, heard = self._spoken_text(), len(self._exchange.heard)
        said: list[str] = []
        calls: list[ToolCall] = []
        direct: list[str] = []
        instruction = [Message("user", turn.opening.instruction)] if turn.opening.instruction else []
        messages = [*history, *instruction, *self._exchange.messages]
        if turn.timeline.llm_asked is None:
            turn.timeline.llm_asked = turn.clock()
        # Closed here and now, not when the last reference goes: an apology may be spoken meanwhile, and the vendor
        # should know.
        with closing(self._pieces(messages, offer)) as pieces:
            for item in pieces:
                if isinstance(item, Retraction):
                    said.clear()
                    if spoken.said:
                        self._playback = turn.take_back(self._parts.providers.tts, heard)
                    spoken = self._spoken_text()
                elif isinstance(item, str):
                    said.append(item)
                    spoken.write(item)
                elif (text := toolbox.direct_text(item)) is None:
                    calls.append(item)
                elif text:
                    direct.append(text)
        spoken.end()
        return "".join(said), calls, " ".join(direct)

    def _pieces(self, messages: Sequence[Message], offer: Sequence[ToolSpec]) -> Generator[str | ToolCall]:
        """The model's stream under its deadlines; closing it closes the vendor's request."""
        turn, llm = self._turn, self._parts.providers.llm
        stream: Any = llm.chat(messages, offer, turn.context)  # a generator, guarded or not
        until = turn.clock() + self._patience
        patience = turn.options.llm_first_token
        try:
            while True:
                left = until - turn.clock()
                if left <= 0:  # also when a piece is there already: a wait that is none never times out
                    raise VendorTimeout(
                        llm.name or "llm", f"the answer was not complete within {turn.options.llm_total:g} s"
                    )
                wait = max(_MIN_WAIT_S, min(patience, left))
                with gevent.Timeout(wait, VendorTimeout(llm.name or "llm", f"nothing for {wait:.1f} s")):
                    try:
                        item = next(stream)
                    except StopIteration:
                        return
                if turn.timeline.llm_first is None and item != "":  # which is a sign of life only
                    turn.timeline.llm_first = turn.clock()
                patience = turn.options.llm_stall
                yield item
        finally:
            self._patience = until - turn.clock()
            stream.close()

    # --- tools --------------------------------------------------------------------------------------------------------

    def _run_tools(self, calls: Sequence[ToolCall], said: str) -> bool:
        """Run the calls side by side; True when the model is to be asked again."""
        self._turn.open()
        exchange = self._exchange
        exchange.calling(said, calls)
        times: dict[int, CallTimes] = {}

        def note(number: int, outcome: ToolOutcome | None) -> None:
            turn = self._turn
            if outcome is None:
                exchange.call_started(number)
                times[number] = CallTimes(calls[number].name, turn.clock())
                turn.timeline.calls.append(times[number])
                turn.show_call(calls[number].name)
            else:
                times[number].ended, times[number].outcome = turn.clock(), outcome.action.value
                took_ms = round((turn.clock() - times[number].began) * 1000)
                exchange.call_ended(number, _told(outcome), failed=outcome.action in FAILURES, ms=took_ms)

        # What a tool says by itself is in the language of the question that it answers.
        speaker = "" if exchange.speaker in UNKNOWN_SPEAKER.values() else exchange.speaker
        question = AskedQuestion(
            self._turn.context.turn_id, self._text, self._turn.opening.utterance is not None, self._voice, speaker
        )
        context = replace(self._parts.tool_context, language=self._turn.language, question=question)
        with meanwhile(0.0 if self._filled else self._turn.options.tool_filler_seconds, self._say_filler):
            outcomes = self._parts.toolbox.call_many(calls, context, note)
        if any(outcome.action in (Action.ASK_LLM, *FAILURES) for outcome in outcomes):
            return True
        speeches = [outcome.text for outcome in outcomes if outcome.action is Action.SPEAK and outcome.text]
        for speech in speeches:
            self._say(speech)
        if speeches:
            exchange.answered(" ".join(speeches))
        return False

    def _say_filler(self) -> None:
        """Once per answer: its tools take a while."""
        self._filled = True
        turn = self._turn
        spoken = SpokenText(self._playback, turn.timeline, turn.options.correct_words, turn.clock)
        spoken.write(text_in(turn.options.tool_filler, turn.language))
        spoken.end()


def _told(outcome: ToolOutcome) -> str:
    """A tool's result as the model reads it; it must be able to tell a failure from an answer."""
    text = outcome.text or outcome.action.value
    return f"{FAILED}{text}" if outcome.action in FAILURES else text
