"""What a provider of each kind promises: Vad, Asr, Tts, Llm, Vllm, Memory, Intent, Voiceprint.

Blocking style throughout: a method returns when the work is done or raises a `VendorError`; the caller owns the greenlet, the
deadline and the retry. A provider object is shared by all devices and holds no state of any one of them; whatever belongs to
one utterance or one answer lives in the stream that `open()` returns. A provider never sees a session, a socket or Flask.

A stream is used by one greenlet at a time except where a method says otherwise; `close()` may be called by any greenlet at any
time, is idempotent, and makes a blocked peer return or raise: that is how an interrupt reaches the vendor.
Killing the greenlet inside any method must leave no connection, file or thread behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import Fault

if TYPE_CHECKING:
    from xiaozhi.runtime.inference import InferencePool

ASR_SAMPLE_RATE = 16_000
"""Hz. Every Asr, Vad and Voiceprint receives s16le mono PCM at this rate."""


class ProviderOptions(BaseModel):
    """The block of one provider in the configuration. Unknown keys are kept so that existing files load; they are named in a warning."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, coerce_numbers_to_str=True)

    type: str = ""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """What the composition root lends to providers that declare `needs_services = True`."""

    inference: InferencePool
    data_dir: Path = Path("data")
    config_dir: Path = Path("config")
    provider: Callable[[str, str], Any] | None = None
    """(kind, name) -> another configured provider, such as the language model that a memory summarises with."""
    now: Callable[[], datetime] = _utc_now
    """The time where the server's owner lives (aware)."""


class Provider:
    """Common to all kinds. `name` is the key of its block in the configuration, set by the registry."""

    kind: ClassVar[str] = ""
    type_name: ClassVar[str] = ""
    needs_services: ClassVar[bool] = False
    """True: constructed as `cls(options, services)`; False: `cls(options)`."""
    offline: ClassVar[bool] = False
    """True for providers that work without a network; they are never guarded by breakers."""

    name: str = ""

    @classmethod
    def faults(cls, options: Any, config_dir: Path) -> list[Fault]:
        """What is wrong with the files that `options` name, keys as a person finds them ("offline.yaml: rules.time"). Called whenever a
        configuration is checked, before anything is built: it must be quick."""
        return []

    def warm_up(self) -> None:
        """Load models and open pools before the first device needs them. May take seconds; called once at start."""

    def close(self) -> None:
        """Give back pools and connections. Idempotent; streams still open fail with a VendorError."""


# --- hearing -------------------------------------------------------------------------------------------------------


class VadStream(ABC):
    """Voice activity of one microphone. Model state and the residue shorter than a window live here."""

    @abstractmethod
    def feed(self, pcm: bytes) -> list[float]:
        """Speech probability (0..1) of each whole window that `pcm` (s16le mono 16 kHz) completes; blocks a few ms.

        Raises Overloaded when the inference pool cannot take it in time; nothing is lost: the probabilities owed come out of a later
        `feed`, in order (`feed(b"")` asks for them). A VendorError means that the stream has started anew, as after `reset`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the past: the next sample starts a new recording."""


class Vad(Provider, ABC):
    """Voice activity detection."""

    kind: ClassVar[str] = "vad"
    window_samples: ClassVar[int] = 512
    """Samples per probability at 16 kHz: 32 ms."""

    threshold: float = 0.5
    """A window is voiced from this probability up, ..."""
    threshold_low: float = 0.2
    """... unvoiced from this one down, and in between as the window before."""
    min_silence_ms: int = 700
    """This much silence ends an utterance."""
    pause_ms: int | None = None
    """This much silence may be the end; None: as the conversation's settings say."""

    @abstractmethod
    def open(self) -> VadStream:
        """A stream for one microphone."""

    def observe_batches(self, observe: Callable[[int], None]) -> None:
        """Tell `observe` the size of every batch, where the provider works in batches; it must not block."""


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
        """Append s16le mono 16 kHz PCM of any length. Raises VendorError; may block for the vendor's back-pressure, briefly."""

    @abstractmethod
    def finish(self) -> Transcript:
        """The utterance is complete: wait for its text. Called at most once. Raises VendorError, Overloaded."""

    @abstractmethod
    def close(self) -> None:
        """Abandon (or clean up after) the utterance; idempotent, callable from any greenlet."""


class Asr(Provider, ABC):
    """Speech recognition. `streaming` providers work while the user still speaks."""

    kind: ClassVar[str] = "asr"
    streaming: ClassVar[bool] = True

    unheard_reply: str = ""
    """Spoken when a clearly voiced utterance gave no text; "" (the default) stays silent, as noise deserves."""

    @abstractmethod
    def open(self, context: CallContext) -> AsrStream:
        """A stream for one utterance. May connect; raises VendorError."""


class BatchAsr(Asr):
    """For vendors that want the whole utterance at once: implement `transcribe`, the buffering stream is given."""

    streaming: ClassVar[bool] = False

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


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who spoke."""

    id: str
    name: str
    description: str = ""
    similarity: float = 0.0


class Voiceprint(Provider, ABC):
    """Speaker identification."""

    kind: ClassVar[str] = "voiceprint"

    @abstractmethod
    def identify(self, pcm: bytes) -> Speaker | None:
        """The known speaker of an utterance (s16le mono 16 kHz), or None. Raises VendorError."""


# --- thinking ------------------------------------------------------------------------------------------------------


class Llm(Provider, ABC):
    """A language model that streams."""

    kind: ClassVar[str] = "llm"
    calls_tools: ClassVar[bool] = True
    """False: `tools` is ignored and no ToolCall is ever yielded."""
    writes: ClassVar[bool] = True
    """False: it knows a few sentences of its own and cannot be asked to write anything, such as a summary."""

    @abstractmethod
    def chat(self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext) -> Iterator[str | ToolCall]:
        """Stream the answer: pieces of text as they come, and whole ToolCalls (assembled from the vendor's fragments).

        Closing the iterator (or killing the greenlet) closes the vendor's request. Raises VendorError, also in mid-stream."""


class Vllm(Provider, ABC):
    """A model that looks at pictures."""

    kind: ClassVar[str] = "vllm"

    @abstractmethod
    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """Answer `question` about an image of type `mime` ("image/jpeg"). Raises VendorError."""


class Memory(Provider, ABC):
    """What is remembered of a device's owner between visits."""

    kind: ClassVar[str] = "memory"
    remembers: ClassVar[bool] = True
    """False: there is nothing to recall or save, and nobody needs to ask."""

    @abstractmethod
    def recall(self, device_id: str, query: str) -> str:
        """Text for the system prompt, "" when there is none; on the way to the answer, so it must be quick. Raises VendorError."""

    @abstractmethod
    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        """Remember a visit; called once at its end, off the hot path; may take long. Raises VendorError."""


@dataclass(frozen=True, slots=True)
class Intention:
    """What an intent provider made of an utterance.

    Nothing set: just chat. `calls`: run these tools. `reply`: speak this without asking the language model."""

    calls: tuple[ToolCall, ...] = ()
    reply: str = ""


class Intent(Provider, ABC):
    """Decides before (or instead of) the language model what the user wants done."""

    kind: ClassVar[str] = "intent"
    offers_tools: ClassVar[bool] = False
    """True: the language model itself is offered the tools (function calling)."""

    @abstractmethod
    def classify(self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext) -> Intention:
        """What `text` asks for. Raises VendorError."""


# --- speaking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SentenceBegins:
    """All sound that follows belongs to this sentence, until the next one begins. `text` as it was given to `say`."""

    text: str


@dataclass(frozen=True, slots=True)
class Pcm:
    """s16le mono PCM, any even number of bytes, at `rate` Hz (0: the provider's `sample_rate`).

    `substitute`: made by another voice than the one that was asked for (a fallback), so nobody may keep it under that voice's name."""

    data: bytes
    rate: int = 0
    substitute: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class OpusPackets:
    """Ready mono Opus packets (RFC 6716), each of `frame_ms` (2.5..60), that need no re-encoding. `substitute`: as for `Pcm`."""

    packets: tuple[bytes, ...]
    frame_ms: float
    substitute: bool = field(default=False, compare=False)


Sound = Pcm | OpusPackets
SpeechEvent = SentenceBegins | Pcm | OpusPackets


class TtsStream(ABC):
    """One reply. One greenlet may `say` while another iterates `events`."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """Queue one speakable sentence; blocks while the look-ahead is full. Raises VendorError when the stream has failed."""

    @abstractmethod
    def finish(self) -> None:
        """No more sentences will come; `events` ends after the last one's sound."""

    @abstractmethod
    def events(self) -> Iterator[SpeechEvent]:
        """Sentences and their sound strictly in the order of `say`. Raises VendorError."""

    @abstractmethod
    def close(self) -> None:
        """Stop now; idempotent, callable from any greenlet."""


class Tts(Provider, ABC):
    """Speech synthesis."""

    kind: ClassVar[str] = "tts"
    streaming: ClassVar[bool] = True
    """True: text goes in while sound comes out (one vendor session per reply). False: one request per sentence."""

    sample_rate: int = 24_000
    """Hz of every `Pcm` that comes out."""

    @property
    def voice_key(self) -> str:
        """Changes whenever the same text would sound different: voice, speed, model. Part of the reply cache's key."""
        return self.name

    @abstractmethod
    def open(self, context: CallContext) -> TtsStream:
        """A stream for one reply. May connect; raises VendorError."""


class SentenceTts(Tts):
    """For vendors that take one sentence per request: implement `synthesize`; look-ahead and order are given by
    `providers/adapters.py`, which the composition root wraps around it."""

    streaming: ClassVar[bool] = False

    @abstractmethod
    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes. Raises VendorError."""

    def open(self, context: CallContext) -> TtsStream:
        from xiaozhi.providers.adapters import SentenceStream  # the adapter needs this module

        return SentenceStream(self, context)


@dataclass(frozen=True, slots=True)
class ProviderSet:
    """The providers a session works with, swapped as one when the configuration is reloaded."""

    vad: Vad
    asr: Asr
    llm: Llm
    tts: Tts
    memory: Memory
    intent: Intent
    vllm: Vllm | None = None
    voiceprint: Voiceprint | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """kind -> name of the selected module, for people."""
