"""Fallback for providers that are in the middle of something when they fail: the utterance is heard again from its beginning by the
next one, the reply goes on with the first sentence nobody has heard. `fallback.py` has the simple kinds and the door."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gevent.event import Event

from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorError, VendorTimeout, VendorUnavailable
from xiaozhi.providers.base import (
    Asr,
    AsrStream,
    OpusPackets,
    Pcm,
    Provider,
    SentenceBegins,
    SpeechEvent,
    Transcript,
    Tts,
    TtsStream,
)
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

FAILURES = (VendorError, Overloaded)
"""What the next provider can cure."""
UNHEARD_SENTENCES = 3
"""Sentences accepted beyond those that have made a sound, before `say` blocks."""
WAIT_S = 120.0
"""No wait is longer: whoever is waited for that long is gone."""


class Fallback(Provider):
    """What all share: the name and life cycle of the first, the life cycles of all."""

    def __init__(self, providers: Sequence[Any]) -> None:
        self.providers = tuple(providers)
        self.name = self.providers[0].name
        self.offline = all(provider.offline for provider in providers)  # type: ignore[misc]

    def warm_up(self) -> None:
        """All of them: the moment of need is too late for a model to be loaded."""
        for provider in self.providers:
            provider.warm_up()

    def close(self) -> None:
        """All of them."""
        for provider in self.providers:
            provider.close()

    def first_that(self, work: Callable[[Any], Any]) -> Any:
        """The result of the first provider that has one. Raises the last one's error."""
        for provider in self.providers[:-1]:
            try:
                return work(provider)
            except FAILURES as error:
                self._log(provider, error)
        return work(self.providers[-1])

    def first_to_yield(self, work: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        """What the first provider yields that yields anything. Raises the last one's error."""
        for provider in self.providers[:-1]:
            yielded = False
            try:
                for item in work(provider):
                    yielded = True
                    yield item
                return
            except FAILURES as error:
                if yielded:
                    raise
                self._log(provider, error)
        yield from work(self.providers[-1])

    def _log(self, provider: Any, error: Exception) -> None:
        log.warning("fallback", kind=self.kind, provider=provider.name, error=str(error))


def marked(provider: Tts, sounds: Iterator[Any], *, substitute: bool) -> Iterator[Any]:
    """Sound that no longer depends on whose `sample_rate` is meant, and that tells when it is not the voice that is meant."""
    for sound in sounds:
        if isinstance(sound, Pcm) and (substitute or not sound.rate):
            yield Pcm(sound.data, sound.rate or provider.sample_rate, substitute or sound.substitute)
        elif isinstance(sound, OpusPackets) and substitute:
            yield OpusPackets(sound.packets, sound.frame_ms, True)
        else:
            yield sound


class FallbackAsr(Fallback, Asr):
    """Keeps the sound of the utterance, so that another recogniser can hear it from the beginning."""

    @property
    def streaming(self) -> bool:  # type: ignore[override]
        """As the first says."""
        return bool(self.providers[0].streaming)

    def open(self, context: CallContext) -> AsrStream:
        """A stream at the first provider that opens one."""
        return _FallbackUtterance(self, context)


class _FallbackUtterance(AsrStream):
    def __init__(self, owner: FallbackAsr, context: CallContext) -> None:
        self._owner = owner
        self._context = context
        self._left = deque(owner.providers)
        self._pcm = bytearray()
        self._closed = False
        self._stream: AsrStream | None = None
        self._next(None)

    @property
    def partial(self) -> str:  # type: ignore[override]
        return self._stream.partial if self._stream is not None else ""

    def feed(self, pcm: bytes) -> None:
        self._pcm += pcm
        try:
            self._current().feed(pcm)
        except FAILURES as error:
            self._next(error)

    def finish(self) -> Transcript:
        while True:
            try:
                return self._current().finish()
            except FAILURES as error:
                self._next(error)

    def close(self) -> None:
        self._closed = True
        if self._stream is not None:
            self._stream.close()
        self._pcm = bytearray()

    def _current(self) -> AsrStream:
        if self._stream is None or self._closed:
            raise VendorUnavailable(self._owner.name, "the stream was closed")
        return self._stream

    def _next(self, error: Exception | None) -> None:
        # The next provider that opens and takes what was said so far. Raises the last error when there is none.
        while True:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            if self._closed or not self._left:
                raise error or VendorUnavailable(self._owner.name, "the stream was closed")
            provider = self._left.popleft()
            if error is not None:
                log.warning("fallback", kind="asr", provider=provider.name, error=str(error))
            try:
                self._stream = provider.open(self._context)
                if self._pcm:
                    self._stream.feed(bytes(self._pcm))
                return
            except FAILURES as failed:
                error = failed


class FallbackTts(Fallback, Tts):
    """For vendors that speak a whole reply in one session: the next one continues with the first sentence nobody has heard."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.sample_rate = self.providers[0].sample_rate

    @property
    def voice_key(self) -> str:
        """The first's: it is the voice that is meant."""
        return str(self.providers[0].voice_key)

    def open(self, context: CallContext) -> TtsStream:
        """A stream at the first provider that opens one."""
        return _FallbackReply(self, context)


class _FallbackReply(TtsStream):
    """`say` only notes the sentence; a feeder greenlet passes them on to the current provider's stream, which may block it. When that
    stream fails, `events` opens the next one and a new feeder starts with the first sentence that has made no sound."""

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
        # A sentence is announced with its first sound, or when it turns out to have none: until then another provider may have to say it.
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
