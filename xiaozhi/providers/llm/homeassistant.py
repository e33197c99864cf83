"""A conversation agent of Home Assistant: what the user says goes there as it is, what it answers is spoken. Source:
developers.home-assistant.io/docs/intent_conversation_api.

It keeps the conversation and knows its own deeds, so it is told no prompt and offered no tools. It does not stream.
An intent that was done without a word is answered with "OK."."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cachetools import TTLCache
from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorGarbage
from xiaozhi.providers.contracts.llm import Llm, LlmTraits
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.families.told_tools import question_of
from xiaozhi.providers.registry import provider

MAX_SESSIONS: Final = 10_000
SESSION_SECONDS: Final = 3600.0
"""Home Assistant itself forgets a conversation after some minutes."""
_DONE: Final = "OK."


class HassAgentOptions(KeyedOptions):
    """`base_url` (or `url`) such as http://homeassistant.local:8123; `api_key`: a long-lived access token."""

    base_url: HttpUrl = Field(validation_alias=AliasChoices("base_url", "url"))
    api_key: ApiKey
    agent_id: str = ""
    """Such as conversation.chatgpt; empty: the agent that Home Assistant prefers."""
    language: str = ""
    """Of what is said, such as "zh-CN"; empty: the one that Home Assistant is set to."""


@provider("llm", "homeassistant", HassAgentOptions)
class HassAgentLlm(Llm):
    """One request per question. The conversations of the sessions are in one bounded table."""

    traits = LlmTraits(calls_tools=False, writes=False, keeps_dialogue=True)

    def __init__(self, options: HassAgentOptions) -> None:
        self._url = endpoint(options.base_url, "api/conversation/process")
        self._http = options.client(self._url)
        fixed = {"agent_id": options.agent_id, "language": options.language}
        self._fixed = {key: value for key, value in fixed.items() if value}
        # session -> what Home Assistant calls its conversation
        self._conversations: TTLCache[str, str] = TTLCache(MAX_SESSIONS, SESSION_SECONDS)

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """The whole answer in one piece."""
        session = context.session_id if context.turn_id else ""
        body = self._fixed | {"text": question_of(messages)}
        if session:
            body["conversation_id"] = self._conversations.get(session, session)
        answer = self._http.json("POST", self._url, json=body)
        response = answer.get("response") if isinstance(answer, Mapping) else None
        if not isinstance(response, Mapping):
            raise VendorGarbage(self._http.vendor, "no `response` in the answer")
        if session and isinstance(answer.get("conversation_id"), str):
            self._conversations[session] = answer["conversation_id"]
        text = _speech(response)
        if text or response.get("response_type") == "action_done":
            yield text or _DONE

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()


def _speech(response: Mapping[str, Any]) -> str:
    found: Any = response
    for key in ("speech", "plain", "speech"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found.strip() if isinstance(found, str) else ""
