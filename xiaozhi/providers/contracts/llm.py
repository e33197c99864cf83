"""Language models: messages and tools in, text and tool calls out, streamed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


@dataclass(frozen=True, slots=True)
class LlmTraits(ProviderTraits):
    """What a language model can do."""

    calls_tools: bool = True
    """False: `tools` is ignored and no ToolCall is ever yielded."""
    writes: bool = True
    """False: it knows a few sentences of its own and cannot be asked to write anything, such as a summary."""
    keeps_dialogue: bool = False
    """True: the vendor itself remembers what was said. A question cannot be taken back, so none is asked on a guess."""
    usual_replies: tuple[str, ...] = ()
    """Answers that it gives again and again, word for word, the most frequent first: worth having as sound."""


class Retraction(str):
    """An empty piece of an answer: all text in front of it was reasoning whose beginning had no mark. Nothing of it is
    to be remembered, nor spoken if there is still time."""

    __slots__ = ()


def final_text(pieces: Iterable[str | ToolCall]) -> str:
    """The whole text of an answer, for those who do not speak it."""
    said: list[str] = []
    for piece in pieces:
        if isinstance(piece, Retraction):
            said.clear()
        elif isinstance(piece, str):
            said.append(piece)
    return "".join(said)


class Llm(Provider, ABC):
    """A language model that streams."""

    kind: ClassVar[str] = "llm"
    traits: LlmTraits = LlmTraits()

    @abstractmethod
    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """Stream the answer: pieces of text as they come, and whole ToolCalls (assembled from the vendor's fragments).
        An empty piece is a sign of life of a model that thinks, or a `Retraction`. Reasoning, marks of templates and
        calls written as text are never among the pieces; a call that was not understood has a `fault`.

        Closing the iterator (or killing the greenlet) closes the vendor's request. Raises VendorError, also in
        mid-stream."""
