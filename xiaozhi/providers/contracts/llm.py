"""Language models: messages and tools in, text and tool calls out, streamed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.provider import Provider


class Llm(Provider, ABC):
    """A language model that streams."""

    kind: ClassVar[str] = "llm"
    calls_tools: ClassVar[bool] = True
    """False: `tools` is ignored and no ToolCall is ever yielded."""
    writes: ClassVar[bool] = True
    """False: it knows a few sentences of its own and cannot be asked to write anything, such as a summary."""

    @abstractmethod
    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """Stream the answer: pieces of text as they come, and whole ToolCalls (assembled from the vendor's fragments).

        Closing the iterator (or killing the greenlet) closes the vendor's request. Raises VendorError, also in
        mid-stream."""
