"""What is remembered of a device's owner between sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.chat import Message
from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


@dataclass(frozen=True, slots=True)
class MemoryTraits(ProviderTraits):
    """What a memory does."""

    remembers: bool = True
    """False: there is nothing to recall or save, and nobody needs to ask."""


class Memory(Provider, ABC):
    """What is remembered of a device's owner between visits."""

    kind: ClassVar[str] = "memory"
    traits: MemoryTraits = MemoryTraits()

    @abstractmethod
    def recall(self, device_id: str, query: str) -> str:
        """Text for the system prompt, "" when there is none; on the way to the answer, so it must be quick. Raises
        VendorError."""

    @abstractmethod
    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        """Remember a visit; called once at its end, off the hot path; may take long. Raises VendorError."""
