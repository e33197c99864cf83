"""An application of Alibaba Cloud Model Studio (Bailian), by DashScope. Source: help.aliyun.com/zh/model-studio, "Call
an application" and its API reference (POST /api/v1/apps/APP_ID/completion).

It is told the whole dialogue each time, so nothing depends on what the vendor remembers. `is_no_prompt` leaves this
server's prompt out, for an application that has its own. It cannot be given tools of the caller."""

from __future__ import annotations

import urllib.parse
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorError, VendorUnavailable
from xiaozhi.providers.contracts.llm import Llm, LlmTraits
from xiaozhi.providers.families.agent_talks import Piece, spoken
from xiaozhi.providers.families.completion import Completion
from xiaozhi.providers.families.dashscope import failure
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.named_events import named_values
from xiaozhi.providers.families.platform_ids import PlatformId, PlatformIdOrFalse
from xiaozhi.providers.families.strict_history import strict_history
from xiaozhi.providers.registry import provider

END_GRACE_S: Final = 0.1
_STREAMED: Final = {"X-DashScope-SSE": "enable", "Accept": "text/event-stream"}
_UNENDED: Final = ("", "null", None)


class AliBlOptions(KeyedOptions):
    """`base_url`: only its host counts, unless it ends in /api/v1."""

    api_key: ApiKey
    app_id: PlatformId
    base_url: HttpUrl = "https://dashscope.aliyuncs.com/api/v1"
    is_no_prompt: bool = False
    """True: the application's own prompt is the only one."""
    ali_memory_id: PlatformIdOrFalse = None
    """A long-term memory that was made in the console. It is one for all devices."""


@provider("llm", "AliBL", AliBlOptions)
class AliBlLlm(Llm):
    """Streams one application's answers. One pooled client for all devices, and no state."""

    traits = LlmTraits(calls_tools=False)

    def __init__(self, options: AliBlOptions) -> None:
        self._options = options
        self._url = f"{_api_root(options.base_url)}/apps/{urllib.parse.quote(options.app_id, safe='')}/completion"
        self._http = options.client(self._url)

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """The application's answer to the dialogue."""
        vendor = self._http.vendor
        with closing(self._pieces(self._body(messages, context))) as pieces:
            yield from spoken(vendor, Completion(vendor), pieces)

    def _body(self, messages: Sequence[Message], context: CallContext) -> dict[str, Any]:
        if self._options.is_no_prompt and context.turn_id:
            messages = [message for message in messages if message.role != "system"]
        turns = [{"role": turn.role, "content": turn.content} for turn in strict_history(messages, tool_role=False)]
        given: dict[str, Any] = {"messages": turns}
        if context.session_id:
            given["session_id"] = context.session_id
        if self._options.ali_memory_id:
            given["memory_id"] = self._options.ali_memory_id
        return {"input": given, "parameters": {"incremental_output": True}}

    def _pieces(self, body: Mapping[str, Any]) -> Generator[Piece]:
        with self._http.stream("POST", self._url, json=body, headers=_STREAMED) as reply:
            for name, value in named_values(reply):
                if not isinstance(value, Mapping):
                    continue
                output = value.get("output")
                if name == "error" or (value.get("code") and not output):
                    raise self._error(value)
                if not isinstance(output, Mapping):
                    continue
                yield str(output.get("text") or "")
                if output.get("finish_reason") not in _UNENDED:
                    reply.finish(END_GRACE_S)
                    return
        raise VendorUnavailable(self._http.vendor, "the answer broke off")

    def _error(self, said: Mapping[str, Any]) -> VendorError:
        secrets = tuple(self._options.secrets())
        return failure(self._http.vendor, str(said.get("code") or ""), str(said.get("message") or ""), secrets)

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()


def _api_root(url: str) -> str:
    """Existing files have the address of the vendor's chat completions here."""
    parts = urllib.parse.urlsplit(url)
    return url if parts.path.endswith("/api/v1") else f"{parts.scheme}://{parts.netloc}/api/v1"
