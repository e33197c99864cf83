"""Function calling: the language model of the conversation is offered the tools and decides by itself."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from xiaozhi.chat import CallContext, Message, ToolSpec
from xiaozhi.providers.contracts.intent import Intent, Intention, IntentTraits
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider


class FunctionCallOptions(ProviderOptions):
    """`functions`: names of the plugins on offer; read by the tool room."""

    functions: list[str] = Field(default_factory=list)


@provider("intent", "function_call", FunctionCallOptions)
class FunctionCall(Intent):
    """Nothing to classify beforehand."""

    traits = IntentTraits(offline=True, offers_tools=True)

    def __init__(self, options: FunctionCallOptions) -> None:
        del options

    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        return Intention()
