"""Speech recognition: the sound of one utterance in, its text out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Provider, ProviderTraits

ASR_SAMPLE_RATE = 16_000
"""Hz. Every Asr, Vad and Voiceprint receives s16le mono PCM at this rate."""
SHORTEST_BYTES = ASR_SAMPLE_RATE // 10 * 2
"""Vendors refuse less than a tenth of a second; nobody says anything in it either."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. Empty `text`: nothing intelligible (refused, noise), which is not an error."""

    text: str
    language: str = ""
    emotion: str = ""
    confidence: float | None = None


class AsrStream(ABC):
    """One utterance."""

    partial: str = ""
    """The best text so far where the vendor gives partial results."""

    @abstractmethod
    def feed(self, pcm: bytes) -> None:
        """Append s16le mono 16 kHz PCM of any length. Raises VendorError; may block for the vendor's back-pressure,
        briefly."""

    @abstractmethod
    def finish(self) -> Transcript:
        """The utterance is complete: wait for its text. Called at most once. Raises VendorError, Overloaded."""

    @abstractmethod
    def close(self) -> None:
        """Abandon (or clean up after) the utterance; idempotent, callable from any greenlet."""


@dataclass(frozen=True, slots=True)
class AsrTraits(ProviderTraits):
    """What a recogniser can do."""

    streaming: bool = True
    """Works while the user still speaks. False: gets the whole utterance at its end."""
    unheard_reply: str = ""
    """Spoken when a clearly voiced utterance gave no text; "" (the default): nothing is said, as for noise."""
    longest_s: float = 0.0
    """Seconds of an utterance that the vendor hears at most; 0: any. Of the class: a configuration is checked by it."""


class Asr(Provider, ABC):
    """Speech recognition."""

    kind: ClassVar[str] = "asr"
    traits: AsrTraits = AsrTraits()

    @abstractmethod
    def open(self, context: CallContext) -> AsrStream:
        """A stream for one utterance. May connect; raises VendorError."""


class BatchAsr(Asr):
    """For vendors that want the whole utterance at once: implement `transcribe`, the buffering stream is given."""

    traits: AsrTraits = AsrTraits(streaming=False)

    @abstractmethod
    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of a whole utterance (s16le mono 16 kHz). Raises VendorError, Overloaded."""

    def open(self, context: CallContext) -> AsrStream:
        return _BufferedUtterance(self, context)


class _BufferedUtterance(AsrStream):
    def __init__(self, asr: BatchAsr, context: CallContext) -> None:
        self._asr = asr
        self._context = context
        self._pcm = bytearray()

    def feed(self, pcm: bytes) -> None:
        self._pcm += pcm

    def finish(self) -> Transcript:
        pcm, self._pcm = bytes(self._pcm), bytearray()
        return self._asr.transcribe(pcm, self._context)

    def close(self) -> None:
        self._pcm = bytearray()
