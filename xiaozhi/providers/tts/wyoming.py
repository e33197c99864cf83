"""Any voice of Home Assistant (Piper, Kokoro, ...) over the Wyoming protocol.

Source: github.com/OHF-Voice/wyoming, README, "Text to Speech". Services that say so (`supports_synthesize_streaming`)
take text while they speak; they cut it themselves, at an empty line at the latest, and our sentences are found in the
sound (`families/spoken_sentences.py`). The others get one sentence after the other, each over a connection of its own,
as Home Assistant asks them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from gevent.queue import Empty, Queue
from pydantic import AliasChoices, Field, model_validator

from xiaozhi.audio.decode import RawDecoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SpeechEvent,
    TtsTraits,
)
from xiaozhi.providers.families.spoken_sentences import SpokenSentences
from xiaozhi.providers.families.wyoming import WyomingConnection, WyomingEvent, WyomingOptions, WyomingService
from xiaozhi.providers.registry import provider
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession

SENTENCE_ENDS = "\n\n"
"""Services wait for what follows a sentence unless an empty line does."""
USUAL_RATE = 22_050
"""Hz, of Piper's voices; every piece of sound says its own."""


class WyomingTtsOptions(WyomingOptions):
    """`voice`: by its name in the service, with a `speaker` where it has several; or only a `language`. The service's
    own where all of them are empty."""

    port: int = Field(10200, ge=1, le=65_535)
    voice: str = Field("", validation_alias=AliasChoices("private_voice", "voice", "model"))
    speaker: str = ""
    language: str = ""
    timeout: float = Field(15.0, gt=0)
    """Seconds without a sign of life while the service owes sound."""

    @model_validator(mode="after")
    def _speaker_of_a_voice(self) -> WyomingTtsOptions:
        if self.speaker and not self.voice:
            raise ValueError("speaker needs a voice")
        return self

    def request(self) -> dict[str, Any]:
        """Which voice it shall be; a name stands above a language."""
        if self.voice:
            return {"voice": {"name": self.voice} | ({"speaker": self.speaker} if self.speaker else {})}
        return {"voice": {"language": self.language}} if self.language else {}


@provider("tts", "wyoming", WyomingTtsOptions)
class WyomingTts(SessionTts):
    """One connection per answer, or per sentence."""

    def __init__(self, options: WyomingTtsOptions) -> None:
        super().__init__(timeout=options.timeout, marks_sentences=False)
        self.timeout = options.timeout
        self.request = options.request()
        self.traits = TtsTraits(sample_rate=USUAL_RATE)
        self._voice = options.voice
        self._service = WyomingService("tts", options, options.port)

    def warm_up(self) -> None:
        """Ask the service what it offers."""
        self._service.warm_up(self.vendor, "voices", self._voice)

    def connect(self, context: CallContext) -> TtsSession:
        """A session of the kind that the service has."""
        programs = self._service.programs(self.vendor)
        streams = any(program.get("supports_synthesize_streaming") for program in programs)
        return _Streamed(self, self.dial()) if streams else _BySentence(self, self.dial())

    def dial(self) -> WyomingConnection:
        """A connection. Raises VendorError."""
        self.check_open()
        return self._service.connect(self.vendor)


class _Streamed(TtsSession):
    def __init__(self, owner: WyomingTts, connection: WyomingConnection) -> None:
        self._owner = owner
        self._connection = connection
        self._texts: list[str] = []
        self._spoken = SpokenSentences("pcm", USUAL_RATE, marked=False)
        try:
            connection.send("synthesize-start", owner.request)
        except BaseException:
            connection.close()
            raise

    def send_sentence(self, sentence: str) -> None:
        self._spoken.said(sentence)
        self._texts.append(sentence + SENTENCE_ENDS)
        self._connection.send("synthesize-chunk", {"text": self._texts[-1]})

    def send_end(self) -> None:
        if self._texts:  # the protocol wants the whole once more, for services that do not know the pieces
            self._connection.send("synthesize", {"text": "".join(self._texts), **self._owner.request})
        self._connection.send("synthesize-stop")

    def read(self) -> Generator[SpeechEvent | None]:
        pcm = _Pcm(self._owner.vendor)
        with self._connection as connection:
            while (event := connection.receive(WAIT_S)).type != "synthesize-stopped":
                for sound in pcm.of(event):
                    yield from self._spoken.pcm(sound.data, sound.rate)
                yield None

    def hang_up(self) -> None:
        self._connection.close()


class _BySentence(TtsSession):
    def __init__(self, owner: WyomingTts, connection: WyomingConnection) -> None:
        self._owner = owner
        self._connection = connection
        self._fresh = True
        """The connection has not been used."""
        self._hung_up = False
        self._sentences: Queue[str | None] = Queue(MAX_WAITING_SENTENCES + 2)
        """None: no more will come."""

    def send_sentence(self, sentence: str) -> None:
        self._sentences.put_nowait(sentence)

    def send_end(self) -> None:
        self._sentences.put_nowait(None)

    def read(self) -> Generator[SpeechEvent | None]:
        try:
            while (sentence := self._next()) is not None:
                yield from self._spoken(sentence)
        finally:
            self._connection.close()

    def hang_up(self) -> None:
        self._hung_up = True
        self._connection.close()
        self._sentences.put_nowait(None)

    def _next(self) -> str | None:
        try:
            sentence: str | None = self._sentences.get(timeout=WAIT_S)
        except Empty:
            raise VendorTimeout(self._owner.vendor, f"no text within {WAIT_S:g} s") from None
        return sentence

    def _spoken(self, sentence: str) -> Iterator[SpeechEvent]:
        if not self._fresh:
            self._connection.close()
            self._connection = self._owner.dial()
        self._fresh = False
        if self._hung_up:
            raise VendorUnavailable(self._owner.vendor, "closed")
        self._connection.send("synthesize", {"text": sentence, **self._owner.request})
        pcm = _Pcm(self._owner.vendor)
        silent = True
        while (event := self._connection.receive(self._owner.timeout)).type != "audio-stop":
            for sound in pcm.of(event):
                silent = False
                yield sound
        if silent:
            yield SentenceBegins(sentence)
        yield SentenceEnds()


class _Pcm:
    """Events of sound -> s16le mono PCM."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._decoder: RawDecoder | None = None
        self._form: tuple[Any, ...] = ()

    def of(self, event: WyomingEvent) -> Iterator[Pcm]:
        """The sound of one event, if it is one of sound. Raises VendorGarbage."""
        if event.type != "audio-chunk":
            return
        pcm = self._decoder_for(event.data).feed(event.payload)
        if pcm:
            yield Pcm(pcm, event.data["rate"])

    def _decoder_for(self, data: Mapping[str, Any]) -> RawDecoder:
        form = data.get("rate"), data.get("width"), data.get("channels")
        if self._decoder is None or form != self._form:
            rate, width, channels = form
            if not isinstance(rate, int) or not 8_000 <= rate <= 48_000 or width != 2 or channels not in (1, 2):
                raise VendorGarbage(self._vendor, f"sound of {rate} Hz, {width} bytes, {channels} channels")
            self._decoder, self._form = RawDecoder(rate, channels), form
        return self._decoder
