"""Finds out what the user wants done by asking a language model before the conversation's own one.

Slower than function calling by one short completion, but works with models that cannot call tools. The answer is a
small JSON object, of the shape the existing server's users know: `{"function_call": {"name", "arguments"}}` (or
`function_calls`, a list), where `continue_chat` means "just talk" and `result_for_context` means "the answer is already
in the prompt" (time, date). Whatever cannot be understood is a chat."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from cachetools import TTLCache
from pydantic import Field

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.intent import Intent, Intention
from xiaozhi.providers.contracts.llm import Llm, final_text
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.call_arguments import BadToolCall, parse_arguments
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

CHAT_NAMES = frozenset({"continue_chat", "result_for_context", ""})
CACHE_SIZE = 1_000
_INSTRUCTION = """You decide which function, if any, a spoken request asks for. You never answer the request itself.
Functions:
{functions}
Reply with one line of JSON and nothing else:
- the request needs a function: {{"function_call": {{"name": "<name>", "arguments": {{...}}}}}}
- it needs several: {{"function_calls": [{{"name": "<name>", "arguments": {{...}}}}, ...]}}
- it asks for the time, the date, the weekday or the place: {{"function_call": {{"name": "result_for_context"}}}}
- anything else, also questions about how something works: {{"function_call": {{"name": "continue_chat"}}}}
Use only names from the list and only arguments the function has."""


class LlmIntentOptions(ProviderOptions):
    """`llm`: name of the LLM block that decides; empty: the selected one. `functions` is read by the tool room."""

    llm: str = ""
    functions: list[str] = Field(default_factory=list)
    history: int = Field(4, ge=0, le=20)
    """Past messages shown to the model."""
    cache_seconds: float = Field(600.0, ge=0, le=86_400)
    """How long a decision about the same words and tools is reused; 0: never."""


@provider("intent", "intent_llm", LlmIntentOptions)
class LlmIntent(Intent):
    """See the module."""

    needs_services: ClassVar[bool] = True

    def __init__(self, options: LlmIntentOptions, services: Services) -> None:
        self._options = options
        self._services = services
        self._cache: TTLCache[tuple[str, str], Intention] = TTLCache(CACHE_SIZE, max(options.cache_seconds, 0.001))

    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        if not tools:
            return Intention()
        functions = "\n".join(
            json.dumps({"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)})
            for tool in tools
        )
        key = (text.strip(), functions)
        known = self._cache.get(key)
        if known is not None:
            return known
        past = [
            f"{message.role}: {message.content}"
            for message in history
            if message.role in ("user", "assistant") and message.content
        ]
        recent = "\n".join(past[-self._options.history :] if self._options.history else [])
        question = f"Conversation so far:\n{recent}\n\nRequest: {text}" if recent else f"Request: {text}"
        messages = [Message("system", _INSTRUCTION.format(functions=functions)), Message("user", question)]
        said = final_text(self._model().chat(messages, (), replace(context, turn_id=0)))
        intention = Intention(calls=tuple(_calls(said, {tool.name for tool in tools})))
        # "Turn it up" means something else after another sentence, so only what did not depend on the past is kept.
        if not recent:
            self._cache[key] = intention
        return intention

    def _model(self) -> Llm:
        if self._services.provider is None:
            raise VendorUnavailable(self.name, "no language model to decide with")
        found: Llm = self._services.provider("llm", self._options.llm)
        return found


def _calls(said: str, offered: set[str]) -> list[ToolCall]:
    """The calls a model's answer asks for; empty when it is chat, or cannot be understood."""
    found = re.search(r"\{.*\}|\[.*\]", said, re.DOTALL)
    try:
        parsed: Any = json.loads(found.group(0)) if found else None
    except ValueError:
        log.info("unreadable intent, taken for chat")
        return []
    wanted = parsed.get("function_calls", parsed.get("function_call")) if isinstance(parsed, dict) else parsed
    calls = []
    for number, entry in enumerate(wanted if isinstance(wanted, list) else [wanted]):
        if not isinstance(entry, dict):
            continue
        inner = entry.get("function_call", entry)
        name = str(inner.get("name", "")) if isinstance(inner, dict) else ""
        arguments = inner.get("arguments") if isinstance(inner, dict) else None
        if name in CHAT_NAMES or name not in offered:
            continue
        try:
            if isinstance(arguments, str):
                arguments = parse_arguments(arguments, tool=name)
        except BadToolCall:
            arguments = ()
        if not isinstance(arguments, dict | None):
            log.info("an intent whose arguments cannot be read, taken for chat", tool=name)
            continue
        calls.append(ToolCall(f"intent-{number}", name, arguments or {}))
    return calls
