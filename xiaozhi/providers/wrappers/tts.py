"""Guard and fallback of TTS, for both kinds of vendors. A fallback goes on with the first sentence nobody has heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import gevent

from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorTimeout, VendorUnavailable, XiaozhiError
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SentenceTts,
    Sound,
    SpeechEnds,
    SpeechEvent,
    StreamingTts,
    Tts,
    TtsStream,
)
from xiaozhi.providers.wrappers.fallback import FAILURES, FallbackProvider
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.providers.wrappers.sentence_stream import open_speech
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import Attempt

log = get_logger(__name__)

OPEN_DEADLINE_S = 10.0
"""How long the next vendor of a fallback may take to connect while an answer is being spoken."""


class GuardedSentenceTts(GuardedProvider, SentenceTts):
    """One place per sentence. A sentence that cannot be spoken is one failure, however often it was tried."""

    counts_tries = False

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        return self.guard.iterate(lambda: self.inner.synthesize(sentence, context))


class GuardedStreamingTts(GuardedProvider, StreamingTts):
    """One place per answer, until all of its speech has been received."""

    def open(self, context: CallContext) -> TtsStream:
        """As the provider inside; raises CircuitOpen and Overloaded as well."""
        stream, attempt = self.guard.begin(lambda: self.inner.open(context))
        return _GuardedSpeech(stream, attempt)


class _GuardedSpeech(TtsStream):
    """Tells the guard's attempt how the speech goes."""

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

    def receive(self, timeout: float) -> SpeechEvent | None:
        try:
            event = self._inner.receive(timeout)
        except BaseException as error:
            self._attempt.end(error)
            raise
        if isinstance(event, SpeechEnds):
            self._attempt.end()
        elif event is not None:
            self._attempt.first()
        return event

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._attempt.end(gevent.GreenletExit())


def marked(sound: Sound, provider: Tts, *, substitute: bool) -> Sound:
    """`sound` of `provider`, so that it no longer depends on whose sample rate is meant, and tells whether it is made
    by another voice than the selected one."""
    if isinstance(sound, Pcm) and (substitute or not sound.rate):
        return Pcm(sound.data, sound.rate or provider.traits.sample_rate, substitute or sound.substitute)
    if isinstance(sound, OpusPackets) and substitute:
        return OpusPackets(sound.packets, sound.frame_ms, True)
    return sound


class FallbackSentenceTts(FallbackProvider, SentenceTts):
    """The next voice says the same sentence."""

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of the first that makes one."""
        return self.first_to_yield(lambda provider: self._sounds(provider, sentence, context))

    def _sounds(self, provider: SentenceTts, sentence: str, context: CallContext) -> Iterator[Sound]:
        substitute = provider is not self.providers[0]
        for sound in provider.synthesize(sentence, context):
            yield marked(sound, provider, substitute=substitute)


class FallbackStreamingTts(FallbackProvider, StreamingTts):
    """For vendors that speak a whole answer in one session, and for both kinds mixed: the next one continues with the
    first sentence nobody has heard."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.traits = replace(self.traits, streaming=True)  # also when the first takes single sentences

    def open(self, context: CallContext) -> TtsStream:
        """A stream at the first provider that opens one."""
        return _FallbackSpeech(self, context)


class _FallbackSpeech(TtsStream):
    """Keeps every sentence until it has made a sound, so that another provider can say it.

    The change happens in `receive`, which blocks while the next provider connects; `say` and `finish` only note that
    their provider has failed."""

    def __init__(self, owner: FallbackStreamingTts, context: CallContext) -> None:
        self._owner = owner
        self._context = context
        self._left = deque(owner.providers)
        self._unheard: deque[str] = deque()
        """Said, and no sound yet."""
        self._begins: SentenceBegins | None = None
        """Announced by the provider, and kept back until its sound: another provider may have to say the sentence."""
        self._ready: deque[SpeechEvent] = deque()
        """To be received before anything else."""
        self._in_sentence = False
        self._finished = False
        self._closed = False
        self._exhausted = False
        """No provider is left."""
        self._provider: Any = None
        self._stream: TtsStream | None = None
        """None while the next provider connects, and when there is none."""
        self._failure: Exception | None = None
        """Why the present stream is of no use."""
        self._change()

    def say(self, sentence: str) -> None:
        self._check()
        if len(self._unheard) >= MAX_WAITING_SENTENCES:
            raise Overloaded(self._owner.name)
        self._unheard.append(sentence)
        if self._stream is not None and self._failure is None:
            try:
                self._stream.say(sentence)
            except FAILURES as error:
                self._failure = error

    def finish(self) -> None:
        self._finished = True
        if self._stream is not None:
            self._stream.finish()

    def receive(self, timeout: float) -> SpeechEvent | None:
        while not self._ready:
            self._check()
            if self._failure is not None or self._stream is None:
                self._change()
                continue
            try:
                event = self._stream.receive(timeout)
            except FAILURES as error:
                self._failure = error
                continue
            if event is None:
                return None
            self._take(event)
        return self._ready.popleft()

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _check(self) -> None:
        if self._closed:
            raise VendorUnavailable(self._owner.name, "the stream was closed")
        if self._exhausted:
            raise self._failure or VendorUnavailable(self._owner.name, "no provider")

    def _take(self, event: SpeechEvent) -> None:
        if isinstance(event, SentenceBegins):
            self._begins = event
            return
        if self._begins is not None:
            self._ready.append(self._begins)
            self._begins = None
            self._unheard.popleft()
        self._in_sentence = isinstance(event, Pcm | OpusPackets)
        if isinstance(event, Pcm | OpusPackets):
            event = marked(event, self._provider, substitute=self._provider is not self._owner.providers[0])
        self._ready.append(event)

    def _change(self) -> None:
        """To the next provider that opens; it gets what nobody has heard. Raises the last error when there is none."""
        self._drop()
        self._begins = None
        while self._left and not self._closed:
            self._provider = self._left.popleft()
            if self._failure is not None:
                log.warning("fallback", kind="tts", provider=self._provider.name, error=str(self._failure))
            try:
                self._stream = self._opened()
                self._failure = None
                break
            except FAILURES as error:
                self._failure = error
        stream = self._stream
        self._exhausted = stream is None
        self._check()
        if self._finished and stream is not None:
            stream.finish()
        if self._in_sentence:  # it broke off, and is not said again
            self._in_sentence = False
            self._ready.append(SentenceEnds(whole=False))

    def _opened(self) -> TtsStream:
        """A stream of the present provider that has been told everything."""
        with at_most(OPEN_DEADLINE_S, VendorTimeout(self._provider.name, "not connected in time")):
            # As long as another one is left, it says what this one cannot.
            stream = open_speech(self._provider, self._context, skips=not self._left)
        try:
            told = 0
            while told < len(self._unheard):  # more may be said meanwhile
                stream.say(self._unheard[told])
                told += 1
            self._check()
        except BaseException:
            stream.close()
            raise
        return stream

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
