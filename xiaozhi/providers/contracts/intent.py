"""Intent: what an utterance asks for, decided before or instead of the language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.provider import Provider, ProviderTraits


@dataclass(frozen=True, slots=True)
class Intention:
    """What an intent provider made of an utterance.

    Nothing set: just chat. `calls`: run these tools. `reply`: speak this without asking the language model."""

    calls: tuple[ToolCall, ...] = ()
    reply: str = ""


@dataclass(frozen=True, slots=True)
class IntentTraits(ProviderTraits):
    """How intents are found."""

    offers_tools: bool = False
    """True: the language model itself is offered the tools (function calling)."""


class Intent(Provider, ABC):
    """Decides before (or instead of) the language model what the user wants done."""

    kind: ClassVar[str] = "intent"
    traits: IntentTraits = IntentTraits()

    @abstractmethod
    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        """What `text` asks for. Raises VendorError."""
