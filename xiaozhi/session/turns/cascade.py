"""The mind's work within one turn: intent, the language model and its tools, spoken while it comes.

Not a turn: it neither knows when it may be heard nor how it ends; it is given a reply to speak into and a release to
wait for before anything with an effect. Text is made speakable and split on the stream, so that the first sentence is
on its way to the synthesiser while the model still writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gevent

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorGarbage, VendorTimeout
from xiaozhi.session.agent import ProviderSet
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.turn_record import Timeline, TurnOptions
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.dialogue import Exchange
from xiaozhi.speech.cleanup import ReplyText
from xiaozhi.speech.sentences import Sentence
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome
from xiaozhi.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Briefing:
    """What the language model is to know before the question."""

    history: list[Message]
    """The system prompt and the past."""
    cache_key: str = ""
    """Where an answer to this question would be kept; "": it cannot be answered from memory."""


FAILED = "error: "
"""How the result of a failed call begins."""


@dataclass(frozen=True, slots=True)
class CascadeParts:
    """What an answer is made with. `brief(text)` may block for the memory."""

    providers: ProviderSet
    toolbox: Toolbox
    tool_context: ToolContext
    context: CallContext
    options: TurnOptions
    brief: Callable[[str], Briefing]
    answers: AnswerCache | None = None
    """None: the language model is always asked."""
    extra_prompt: str = ""
    """An instruction that stands in for a question, such as the prompt that ends a visit."""


class Cascade:
    """Writes into `exchange` what is to be remembered: tool calls and their results, the answer."""

    def __init__(
        self,
        parts: CascadeParts,
        reply: Playback,
        timeline: Timeline,
        exchange: Exchange,
        await_release: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._reply = reply
        self._timeline = timeline
        self._exchange = exchange
        self._await_release = await_release
        self._clock = clock
        self.tool_calls = 0

    def answer(self, text: str) -> None:
        """Answer `text` ("" with an extra prompt only). Raises VendorError, Overloaded."""
        parts = self._parts
        providers, intent = parts.providers, parts.providers.intent
        briefing = parts.brief(text)
        if text:
            intention = intent.classify(text, briefing.history, parts.toolbox.specs(), parts.context)
            if intention.reply:
                self.speak(intention.reply)
                self._exchange.answered(intention.reply)
                return
            if intention.calls:
                if not self._run_tools(intention.calls, ""):
                    return
            elif self._answer_from_memory(briefing.cache_key):
                return
        depth_limit = parts.options.tool_depth if intent.traits.offers_tools and providers.llm.traits.calls_tools else 0
        for depth in range(depth_limit + 1):
            # At the limit the model is no longer offered tools: it has to answer with what it has.
            said, calls = self._ask(
                briefing.history, parts.toolbox.specs(after_tools=depth > 0) if depth < depth_limit else []
            )
            answers = [self._parts.toolbox.direct_text(call) for call in calls]
            direct = " ".join(filter(None, answers))
            # What was not offered is not run, whatever a model makes up.
            calls = [
                call for call, answer in zip(calls, answers, strict=True) if answer is None and depth < depth_limit
            ]
            if direct:
                self.speak(direct)
                said = f"{said} {direct}".strip()
            if not calls:
                if not said.strip() and not self.tool_calls:
                    raise VendorGarbage(providers.llm.name or "llm", "an empty answer")
                self._exchange.answered(said)
                if not self.tool_calls and parts.answers is not None:
                    parts.answers.put(briefing.cache_key, said)
                return
            if not self._run_tools(calls, said):
                return

    def speak(self, text: str) -> None:
        """Speak a ready text."""
        words = ReplyText(correct_words=self._parts.options.correct_words)
        for sentence in [*words.feed(text), *words.flush()]:
            self._say(sentence, words)

    def _answer_from_memory(self, key: str) -> bool:
        known = self._parts.answers.get(key) if self._parts.answers is not None else ""
        if known:
            self.speak(known)
            self._exchange.answered(known)
        return bool(known)

    def _ask(self, history: Sequence[Message], specs: Sequence[ToolSpec]) -> tuple[str, list[ToolCall]]:
        """One streamed completion, spoken while it comes."""
        words = ReplyText(correct_words=self._parts.options.correct_words)
        said: list[str] = []
        calls: list[ToolCall] = []
        messages = [*history, *self._exchange.messages]
        if self._parts.extra_prompt:
            messages.append(Message("user", self._parts.extra_prompt))
        if self._timeline.llm_asked is None:
            self._timeline.llm_asked = self._clock()
        # Closed here and now, not when the last reference goes: an apology may be spoken meanwhile, and the vendor
        # should know.
        with closing(self._pieces(messages, specs)) as pieces:
            for item in pieces:
                if isinstance(item, ToolCall):
                    calls.append(item)
                    continue
                said.append(item)
                for sentence in words.feed(item):
                    self._say(sentence, words)
        for sentence in words.flush():
            self._say(sentence, words)
        return "".join(said), calls

    def _pieces(self, messages: Sequence[Message], specs: Sequence[ToolSpec]) -> Generator[str | ToolCall]:
        """The model's stream under its deadlines; closing it closes the vendor's request."""
        llm = self._parts.providers.llm
        options = self._parts.options
        stream: Any = llm.chat(messages, specs, self._parts.context)  # a generator, guarded or not
        until = self._clock() + options.llm_total
        patience = options.llm_first_token
        try:
            while True:
                left = max(0.01, min(patience, until - self._clock()))
                with gevent.Timeout(left, VendorTimeout(llm.name or "llm", f"nothing for {left:.1f} s")):
                    try:
                        item = next(stream)
                    except StopIteration:
                        return
                if self._timeline.llm_first is None:
                    self._timeline.llm_first = self._clock()
                patience = options.llm_stall
                yield item
        finally:
            stream.close()

    def _say(self, sentence: Sentence, words: ReplyText) -> None:
        self._reply.emote(words.emotion)
        if self._timeline.tts_asked is None:
            self._timeline.tts_asked = self._clock()
        self._reply.say(sentence)

    def _run_tools(self, calls: Sequence[ToolCall], said: str) -> bool:
        """Run the calls side by side; True when the model is to be asked again."""
        self._await_release()
        self.tool_calls += len(calls)
        outcomes = self._parts.toolbox.call_many(calls, self._parts.tool_context)
        self._exchange.called(said, calls, [_told(outcome) for outcome in outcomes])
        return self._follow(outcomes)

    def _follow(self, outcomes: Sequence[ToolOutcome]) -> bool:
        if any(outcome.action in (Action.ASK_LLM, Action.ERROR, Action.NOT_FOUND) for outcome in outcomes):
            return True
        speeches = [outcome.text for outcome in outcomes if outcome.action is Action.SPEAK and outcome.text]
        for speech in speeches:
            self.speak(speech)
        if speeches:
            self._exchange.answered(" ".join(speeches))
        return False


def _told(outcome: ToolOutcome) -> str:
    """A tool's result as the model reads it; it must be able to tell a failure from an answer."""
    text = outcome.text or outcome.action.value
    return f"{FAILED}{text}" if outcome.action in (Action.ERROR, Action.NOT_FOUND) else text
