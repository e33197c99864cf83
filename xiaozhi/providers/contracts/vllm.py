"""Vision: a question and a picture in, an answer out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Provider


class Vllm(Provider, ABC):
    """A model that looks at pictures."""

    kind: ClassVar[str] = "vllm"

    @abstractmethod
    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """Answer `question` about an image of type `mime` ("image/jpeg"). Raises VendorError."""
