"""A voice without a synthesiser: every sentence is a tone as long as the sentence."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace

import gevent
from gevent.event import Event
from gevent.queue import Queue

from tests.fakes.sound import tone
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.tts import (
    Pcm,
    SentenceEnds,
    SentenceTts,
    Sound,
    SpeechEnds,
    SpeechEvent,
    TtsStream,
    TtsTraits,
)
from xiaozhi.providers.tts_session import SessionTts, TtsSession

CHUNK_MS = 100
PATIENCE_S = 5.0


def speech_of(stream: TtsStream, patience: float = PATIENCE_S) -> Iterator[SpeechEvent]:
    """The events of `stream` up to SpeechEnds, which is left out. Raises what `receive` raises, and TimeoutError after
    `patience` seconds without an event."""
    until = time.monotonic() + patience
    while True:
        event = stream.receive(0.5)
        if isinstance(event, SpeechEnds):
            return
        if event is not None:
            yield event
            until = time.monotonic() + patience
        elif time.monotonic() > until:
            raise TimeoutError(f"nothing for {patience:g} s")


class FakeTts(SessionTts):
    """`ms_per_char` of tone per character, after `delay` seconds per sentence. `errors` maps a sentence to what is
    raised instead of it.

    `said` is every sentence of every session; `sessions` are all that were opened."""

    type_name = "fake"

    def __init__(
        self,
        *,
        ms_per_char: int = 20,
        delay: float = 0.0,
        sample_rate: int = 24_000,
        errors: Mapping[str, Exception] | None = None,
    ) -> None:
        super().__init__(timeout=PATIENCE_S)
        self.ms_per_char = ms_per_char
        self.delay = delay
        self.traits = TtsTraits(offline=True, sample_rate=sample_rate)
        self.errors = dict(errors or {})
        self.said: list[str] = []
        self.sessions: list[FakeTtsSession] = []

    def connect(self, context: CallContext) -> TtsSession:
        self.sessions.append(FakeTtsSession(self))
        return self.sessions[-1]

    def sound_of(self, sentence: str) -> Iterator[Pcm]:
        """What a sentence sounds like, in chunks."""
        if (error := self.errors.get(sentence)) is not None:
            raise error
        gevent.sleep(self.delay)  # sleep: the vendor is slow
        pcm = tone(max(20, self.ms_per_char * len(sentence)), self.traits.sample_rate)
        step = 2 * self.traits.sample_rate * CHUNK_MS // 1000
        for at in range(0, len(pcm), step):
            yield Pcm(pcm[at : at + step])


class FakeTtsSession(TtsSession):
    """`hung_up` tells whether it was interrupted, `over` whether its reader has
    ended; `gone` is set when it is interrupted."""

    def __init__(self, tts: FakeTts) -> None:
        self._tts = tts
        self._sentences: Queue[str | None] = Queue()
        self.hung_up = False
        self.over = False
        self.gone = Event()

    def send_sentence(self, sentence: str) -> None:
        self._tts.said.append(sentence)
        self._sentences.put(sentence)

    def send_end(self) -> None:
        self._sentences.put(None)

    def read(self) -> Generator[SpeechEvent | None]:
        try:
            while (sentence := self._sentences.get()) is not None:
                yield from self._tts.sound_of(sentence)
                yield SentenceEnds()
        finally:
            self.over = True

    def hang_up(self) -> None:
        self.hung_up = True
        self.gone.set()
        self._sentences.put(None)


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
