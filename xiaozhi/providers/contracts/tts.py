"""Text to speech (TTS): sentences in, speech events out, in the order of the sentences.

    say("Hello."), say("How are you?"), finish()
    receive(1.0) ─► SentenceBegins("Hello.")        Pcm Pcm SentenceEnds
                    SentenceBegins("How are you?")  Pcm     SentenceEnds    SpeechEnds

Two kinds of vendors. `SentenceTts` takes one sentence per request; its author writes `synthesize` and nothing else.
`StreamingTts` takes text while it sends sound (one session per answer, most often over a WebSocket); its author writes
`open` and a `TtsStream`, for which `providers/tts_session.py` has the base class. Whoever speaks with either kind asks
`providers/wrappers` for a stream (`open_speech`): the contracts know nothing of greenlets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Provider, ProviderTraits

MAX_WAITING_SENTENCES = 256
"""Sentences that a stream takes ahead of the sound: said, and not begun. `say` raises Overloaded beyond that."""


@dataclass(frozen=True, slots=True)
class SentenceBegins:
    """All sound that follows belongs to this sentence, until its `SentenceEnds`. `text` as it was given to `say`."""

    text: str


@dataclass(frozen=True, slots=True)
class SentenceEnds:
    """The sentence is over. A vendor that does not mark its sentences sends it late: together with the next
    `SentenceBegins`, or with the end of the speech.

    `whole`: False when the rest of it, or all of it, could not be spoken."""

    whole: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class SpeechEnds:
    """The speech is complete: every sentence has ended, and nothing comes any more. `receive` repeats it."""


@dataclass(frozen=True, slots=True)
class Pcm:
    """s16le mono PCM, any even number of bytes, at `rate` Hz (0: the provider's `sample_rate`).

    `substitute`: another voice than the selected one (a fallback) made this sound, so it may not be cached under the
    selected voice's key."""

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


SpeechEvent = SentenceBegins | Pcm | OpusPackets | SentenceEnds | SpeechEnds


class TtsStream(ABC):
    """The speech of one answer.

    One greenlet may `say` and `finish` while another receives. `close` may come from any greenlet at any time."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """Queue one sentence. Never waits: neither for the vendor nor for whoever receives.

        Raises VendorError when the stream has failed or was closed, and Overloaded when `MAX_WAITING_SENTENCES`
        sentences wait for their `SentenceBegins` already. A caller that counts those never sees Overloaded."""

    @abstractmethod
    def finish(self) -> None:
        """No more sentences will come; the last one is followed by `SpeechEnds`. Idempotent, never waits, never
        raises."""

    @abstractmethod
    def receive(self, timeout: float) -> SpeechEvent | None:
        """The next event; None when none came within `timeout` seconds, which leaves the stream as it is.

        `SentenceBegins`, its sound, `SentenceEnds` for each sentence in the order of `say`, and after `finish` one
        `SpeechEnds`. One sentence that cannot be spoken need not fail the others: it ends without being `whole`.

        Raises VendorError or Overloaded when the speech has failed; sound that came before the failure is received
        first. Raises VendorUnavailable after `close`. A fallback that connects to its next vendor may need longer than
        `timeout`."""

    @abstractmethod
    def close(self) -> None:
        """Stop now: the vendor's work ends, a `receive` that waits raises VendorUnavailable, and so does every later
        `say` and `receive`. Idempotent; never waits for the vendor."""


@dataclass(frozen=True, slots=True)
class TtsTraits(ProviderTraits):
    """What a voice can do and how it sounds."""

    streaming: bool = True
    """True: text goes in while sound comes out (one vendor session per answer). False: one request per sentence."""
    sample_rate: int = 24_000
    """Hz of every `Pcm` that does not carry its own rate."""
    voice_key: str = ""
    """Changes whenever the same text would sound different; with the provider's name it is part of the speech cache's
    key. Given by the provider pool, which makes it of everything in the block: no provider can forget a setting."""


class Tts(Provider, ABC):
    """Text to speech of either kind: `StreamingTts` or `SentenceTts`."""

    kind: ClassVar[str] = "tts"
    traits: TtsTraits = TtsTraits()


class StreamingTts(Tts):
    """For vendors that take text while they send sound."""

    @abstractmethod
    def open(self, context: CallContext) -> TtsStream:
        """A stream for one answer. May connect, and so may block; raises VendorError, Overloaded."""


class SentenceTts(Tts):
    """For vendors that take one sentence per request: implement `synthesize`. Order, look-ahead and interrupts are
    given by the stream that `providers/wrappers` makes of it."""

    traits: TtsTraits = TtsTraits(streaming=False)

    @abstractmethod
    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes. Raises VendorError, Overloaded. Closing the iterator, or killing the
        greenlet, ends the request."""
