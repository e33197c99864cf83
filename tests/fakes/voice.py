"""A voice without a synthesiser: every sentence is a tone as long as the sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import gevent
from gevent.event import Event
from gevent.queue import Queue

from tests.fakes.sound import tone
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.tts import (
    Pcm,
    SentenceBegins,
    SentenceTts,
    Sound,
    SpeechEvent,
    Tts,
    TtsStream,
    TtsTraits,
)

CHUNK_MS = 100
LOOK_AHEAD = 4


class FakeTts(Tts):
    """`ms_per_char` of tone per character, after `delay` seconds per sentence. `errors` maps a sentence to what is
    raised instead of it.

    `said` is every sentence of every stream; `streams` are all that were opened."""

    type_name = "fake"

    def __init__(
        self,
        *,
        ms_per_char: int = 20,
        delay: float = 0.0,
        sample_rate: int = 24_000,
        errors: Mapping[str, Exception] | None = None,
    ) -> None:
        self.ms_per_char = ms_per_char
        self.delay = delay
        self.traits = TtsTraits(offline=True, sample_rate=sample_rate)
        self.errors = dict(errors or {})
        self.said: list[str] = []
        self.streams: list[FakeTtsStream] = []

    def open(self, context: CallContext) -> TtsStream:
        stream = FakeTtsStream(self)
        self.streams.append(stream)
        return stream

    def sound_of(self, sentence: str) -> Iterator[Pcm]:
        """What a sentence sounds like, in chunks."""
        if (error := self.errors.get(sentence)) is not None:
            raise error
        gevent.sleep(self.delay)
        pcm = tone(max(20, self.ms_per_char * len(sentence)), self.traits.sample_rate)
        step = 2 * self.traits.sample_rate * CHUNK_MS // 1000
        for at in range(0, len(pcm), step):
            yield Pcm(pcm[at : at + step])


class FakeTtsStream(TtsStream):
    """`closed` tells whether somebody cleaned up."""

    def __init__(self, tts: FakeTts) -> None:
        self._tts = tts
        self._sentences: Queue[str | None] = Queue(LOOK_AHEAD)
        self._gone = Event()

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._gone.is_set()

    def say(self, sentence: str) -> None:
        if self.closed:
            raise VendorUnavailable("fake", "the stream is closed")
        self._tts.said.append(sentence)
        self._sentences.put(sentence)

    def finish(self) -> None:
        self._sentences.put(None)

    def events(self) -> Iterator[SpeechEvent]:
        while not self.closed and (sentence := self._sentences.get()) is not None:
            yield SentenceBegins(sentence)
            for sound in self._tts.sound_of(sentence):
                if self.closed:
                    return
                yield sound

    def close(self) -> None:
        self._gone.set()
        # Wakes both sides: whoever waits to say (there is room now) and whoever waits for a sentence.
        while not self._sentences.empty():
            self._sentences.get_nowait()
        self._sentences.put_nowait(None)


class FakeSentenceTts(SentenceTts):
    """The same voice for code that wants a one-request-per-sentence provider."""

    type_name = "fake_sentence"

    def __init__(self, **options: object) -> None:
        self._voice = FakeTts(**options)  # type: ignore[arg-type]
        self.traits = replace(self._voice.traits, streaming=False)

    @property
    def said(self) -> list[str]:
        """Every sentence asked for."""
        return self._voice.said

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        self._voice.said.append(sentence)
        yield from self._voice.sound_of(sentence)
