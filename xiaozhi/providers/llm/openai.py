"""Any OpenAI-compatible chat completion: streamed, with tools. Source: platform.openai.com/docs/api-reference/chat, and
the compatible servers' habits that `_deltas.py` and the comments here name.

Not the openai SDK: it costs eight times the CPU per answer and retries on its own, while retries have one owner here.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.http import HttpReply
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.families.openai import HttpUrl, OpenAiOptions, endpoint, error_in_answer
from xiaozhi.providers.families.openai_deltas import BadToolCall, ThinkFilter, ToolCalls
from xiaozhi.providers.registry import provider

# How long the end of the HTTP body is waited for once the answer itself is complete, so that the connection can be used
# again.
END_GRACE_S = 0.1

# Thinking costs seconds that a spoken answer does not have. What switches it off, by the vendor's host.
_NO_THINKING: dict[str, dict[str, Any]] = {
    "aliyuncs.com": {"enable_thinking": False},
    "deepseek.com": {"thinking": {"type": "disabled"}},
    "bigmodel.cn": {"thinking": {"type": "disabled"}},
    "moonshot.cn": {"thinking": {"type": "disabled"}},
    "volces.com": {"thinking": {"type": "disabled"}},
}


class OpenAiLlmOptions(OpenAiOptions):
    """`base_url` (or `url`) is the base, such as https://api.openai.com/v1, or the full address of the endpoint."""

    base_url: HttpUrl = Field(validation_alias=AliasChoices("base_url", "url"))
    model_name: str = Field(min_length=1, validation_alias=AliasChoices("model_name", "model"))
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    extra_body: dict[str, Any] = {}
    """Added to every request as it is, such as {enable_thinking: false}."""
    thinking: bool = False
    """False: reasoning is switched off where the vendor's host is known to have a switch."""


@provider("llm", "openai", OpenAiLlmOptions)
class OpenAiLlm(Llm):
    """Streams chat completions. One pooled client for all devices."""

    def __init__(self, options: OpenAiLlmOptions) -> None:
        self._options = options
        self._url = endpoint(options.base_url, "chat/completions")
        self._http = options.client(self._url)
        self._fixed = fixed_body(options)

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """Text as it comes, tool calls when they are whole."""
        body = {**self._fixed, "messages": [message_to_wire(message) for message in messages]}
        if tools:
            body["tools"] = [tool_to_wire(tool) for tool in tools]
        with self._http.stream("POST", self._url, json=body) as reply:
            if reply.content_type == "application/json":
                yield from self._unstreamed(reply)
            else:
                yield from self._streamed(reply)
                reply.finish(END_GRACE_S)

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()

    def _streamed(self, reply: HttpReply) -> Iterator[str | ToolCall]:
        think = ThinkFilter()
        calls = ToolCalls()
        reason = ""
        heard = False
        for data in reply.sse():
            if data.strip() == b"[DONE]":
                reason = reason or "stop"
                break
            try:
                chunk = orjson.loads(data)
                choice = _choice(chunk)
                delta = choice.get("delta") or {}
                content = _text_of(delta.get("content") or "")
                if fragments := delta.get("tool_calls"):
                    calls.add(fragments)
                reason = str(choice.get("finish_reason") or "")
            except orjson.JSONDecodeError:
                reply.garbage("an event that is not JSON", data)
            except (AttributeError, TypeError, BadToolCall) as error:
                reply.garbage(f"an event that is no completion ({error})", data)
            if chunk.get("error"):
                raise error_in_answer(self._http.vendor, chunk["error"])
            heard = True
            if content and (text := think.feed(content)):
                yield text
            if reason:
                break
        if not heard and not reason:
            reply.garbage(f"no completion in a {reply.content_type or 'nameless'} answer")
        if not reason:
            raise VendorUnavailable(self._http.vendor, "the answer ended without its end mark")
        yield from self._rest(think, calls, reason)

    def _unstreamed(self, reply: HttpReply) -> Iterator[str | ToolCall]:
        # Some servers ignore `stream`, and some report errors with status 200.
        answer = reply.json()
        calls = ToolCalls()
        think = ThinkFilter()
        try:
            choice = _choice(answer)
            if answer.get("error") or not choice:
                raise error_in_answer(self._http.vendor, answer.get("error") or answer.get("message") or answer)
            message = choice.get("message") or {}
            calls.add(message.get("tool_calls") or ())
            text = think.feed(_text_of(message.get("content") or ""))
        except (AttributeError, TypeError, BadToolCall) as error:
            reply.garbage(f"no completion ({error})", orjson.dumps(answer))
        if text:
            yield text
        yield from self._rest(think, calls, str(choice.get("finish_reason") or "stop"))

    def _rest(self, think: ThinkFilter, calls: ToolCalls, reason: str) -> Iterator[str | ToolCall]:
        if text := think.flush():
            yield text
        if reason == "content_filter":
            raise VendorRejected(self._http.vendor, "stopped by the vendor's content filter")
        if calls:
            try:
                yield from calls.whole(cut_off=reason == "length")
            except BadToolCall as error:
                raise VendorGarbage(self._http.vendor, str(error)) from error


def fixed_body(options: OpenAiLlmOptions) -> dict[str, Any]:
    """What every request of a block says alike."""
    body: dict[str, Any] = {"model": options.model_name, "stream": True}
    for key in ("temperature", "max_tokens", "top_p", "frequency_penalty"):
        value = getattr(options, key)
        if value is not None:
            body[key] = value
    if not options.thinking:
        host = urllib.parse.urlsplit(options.base_url).hostname or ""
        for domain, switch in _NO_THINKING.items():
            if host == domain or host.endswith(f".{domain}"):
                body |= switch
    return body | options.extra_body


def _choice(answer: Any) -> Mapping[str, Any]:
    choices = answer.get("choices")
    return choices[0] if choices else {}


def _text_of(content: Any) -> str:
    # A plain string nearly always; some servers send a list of typed parts.
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content if part.get("type", "text") == "text")


def message_to_wire(message: Message) -> dict[str, Any]:
    """A message as the API wants it. Content is never null: some compatible servers refuse that."""
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": orjson.dumps(dict(call.arguments)).decode()},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def tool_to_wire(tool: ToolSpec) -> dict[str, Any]:
    """A tool as the API wants it."""
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
    }
