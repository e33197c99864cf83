"""Scripted providers for the tests of wrappers, and what reads their answers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import gevent
import gevent.queue

from tests.fakes.voice import speech_of
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import (
    VendorUnavailable,
)
from xiaozhi.providers.contracts.asr import Asr, AsrStream, BatchAsr, Transcript
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.tts import (
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SentenceTts,
    Sound,
    SpeechEnds,
    SpeechEvent,
    StreamingTts,
    TtsStream,
    TtsTraits,
)
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.runtime.resilience import RetryOptions

CONTEXT = CallContext(device_id="d1")


QUICK = RetryOptions(attempts=3, first=0.0, longest=0.0)


class Voice(SentenceTts):
    """Says "<sentence>#1", "<sentence>#2"; `script` may replace that for a sentence."""

    type_name = "voice"

    def __init__(self, name: str = "voice", rate: int = 24_000) -> None:
        self.name = name
        self.traits = TtsTraits(streaming=False, sample_rate=rate, voice_key=name)
        self.script: dict[str, Callable[[], Iterator[Sound]]] = {}
        self.asked: list[str] = []
        self.left: list[str] = []

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        self.asked.append(sentence)
        try:
            if sentence in self.script:
                yield from self.script[sentence]()
            else:
                yield from (Pcm(f"{sentence}#{part}".encode()) for part in (1, 2))
        finally:
            self.left.append(sentence)


def fails(error: Exception, *before: Sound) -> Callable[[], Iterator[Sound]]:
    def sounds() -> Iterator[Sound]:
        yield from before
        raise error

    return sounds


def heard(stream: TtsStream) -> list[str]:
    """Sentences and pieces of sound, also of pieces that were handed on together."""
    found: list[str] = []
    for event in speech_of(stream):
        if isinstance(event, SentenceBegins):
            found.append(event.text)
        elif isinstance(event, Pcm):
            found += re.findall(r".+?#\d", event.data.decode())
    return found


def take(stream: TtsStream, count: int) -> list[SpeechEvent]:
    """The next events."""
    return list(itertools.islice(speech_of(stream), count))


def settle() -> None:
    """The turn of everybody who can go on."""
    for _ in range(20):
        gevent.sleep(0)


END = SentenceEnds()


class Model(Llm):
    """Says `pieces`, after raising `errors` one per call."""

    type_name = "model"

    def __init__(self, *pieces: str | ToolCall, errors: Sequence[Exception] = (), name: str = "model") -> None:
        self.name = name
        self.pieces = pieces
        self.errors = list(errors)
        self.calls = 0
        self.running = 0
        self.most = 0

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            gevent.sleep(0)
            if self.errors:
                raise self.errors.pop(0)
            yield from self.pieces
        finally:
            self.running -= 1


def ask(model: Llm, context: CallContext = CONTEXT) -> list[str | ToolCall]:
    return list(model.chat([], [], context))


class Ears(BatchAsr):
    type_name = "ears"

    def __init__(self, text: str = "heard", errors: Sequence[Exception] = (), name: str = "ears") -> None:
        self.name = name
        self.text = text
        self.errors = list(errors)

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        if self.errors:
            raise self.errors.pop(0)
        return Transcript(f"{self.text} {len(pcm)}")


def listen(asr: Asr, *sounds: bytes) -> str:
    stream = asr.open(CONTEXT)
    try:
        for sound in sounds:
            stream.feed(sound)
        return stream.finish().text
    finally:
        stream.close()


class LiveEars(Asr):
    """A streaming recogniser; `fail_at` names the method that raises."""

    type_name = "live"

    def __init__(self, name: str = "live", *, fail_at: str = "", error: Exception | None = None) -> None:
        self.name = name
        self.fail_at = fail_at
        self.error = error or VendorUnavailable(name)
        self.fed: list[bytes] = []
        self.closed = 0

    def open(self, context: CallContext) -> AsrStream:
        self.check("open")
        return _LiveStream(self)

    def check(self, where: str) -> None:
        if self.fail_at == where:
            raise self.error


class _LiveStream(AsrStream):
    def __init__(self, ears: LiveEars) -> None:
        self._ears = ears

    def feed(self, pcm: bytes) -> None:
        self._ears.check("feed")
        self._ears.fed.append(pcm)
        self.partial = f"{self._ears.name} {len(self._ears.fed)}"

    def finish(self) -> Transcript:
        self._ears.check("finish")
        return Transcript(f"{self._ears.name} {b''.join(self._ears.fed).decode()}")

    def close(self) -> None:
        self._ears.closed += 1


class Speech(StreamingTts):
    """A streaming voice: takes sentences at once, says them back; fails after `fail_after` sounds or at open, say or
    finish; makes no sound while `silent`."""

    type_name = "speech"

    def __init__(
        self, name: str = "speech", rate: int = 16_000, *, fail_after: int | None = None, fail_at: str = ""
    ) -> None:
        self.name = name
        self.traits = TtsTraits(sample_rate=rate, voice_key=name)
        self.fail_after = fail_after
        self.fail_at = fail_at
        self.silent = False
        self.closed = 0
        self.said: list[str] = []

    def open(self, context: CallContext) -> TtsStream:
        if self.fail_at == "open":
            raise VendorUnavailable(self.name)
        return _SpeechStream(self)


class _SpeechStream(TtsStream):
    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._events: gevent.queue.Queue[SpeechEvent | None] = gevent.queue.Queue()
        self._sounds = 0
        self._closed = False

    def say(self, sentence: str) -> None:
        self._check()
        if self._speech.fail_at == "say":
            raise VendorUnavailable(self._speech.name)
        self._speech.said.append(sentence)
        for event in (SentenceBegins(sentence), *self._sound(sentence), END):
            self._events.put(event)

    def _sound(self, sentence: str) -> list[Pcm]:
        return [Pcm(f"{self._speech.name}:{sentence}#{part}".encode()) for part in (1, 2)]

    def finish(self) -> None:
        self._events.put(SpeechEnds())

    def receive(self, timeout: float) -> SpeechEvent | None:
        self._check()
        if self._speech.silent:
            gevent.sleep(timeout)  # sleep: it is silent for so long
            return None
        try:
            event = self._events.get(timeout=timeout)
        except gevent.queue.Empty:
            return None
        self._check()
        if isinstance(event, Pcm):
            if self._sounds == self._speech.fail_after:
                raise VendorUnavailable(self._speech.name)
            self._sounds += 1
        if isinstance(event, SpeechEnds):
            self._events.put(event)
        return event

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._speech.closed += 1
            self._events.put(None)

    def _check(self) -> None:
        if self._closed:
            raise VendorUnavailable(self._speech.name, "closed")


class Eyes(Vllm):
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.error = error

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        if self.error is not None:
            raise self.error
        return f"{self.name}: {question} {mime} {len(image)}"
