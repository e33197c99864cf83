"""The cascade: an answer made in steps by separate providers, spoken while it comes.

    utterance ─► ASR ─► text ─► intent ─┬─► ready reply, or tools without a model
                                        └─► answer cache, else LLM ⇄ tools ─► sentences ─► playback

One `Pipeline` among others. It knows neither when it may be heard nor how the turn ends. With `speculative: asr` it
recognises during a pause and waits for the release before the language model is asked; with `llm` it goes on to the
first sentence's sound. Tools always wait for the release, because they have effects."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import gevent

from xiaozhi.chat import Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorGarbage, VendorTimeout
from xiaozhi.providers.contracts.llm import Retraction
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.turn_record import Outcome, Speculation
from xiaozhi.session.turns.pipeline import Briefing, PipelineParts, TurnControl
from xiaozhi.session.turns.spoken_text import SpokenText
from xiaozhi.speech.transcripts import WEAK_VOICED_MS, heard
from xiaozhi.tools.base import Action, ToolOutcome

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
        text = opening.text
        if opening.utterance is not None:
            transcript = opening.utterance.transcribe()
            # What a recogniser makes of silence, noise or music is nothing that was said.
            text = heard(transcript.text, weak=opening.utterance.voiced_ms < WEAK_VOICED_MS)
            turn.heard(text)
        if not text and not opening.instruction:
            return self._unheard(turn)
        if turn.options.speculative is not Speculation.LLM:
            turn.wait_release()
        refusal = turn.refusal()
        if refusal:
            turn.speak_fixed(refusal)
        else:
            playback = turn.open_playback(self._parts.providers.tts)
            turn.exchange.asked(text)
            _Answer(self._parts, turn, playback).give(text)
        return Outcome.ANSWERED

    def _unheard(self, turn: TurnControl) -> Outcome:
        turn.wait_release()
        utterance, reply = turn.opening.utterance, self._parts.providers.asr.traits.unheard_reply
        if reply and utterance is not None and utterance.voiced_ms >= UNHEARD_VOICED_MS:
            turn.speak_fixed(reply)
        return Outcome.UNHEARD


class _Answer:
    """The answer to one text. Lives as long as `give` does, so it may know the turn."""

    def __init__(self, parts: PipelineParts, turn: TurnControl, playback: Playback) -> None:
        self._parts = parts
        self._turn = turn
        self._playback = playback
        self._exchange = turn.exchange

    def give(self, text: str) -> None:
        """Answer `text` ("": the instruction of the opening)."""
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
        offers = parts.providers.intent.traits.offers_tools and llm.traits.calls_tools
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
        return SpokenText(self._playback, turn.timeline, turn.options.correct_words, turn.clock)

    # --- the language model -------------------------------------------------------------------------------------------

    def _ask(self, history: Sequence[Message], offer: Sequence[ToolSpec]) -> tuple[str, list[ToolCall], str]:
        """One streamed completion, spoken while it comes: (what it said, the tools it calls, an answer it gave through
        a tool)."""
        turn, toolbox = self._turn, self._parts.toolbox
        spoken = self._spoken_text()
        said: list[str] = []
        calls: list[ToolCall] = []
        direct: list[str] = []
        messages = [*history, *self._exchange.messages]
        if turn.opening.instruction:
            messages.append(Message("user", turn.opening.instruction))
        if turn.timeline.llm_asked is None:
            turn.timeline.llm_asked = turn.clock()
        # Closed here and now, not when the last reference goes: an apology may be spoken meanwhile, and the vendor
        # should know.
        with closing(self._pieces(messages, offer)) as pieces:
            for item in pieces:
                if isinstance(item, Retraction):
                    said.clear()
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
        until = turn.clock() + turn.options.llm_total
        patience = turn.options.llm_first_token
        try:
            while True:
                left = max(_MIN_WAIT_S, min(patience, until - turn.clock()))
                with gevent.Timeout(left, VendorTimeout(llm.name or "llm", f"nothing for {left:.1f} s")):
                    try:
                        item = next(stream)
                    except StopIteration:
                        return
                if turn.timeline.llm_first is None and item != "":  # which is a sign of life only
                    turn.timeline.llm_first = turn.clock()
                patience = turn.options.llm_stall
                yield item
        finally:
            stream.close()

    # --- tools --------------------------------------------------------------------------------------------------------

    def _run_tools(self, calls: Sequence[ToolCall], said: str) -> bool:
        """Run the calls side by side; True when the model is to be asked again."""
        self._turn.open()
        self._exchange.calling(said, calls)
        # What a tool says by itself is in the language of the question that it answers.
        context = replace(self._parts.tool_context, language=self._turn.language)
        outcomes = self._parts.toolbox.call_many(calls, context)
        self._exchange.called([_told(outcome) for outcome in outcomes])
        if any(outcome.action in (Action.ASK_LLM, Action.ERROR, Action.NOT_FOUND) for outcome in outcomes):
            return True
        speeches = [outcome.text for outcome in outcomes if outcome.action is Action.SPEAK and outcome.text]
        for speech in speeches:
            self._say(speech)
        if speeches:
            self._exchange.answered(" ".join(speeches))
        return False


def _told(outcome: ToolOutcome) -> str:
    """A tool's result as the model reads it; it must be able to tell a failure from an answer."""
    text = outcome.text or outcome.action.value
    return f"{FAILED}{text}" if outcome.action in (Action.ERROR, Action.NOT_FOUND) else text
