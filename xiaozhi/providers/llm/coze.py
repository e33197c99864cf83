"""A bot of Coze (coze.cn or coze.com), which is published as an API. Source: coze.cn/open/docs/developer_guides, pages
chat_v3, chat_cancel, coze_error_codes.

Coze keeps the conversation and has the prompt; see `families/agent_talks.py`. The first answer opens the conversation,
so that nothing has to be created before it. A conversation answers one question at a time: an answer that is left early
is cancelled, and the next question waits a moment for that."""

from __future__ import annotations

import urllib.parse
from collections.abc import Generator, Mapping
from typing import Any, Final

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorBusy, VendorError, VendorRejected, VendorUnavailable
from xiaozhi.net.http_errors import MAX_DETAILS
from xiaozhi.providers.families.agent_talks import AgentLlm, Piece, Talk
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.json_body import DONE
from xiaozhi.providers.families.named_events import named_values
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.families.platform_ids import PlatformId
from xiaozhi.providers.registry import provider

END_GRACE_S: Final = 0.1
_CHAT: Final = "conversation.chat."
_MESSAGE: Final = "conversation.message."
_UNKNOWN_CONVERSATION: Final = 4002
_BUSY: Final = frozenset({4009, 4016, 4020})
"""Too many requests; a conversation that still answers."""
_BROKEN: Final = frozenset({4013, 5000})
"""Failures of a model, or of Coze itself."""
_WRONG_TOKEN: Final = 700012006


class CozeOptions(KeyedOptions):
    """`base_url`: https://api.coze.com for bots that live there."""

    api_key: ApiKey = Field(validation_alias=AliasChoices("personal_access_token", "api_key"))
    bot_id: PlatformId
    user_id: PlatformId
    """On whose behalf Coze is asked: the same for all devices."""
    base_url: HttpUrl = "https://api.coze.cn"


@provider("llm", "coze", CozeOptions)
class CozeLlm(AgentLlm):
    """Streams one bot's answers."""

    def __init__(self, options: CozeOptions) -> None:
        super().__init__(options.client(options.base_url))
        self._options = options
        self._url = f"{options.base_url}/v3/chat"

    def _pieces(self, query: str, talk: Talk, context: CallContext) -> Generator[Piece]:
        url = f"{self._url}?conversation_id={urllib.parse.quote(talk.id)}" if talk.id else self._url
        chat, over = "", False
        heard: set[str] = set()
        try:
            with self._http.stream("POST", url, json=self._body(query)) as reply:
                for name, value in named_values(reply):
                    if value is DONE or name == f"{_CHAT}completed":
                        over = True
                        reply.finish(END_GRACE_S)
                        return
                    if not isinstance(value, Mapping):
                        continue
                    if name == f"{_CHAT}created":
                        chat = str(value.get("id") or "")
                        talk.began(str(value.get("conversation_id") or ""))
                    elif name == f"{_MESSAGE}delta":
                        if _is_answer(value):
                            heard.add(str(value.get("id")))
                        yield str(value.get("content") or "") if _is_answer(value) else ""
                    elif name == f"{_MESSAGE}completed":
                        # What comes whole has no deltas.
                        if _is_answer(value) and str(value.get("id")) not in heard:
                            yield str(value.get("content") or "")
                    elif name == f"{_CHAT}requires_action":
                        # It waits for ever, cannot be cancelled, and keeps its conversation occupied.
                        over = True
                        talk.forget()
                        raise VendorRejected(self._http.vendor, "the bot wants a tool of its caller, which has none")
                    elif name == f"{_CHAT}failed":
                        over = True
                        raise self._error(value.get("last_error") or value)
                    elif name == "error" or (not name and value.get("code")):
                        over = True
                        raise self._error(value)
            raise VendorUnavailable(self._http.vendor, "the answer broke off")
        finally:
            if chat and not over:
                self._stop(talk, f"{self._url}/cancel", {"conversation_id": talk.id, "chat_id": chat})

    def _body(self, query: str) -> dict[str, Any]:
        question = {"role": "user", "type": "question", "content": query, "content_type": "text"}
        return {
            "bot_id": self._options.bot_id,
            "user_id": self._options.user_id,
            "stream": True,
            "additional_messages": [question],
        }

    def _has_forgotten(self, error: VendorRejected) -> bool:
        return error.details.startswith(f"{_UNKNOWN_CONVERSATION} ")

    def _error(self, said: Any) -> VendorError:
        code = said.get("code") if isinstance(said, Mapping) else None
        if not isinstance(code, int):
            return error_in_answer(self._http.vendor, said)
        whole = f"{code} {said.get('msg') or ''}"
        if code in _BUSY:
            made: type[VendorError] = VendorBusy
        elif code in _BROKEN:
            made = VendorUnavailable
        elif 4000 <= code < 5000 or code == _WRONG_TOKEN:
            made = VendorRejected
        else:
            return error_in_answer(self._http.vendor, said)
        return made(self._http.vendor, self._http.redact(whole), details=self._http.redact(whole, MAX_DETAILS))


def _is_answer(message: Mapping[str, Any]) -> bool:
    return message.get("type") == "answer" and message.get("content_type", "text") == "text"
