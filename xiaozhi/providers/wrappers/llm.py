"""Guard and fallback of language models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from gevent.queue import Queue

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.llm import Llm, Retraction
from xiaozhi.providers.wrappers.fallback import FallbackProvider
from xiaozhi.providers.wrappers.guarded import GuardedProvider, VendorLimits
from xiaozhi.runtime.resilience import Guard, OnePerKey
from xiaozhi.runtime.tasks import spawn

T = TypeVar("T")


READ_AHEAD = 4096
"""Pieces of an answer waiting for their listener; full, which no spoken answer is: the model waits."""


_END = object()


class GuardedLlm(GuardedProvider, Llm):
    """One place per answer, and one answer at a time per device."""

    def __init__(self, inner: Llm, guard: Guard, limits: VendorLimits) -> None:
        super().__init__(inner, guard, limits)
        self._devices = OnePerKey(f"{guard.name} for this device")

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return _read_ahead("llm-reader", lambda: self._ask(messages, tools, context))

    def _ask(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        with self._devices.hold(context.device_id if self._limits.one_per_device else "", self._limits.timeout):
            yield from self.guard.iterate(lambda: self.inner.chat(messages, tools, context))


def _read_ahead(name: str, make: Callable[[], Iterator[T]]) -> Iterator[T]:
    """`make()`, iterated over in a greenlet of its own as fast as it goes. Closing this iterator ends that greenlet,
    and so the request."""
    pieces: Queue[Any] = Queue(READ_AHEAD)

    def read() -> None:
        try:
            for piece in make():
                if isinstance(piece, Retraction):
                    while not pieces.empty():  # what nobody has taken yet
                        pieces.get_nowait()
                pieces.put(piece)
            pieces.put(_END)
        except Exception as error:  # noqa: BLE001  raised again where the answer is read
            pieces.put(error)

    reader = spawn(name, read)
    try:
        # Not without a deadline: the guard and the provider have theirs, and the reader always leaves a last word.
        while (piece := pieces.get()) is not _END:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        reader.kill(block=False)


class FallbackLlm(FallbackProvider, Llm):
    """The next model answers when the one before failed without a word."""

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """The answer of the first that gives one."""
        return self.first_to_yield(lambda provider: provider.chat(messages, tools, context))
