"""Voice activity detection: PCM in, one speech probability per window out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


class VadStream(ABC):
    """Voice activity of one microphone. Model state and the residue shorter than a window live here."""

    @abstractmethod
    def feed(self, pcm: bytes) -> list[float]:
        """Speech probability (0..1) of each whole window that `pcm` (s16le mono 16 kHz) completes; blocks a few ms.

        Raises Overloaded when the inference pool cannot take it in time; nothing is lost: the probabilities owed come
        out of a later `feed`, in order (`feed(b"")` asks for them). A VendorError means that the stream has started
        anew, as after `reset`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the past: the next sample starts a new recording."""


@dataclass(frozen=True, slots=True)
class VadTraits(ProviderTraits):
    """How the probabilities of a detector are to be read."""

    window_samples: int = 512
    """Samples per probability at 16 kHz: 32 ms."""
    threshold: float = 0.5
    """A window is voiced from this probability up, ..."""
    threshold_low: float = 0.2
    """... unvoiced from this one down, and in between as the window before."""
    min_silence_ms: int = 700
    """This much silence ends an utterance."""
    lag_ms: int = 0
    """How long the probability stays above `threshold` after a voice has ended: by so much the voice ended earlier than
    it seems. For the account of a turn; a silence is counted from where it seems to have ended."""


class Vad(Provider, ABC):
    """Voice activity detection."""

    kind: ClassVar[str] = "vad"
    traits: VadTraits = VadTraits()

    @abstractmethod
    def open(self) -> VadStream:
        """A stream for one microphone."""

    def observe_batches(self, observe: Callable[[int], None]) -> None:
        """Tell `observe` the size of every batch, where the provider works in batches; it must not block."""
