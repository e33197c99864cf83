"""Speaker identification: the sound of one utterance in, who spoke out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.providers.contracts.provider import Provider


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
