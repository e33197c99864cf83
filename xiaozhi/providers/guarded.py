"""Any provider, bounded: the same contract with a concurrency window, a circuit breaker and retries in front of it, and reports for
metrics.

`guard(kind, provider, limits)` is what the composition root calls. A place in the window is held for as long as the vendor works: one
request for Llm, Vllm, BatchAsr and SentenceTts; the whole stream for vendors that are connected while the user speaks (Asr) or the
answer is spoken (Tts). An Llm's answer is read ahead of its listener by a greenlet of its own (0.05 ms of CPU per answer), so that its
place is free when the model has spoken rather than when the last sentence but one has been played.

Retried is only what nobody has heard anything of: until the first output of an answer or a sentence, until the opening of a stream.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gevent
from gevent.queue import Queue

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import XiaozhiError
from xiaozhi.providers.base import (
    Asr,
    AsrStream,
    BatchAsr,
    Llm,
    Provider,
    SentenceTts,
    Sound,
    SpeechEvent,
    Transcript,
    Tts,
    TtsStream,
    Vllm,
)
from xiaozhi.runtime.resilience import (
    Attempt,
    Breaker,
    BreakerOptions,
    Clock,
    Guard,
    Observer,
    OnePerKey,
    RetryOptions,
    Window,
)
from xiaozhi.runtime.tasks import spawn

T = TypeVar("T")

READ_AHEAD = 4096
"""Pieces of an answer waiting for their listener; full, which no spoken answer is: the model waits."""

_END = object()


@dataclass(frozen=True, slots=True)
class VendorLimits:
    """`ai_providers.<kind>` of the configuration. `max_concurrent` 0: no limit. `timeout`: seconds a request may wait for its place and for
    retries; the provider's own deadlines come on top."""

    max_concurrent: int = 0
    queue_size: int = 50
    enable_queue: bool = True
    timeout: float = 30.0
    one_per_device: bool = True
    """Llm only: a device's second request waits until its first has ended."""


def guard(
    kind: str,
    provider: Any,
    limits: VendorLimits = VendorLimits(),
    *,
    retry: RetryOptions = RetryOptions(),  # noqa: B008  frozen
    breaker: Breaker | BreakerOptions | None = BreakerOptions(),  # noqa: B008  frozen
    observer: Observer | None = None,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = gevent.sleep,
    chance: Callable[[], float] = random.random,
) -> Any:
    """`provider` behind a guard, of the same kind. Offline providers and kinds without a wrapper come back as they are.

    `breaker`: options for one of its own, a Breaker shared with others at the same endpoint, or None. The guard is `provider.guard`."""
    wrapper = _wrapper_for(provider)
    if provider.offline or wrapper is None:
        return provider
    name = f"{kind}:{provider.name or provider.type_name}"
    window = Window(name, limits.max_concurrent, limits.queue_size if limits.enable_queue else 0, clock=clock)
    own = Breaker(name, breaker, clock=clock) if isinstance(breaker, BreakerOptions) else breaker
    made = Guard(
        name, window=window, breaker=own, retry=retry, timeout=limits.timeout, observer=observer, clock=clock, sleep=sleep, chance=chance
    )
    return wrapper(provider, made, limits)


class _Guarded(Provider):
    """What all wrappers share: they are called like the provider inside and pass its life cycle on."""

    def __init__(self, inner: Any, guard: Guard, limits: VendorLimits) -> None:
        self.inner = inner
        self.guard = guard
        self.name = inner.name
        self._limits = limits

    def warm_up(self) -> None:
        """Pass on."""
        self.inner.warm_up()

    def close(self) -> None:
        """Pass on."""
        self.inner.close()


class GuardedLlm(_Guarded, Llm):
    """One place per answer, and one answer at a time per device."""

    def __init__(self, inner: Llm, guard: Guard, limits: VendorLimits) -> None:
        super().__init__(inner, guard, limits)
        self._devices = OnePerKey(f"{guard.name} for this device")

    @property
    def calls_tools(self) -> bool:  # type: ignore[override]
        """As the provider inside says."""
        return bool(self.inner.calls_tools)

    def chat(self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext) -> Iterator[str | ToolCall]:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return _read_ahead(f"{self.guard.name}-reader", lambda: self._ask(messages, tools, context))

    def _ask(self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext) -> Iterator[str | ToolCall]:
        with self._devices.hold(context.device_id if self._limits.one_per_device else "", self._limits.timeout):
            yield from self.guard.iterate(lambda: self.inner.chat(messages, tools, context))


def _read_ahead(name: str, make: Callable[[], Iterator[T]]) -> Iterator[T]:
    """`make()`, iterated over in a greenlet of its own as fast as it goes. Closing this iterator ends that greenlet, and so the request."""
    pieces: Queue[Any] = Queue(READ_AHEAD)

    def read() -> None:
        try:
            for piece in make():
                pieces.put(piece)
            pieces.put(_END)
        except Exception as error:
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


class GuardedVllm(_Guarded, Vllm):
    """One place per picture."""

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return self.guard.call(lambda: self.inner.describe(question, image, mime, context))


class GuardedBatchAsr(_Guarded, BatchAsr):
    """One place per utterance, from its end."""

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return self.guard.call(lambda: self.inner.transcribe(pcm, context))


class GuardedSentenceTts(_Guarded, SentenceTts):
    """One place per sentence."""

    def __init__(self, inner: SentenceTts, guard: Guard, limits: VendorLimits) -> None:
        super().__init__(inner, guard, limits)
        self.sample_rate = inner.sample_rate

    @property
    def voice_key(self) -> str:
        """As the provider inside says."""
        return str(self.inner.voice_key)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return self.guard.iterate(lambda: self.inner.synthesize(sentence, context))


class GuardedAsr(_Guarded, Asr):
    """One place per utterance, from the moment it begins."""

    def open(self, context: CallContext) -> AsrStream:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        stream, attempt = self.guard.begin(lambda: self.inner.open(context))
        return _GuardedUtterance(stream, attempt)


class _GuardedUtterance(AsrStream):
    def __init__(self, inner: AsrStream, attempt: Attempt) -> None:
        self._inner = inner
        self._attempt = attempt

    @property
    def partial(self) -> str:  # type: ignore[override]
        return self._inner.partial

    def feed(self, pcm: bytes) -> None:
        try:
            self._inner.feed(pcm)
        except BaseException as error:
            self._attempt.end(error)
            raise

    def finish(self) -> Transcript:
        try:
            heard = self._inner.finish()
        except BaseException as error:
            self._attempt.end(error)
            raise
        self._attempt.first()
        self._attempt.end()
        return heard

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._attempt.end(gevent.GreenletExit())


class GuardedTts(_Guarded, Tts):
    """One place per reply, while the vendor speaks it."""

    def __init__(self, inner: Tts, guard: Guard, limits: VendorLimits) -> None:
        super().__init__(inner, guard, limits)
        self.sample_rate = inner.sample_rate

    @property
    def voice_key(self) -> str:
        """As the provider inside says."""
        return str(self.inner.voice_key)

    def open(self, context: CallContext) -> TtsStream:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        stream, attempt = self.guard.begin(lambda: self.inner.open(context))
        return _GuardedReply(stream, attempt)


class _GuardedReply(TtsStream):
    def __init__(self, inner: TtsStream, attempt: Attempt) -> None:
        self._inner = inner
        self._attempt = attempt

    def say(self, sentence: str) -> None:
        try:
            self._inner.say(sentence)
        except XiaozhiError as error:
            self._attempt.end(error)
            raise

    def finish(self) -> None:
        self._inner.finish()

    def events(self) -> Iterator[SpeechEvent]:
        try:
            for event in self._inner.events():
                self._attempt.first()
                yield event
        except BaseException as error:
            self._attempt.end(error)
            raise
        finally:
            self._attempt.end()

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._attempt.end(gevent.GreenletExit())


def _wrapper_for(provider: Any) -> Any:
    # The narrower contract first: a BatchAsr is an Asr as well.
    for contract, wrapper in (
        (Llm, GuardedLlm),
        (Vllm, GuardedVllm),
        (BatchAsr, GuardedBatchAsr),
        (Asr, GuardedAsr),
        (SentenceTts, GuardedSentenceTts),
        (Tts, GuardedTts),
    ):
        if isinstance(provider, contract):
            return wrapper
    return None
