"""Vision: a question and a picture in, an answer out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


@dataclass(frozen=True, slots=True)
class VllmTraits(ProviderTraits):
    """What a vision model can do: the common traits only."""


class Vllm(Provider, ABC):
    """A model that looks at pictures."""

    kind: ClassVar[str] = "vllm"
    traits: VllmTraits = VllmTraits()

    @abstractmethod
    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """Answer `question` about an image of type `mime` ("image/jpeg"). Raises VendorError."""
