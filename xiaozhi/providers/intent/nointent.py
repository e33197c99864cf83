"""No intents: everything that is said goes to the language model, which is offered no tools."""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.chat import CallContext, Message, ToolSpec
from xiaozhi.providers.contracts.intent import Intent, Intention, IntentTraits
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider


@provider("intent", "nointent", ProviderOptions)
class NoIntent(Intent):
    """Just chat."""

    traits = IntentTraits(offline=True)

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        return Intention()
