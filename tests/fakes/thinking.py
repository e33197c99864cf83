"""Minds without models: a language model that plays a script, and the small kinds beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import gevent

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.intent import Intent, Intention, IntentTraits
from xiaozhi.providers.contracts.llm import Llm, LlmTraits
from xiaozhi.providers.contracts.memory import Memory, MemoryTraits
from xiaozhi.providers.contracts.vllm import Vllm, VllmTraits

Step = str | ToolCall | float | int | Exception
"""A piece of text, a tool call, a pause in seconds, or something to raise."""


@dataclass(slots=True)
class LlmCall:
    """One `chat`: what it was asked, how many steps it gave, and whether its iterator was run to the end, closed early
    or killed."""

    messages: list[Message]
    tools: list[ToolSpec]
    context: CallContext
    given: int = 0
    ended: str = ""
    """"" while it runs, then "whole", "cut" or "failed"."""

    @property
    def asked(self) -> str:
        """The last user message."""
        return next((message.content for message in reversed(self.messages) if message.role == "user"), "")


class FakeLlm(Llm):
    """The n-th `chat` plays the n-th answer (the last one for ever). An answer is a text, or a sequence of steps."""

    type_name = "fake"
    traits = LlmTraits(offline=True)

    def __init__(self, *answers: str | Sequence[Step]) -> None:
        self.answers = answers or ("Hello. How are you?",)
        self.calls: list[LlmCall] = []

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        answer = self.answers[min(len(self.calls), len(self.answers) - 1)]
        call = LlmCall(list(messages), list(tools), context)
        self.calls.append(call)
        return self._play(call, [answer] if isinstance(answer, str) else answer)

    def _play(self, call: LlmCall, steps: Sequence[Step]) -> Iterator[str | ToolCall]:
        call.ended = "cut"  # unless it gets further than that
        for step in steps:
            if isinstance(step, Exception):
                call.ended = "failed"
                raise step
            if isinstance(step, float | int):
                gevent.sleep(step)  # sleep: the vendor is slow
            else:
                call.given += 1
                yield step
        call.ended = "whole"


class FakeMemory(Memory):
    """Recalls `text`, keeps what is saved."""

    type_name = "fake"
    traits = MemoryTraits(offline=True)

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.saved: list[tuple[str, list[Message], str]] = []

    def recall(self, device_id: str, query: str) -> str:
        return self.text

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        self.saved.append((device_id, list(messages), session_id))


class FakeIntent(Intent):
    """Finds the intention listed for a text, else none; offers tools to the language model by default."""

    type_name = "fake"
    traits = IntentTraits(offline=True, offers_tools=True)

    def __init__(self, intentions: dict[str, Intention] | None = None) -> None:
        self.intentions = intentions or {}

    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        return self.intentions.get(text, Intention())


class FakeVllm(Vllm):
    """Sees `text` in every picture and records what it was asked."""

    type_name = "fake"
    traits = VllmTraits(offline=True)

    def __init__(self, text: str = "a cat") -> None:
        self.text = text
        self.calls: list[tuple[str, bytes, str]] = []

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        self.calls.append((question, image, mime))
        return self.text
