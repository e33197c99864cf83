"""An application of FastGPT, in the cloud or self-hosted. Source: doc.fastgpt.io, OpenAPI, "Conversation API"
(chat/completions with `chatId`, `detail`, `variables`), and `SseResponseEventEnum` of labring/FastGPT.

FastGPT keeps the conversation, by a name that is ours, and has the prompt; see `families/agent_talks.py`. Its answers
are chat completions with other events between them when `detail` is on, or at its v2 address. It has nothing to be
stopped with: a closed connection is enough."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.families.agent_talks import AgentLlm, Piece, Talk
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.json_body import DONE
from xiaozhi.providers.families.named_events import named_values
from xiaozhi.providers.families.openai import endpoint, error_in_answer
from xiaozhi.providers.registry import provider

END_GRACE_S: Final = 0.1
MAX_CHAT_ID: Final = 249
_ANSWERS: Final = frozenset({"", "answer", "fastAnswer"})


class FastGptOptions(KeyedOptions):
    """`api_key` of one application; `base_url` such as https://api.fastgpt.in/api/v1."""

    api_key: ApiKey
    base_url: HttpUrl
    detail: bool = False
    """FastGPT also tells what it works on, which shows that it is alive."""
    variables: dict[str, Any] = {}
    """Values of the application's variables."""


@provider("llm", "fastgpt", FastGptOptions)
class FastGptLlm(AgentLlm):
    """Streams one application's answers."""

    def __init__(self, options: FastGptOptions) -> None:
        self._url = endpoint(options.base_url, "chat/completions")
        super().__init__(options.client(self._url))
        self._fixed = {"stream": True, "detail": options.detail, "variables": options.variables}

    def _pieces(self, query: str, talk: Talk, context: CallContext) -> Generator[Piece]:
        body = self._fixed | {"messages": [{"role": "user", "content": query}]}
        if not talk.alone:
            body["chatId"] = context.session_id[:MAX_CHAT_ID]
        ended = False
        with self._http.stream("POST", self._url, json=body) as reply:
            for name, value in named_values(reply):
                if value is DONE:
                    reply.finish(END_GRACE_S)
                    return
                if not isinstance(value, Mapping):
                    continue
                if name == "error" or (not name and "choices" not in value and value.get("code", 200) != 200):
                    raise error_in_answer(
                        self._http.vendor, value.get("error") or {**value, "type": value.get("statusText")}
                    )
                if not talk.alone:
                    talk.began(context.session_id)
                if name in _ANSWERS and value.get("choices"):
                    yield value
                    ended = ended or _has_reason(value["choices"])
                else:
                    yield ""
        if not ended:
            raise VendorUnavailable(self._http.vendor, "the answer broke off")


def _has_reason(choices: Any) -> bool:
    first = choices[0] if isinstance(choices, list) else None
    return isinstance(first, Mapping) and bool(first.get("finish_reason"))
