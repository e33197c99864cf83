"""Guard and fallback of voices. A fallback goes on with the first sentence nobody has heard."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorTimeout, VendorUnavailable, XiaozhiError
from xiaozhi.providers.contracts.tts import (
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceTts,
    Sound,
    SpeechEvent,
    Tts,
    TtsStream,
)
from xiaozhi.providers.wrappers.fallback import FAILURES, FallbackProvider
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import Attempt
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)


UNHEARD_SENTENCES = 3
"""Sentences accepted beyond those that have made a sound, before `say` blocks."""


WAIT_S = 120.0
"""No wait is longer: whoever is waited for that long is gone."""


class GuardedSentenceTts(GuardedProvider, SentenceTts):
    """One place per sentence."""

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return self.guard.iterate(lambda: self.inner.synthesize(sentence, context))


class GuardedTts(GuardedProvider, Tts):
    """One place per reply, while the vendor speaks it."""

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


def marked(provider: Tts, sounds: Iterator[Any], *, substitute: bool) -> Iterator[Any]:
    """Sound that no longer depends on whose `sample_rate` is meant, and that tells when it is not the voice that is
    meant."""
    for sound in sounds:
        if isinstance(sound, Pcm) and (substitute or not sound.rate):
            yield Pcm(sound.data, sound.rate or provider.traits.sample_rate, substitute or sound.substitute)
        elif isinstance(sound, OpusPackets) and substitute:
            yield OpusPackets(sound.packets, sound.frame_ms, True)
        else:
            yield sound


class FallbackSentenceTts(FallbackProvider, SentenceTts):
    """The next voice says the same sentence."""

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of the first that makes one."""
        return self.first_to_yield(
            lambda provider: marked(
                provider, provider.synthesize(sentence, context), substitute=provider is not self.providers[0]
            )
        )


class FallbackTts(FallbackProvider, Tts):
    """For vendors that speak a whole reply in one session: the next one continues with the first sentence nobody has
    heard."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.traits = replace(self.traits, streaming=True)  # also when the first takes single sentences

    def open(self, context: CallContext) -> TtsStream:
        """A stream at the first provider that opens one."""
        return _FallbackReply(self, context)


class _FallbackReply(TtsStream):
    """`say` only notes the sentence; a feeder greenlet passes them on to the current provider's stream, which may block
    it. When that stream fails, `events` opens the next one and a new feeder starts with the first sentence that has
    made no sound."""

    def __init__(self, owner: FallbackTts, context: CallContext) -> None:
        self._owner = owner
        self._context = context
        self._left = deque(owner.providers)
        self._sentences: list[str] = []
        self._heard = 0
        """Sentences that have made a sound."""
        self._finished = False
        self._closed = False
        self._error: Exception | None = None
        self._changed = Event()
        self._tasks = Tasks()
        self._provider: Any = None
        self._stream: TtsStream | None = None
        self._open_next(None)

    def say(self, sentence: str) -> None:
        self._wait_until(lambda: len(self._sentences) - self._heard < UNHEARD_SENTENCES)
        self._sentences.append(sentence)
        self._notify()

    def finish(self) -> None:
        self._finished = True
        self._notify()

    def events(self) -> Iterator[SpeechEvent]:
        try:
            while True:
                stream, provider = self._stream, self._provider
                if self._closed or stream is None:
                    raise self._error or VendorUnavailable(self._owner.name, "the stream was closed")
                try:
                    substitute = provider is not self._owner.providers[0]
                    yield from self._pass_on(marked(provider, stream.events(), substitute=substitute))
                    return
                except FAILURES as error:
                    if self._closed:
                        raise
                    self._open_next(error)
        finally:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._notify()
        if self._stream is not None:
            self._stream.close()
        self._tasks.kill(timeout=0)

    def _pass_on(self, events: Iterator[SpeechEvent]) -> Iterator[SpeechEvent]:
        # A sentence is announced with its first sound, or when it turns out to have none: until then another provider
        # may have to say it.
        begins: SentenceBegins | None = None
        for event in events:
            if isinstance(event, SentenceBegins):
                if begins is not None:
                    yield from self._begin(begins)
                begins = event
                continue
            if begins is not None:
                yield from self._begin(begins)
                begins = None
            yield event
        if begins is not None:
            yield from self._begin(begins)

    def _begin(self, begins: SentenceBegins) -> Iterator[SentenceBegins]:
        self._heard += 1
        self._notify()
        yield begins

    def _open_next(self, error: Exception | None) -> None:
        self._tasks.kill(timeout=1.0)
        while True:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            if not self._left:
                self._error = error
                self._notify()
                raise error or VendorUnavailable(self._owner.name, "no provider")
            self._provider = self._left.popleft()
            if error is not None:
                log.warning("fallback", kind="tts", provider=self._provider.name, error=str(error))
            try:
                self._stream = self._provider.open(self._context)
                break
            except FAILURES as failed:
                error = failed
        self._tasks.spawn("tts-feeder", self._feed, self._stream, self._heard)

    def _feed(self, stream: TtsStream, start: int) -> None:
        try:
            for number in itertools.count(start):
                self._wait_until(functools.partial(self._has, number))
                if number == len(self._sentences):
                    stream.finish()
                    return
                stream.say(self._sentences[number])
        except FAILURES:
            stream.close()  # `events` hears of it and decides

    def _has(self, number: int) -> bool:
        return number < len(self._sentences) or self._finished

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        while True:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise VendorUnavailable(self._owner.name, "the stream was closed")
            if condition():
                return
            self._changed.clear()
            if not self._changed.wait(timeout=WAIT_S):
                raise VendorTimeout(self._owner.name, f"nothing happened for {WAIT_S:g} s")

    def _notify(self) -> None:
        self._changed.set()
