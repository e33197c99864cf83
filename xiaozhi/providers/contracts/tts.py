"""Speech synthesis: sentences in, sound out, in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


@dataclass(frozen=True, slots=True)
class SentenceBegins:
    """All sound that follows belongs to this sentence, until the next one begins. `text` as it was given to `say`."""

    text: str


@dataclass(frozen=True, slots=True)
class Pcm:
    """s16le mono PCM, any even number of bytes, at `rate` Hz (0: the provider's `sample_rate`).

    `substitute`: made by another voice than the one that was asked for (a fallback), so nobody may keep it under that
    voice's name."""

    data: bytes
    rate: int = 0
    substitute: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class OpusPackets:
    """Ready mono Opus packets (RFC 6716), each of `frame_ms` (2.5..60), that need no re-encoding. `substitute`: as for
    `Pcm`."""

    packets: tuple[bytes, ...]
    frame_ms: float
    substitute: bool = field(default=False, compare=False)


Sound = Pcm | OpusPackets


SpeechEvent = SentenceBegins | Pcm | OpusPackets


class TtsStream(ABC):
    """One reply. One greenlet may `say` while another iterates `events`."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """Queue one speakable sentence; blocks while the look-ahead is full. Raises VendorError when the stream has
        failed."""

    @abstractmethod
    def finish(self) -> None:
        """No more sentences will come; `events` ends after the last one's sound."""

    @abstractmethod
    def events(self) -> Iterator[SpeechEvent]:
        """Sentences and their sound strictly in the order of `say`. Raises VendorError."""

    @abstractmethod
    def close(self) -> None:
        """Stop now; idempotent, callable from any greenlet."""


@dataclass(frozen=True, slots=True)
class TtsTraits(ProviderTraits):
    """What a voice can do and how it sounds."""

    streaming: bool = True
    """True: text goes in while sound comes out (one vendor session per reply). False: one request per sentence."""
    sample_rate: int = 24_000
    """Hz of every `Pcm` that does not say otherwise."""
    voice_key: str = ""
    """Changes whenever the same text would sound different: voice, speed, model. With the provider's name it is part of
    the speech cache's key."""


class Tts(Provider, ABC):
    """Speech synthesis."""

    kind: ClassVar[str] = "tts"
    traits: TtsTraits = TtsTraits()

    @abstractmethod
    def open(self, context: CallContext) -> TtsStream:
        """A stream for one reply. May connect; raises VendorError."""


class SentenceTts(Tts):
    """For vendors that take one sentence per request: implement `synthesize`; look-ahead and order are given by
    `providers/adapters.py`, which the composition root wraps around it."""

    traits: TtsTraits = TtsTraits(streaming=False)

    @abstractmethod
    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes. Raises VendorError."""

    def open(self, context: CallContext) -> TtsStream:
        from xiaozhi.providers.wrappers.sentence_stream import SentenceStream  # the adapter needs this module

        return SentenceStream(self, context)
