"""Speaker identification: the sound of one utterance in, who spoke out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who spoke."""

    id: str
    name: str
    description: str = ""
    similarity: float = 0.0


@dataclass(frozen=True, slots=True)
class VoiceprintTraits(ProviderTraits):
    """What a speaker identification can do: the common traits only."""


class Voiceprint(Provider, ABC):
    """Speaker identification."""

    kind: ClassVar[str] = "voiceprint"
    traits: VoiceprintTraits = VoiceprintTraits()

    @abstractmethod
    def identify(self, pcm: bytes) -> Speaker | None:
        """The known speaker of an utterance (s16le mono 16 kHz), or None. Raises VendorError."""
