"""Anthropic's Messages API as a dialect: blocks instead of fields, the prompt beside the messages, results of tools as
the user's. Pure: no network, no time.

Prompts are cached by the vendor up to three marks: behind the tools, behind the prompt, behind the newest message. What
was marked in one turn is read in the next for a tenth of its price and most of its time.

Source: platform.claude.com/docs/en/api/messages, .../api/versioning, .../build-with-claude/streaming,
.../build-with-claude/prompt-caching,
.../agents-and-tools/tool-use/implement-tool-use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.families.chat_options import ModelOptions
from xiaozhi.providers.families.dialect import ForeignDialect, chunk, picture_of
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl
from xiaozhi.providers.families.json_body import DONE
from xiaozhi.providers.families.learnt_limits import LearntLimits
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.families.thinking_switches import Switches

VERSION: Final = "2026-10-21"
VERSION_WITH_SAMPLING: Final = "2023-06-01"
"""The one before, whose requests may have a temperature."""
_CACHED: Final = {"cache_control": {"type": "ephemeral"}}
_NOT_IN_AN_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_SILENT: Final = frozenset({"ping", "content_block_stop"})
# Models that think only when they are told to.
_THINKS_WHEN_TOLD: Final = re.compile(r"claude-(?:instant|[23]|\w+-4(?!\d))")


KNOWN: Final = LearntLimits(results_without_tools=False)
"""What the API refuses for certain."""


class AnthropicOptions(ModelOptions):
    """`base_url` is the host, such as https://api.anthropic.com, or any address below it."""

    base_url: HttpUrl = Field("https://api.anthropic.com", validation_alias=AliasChoices("base_url", "url"))
    api_key: ApiKey
    max_tokens: int | None = Field(2_048, ge=1)
    """The API wants a limit."""
    temperature: float | None = Field(None, ge=0, le=1)

    def credentials(self) -> dict[str, str]:
        """See `KeyedOptions`."""
        version = VERSION if self.temperature is None and self.top_p is None else VERSION_WITH_SAMPLING
        return {**super().credentials(), "anthropic-version": version}


def messages_endpoint(base_url: str) -> str:
    """The address of the Messages API: `base_url` may be the host, the version below it, or the address itself."""
    return base_url if base_url.endswith("/messages") else endpoint(base_url.removesuffix("/v1"), "v1/messages")


def switches_of(model: str) -> Switches:
    """What keeps a model from thinking."""
    if _THINKS_WHEN_TOLD.search(model):
        return ()
    return ({"thinking": {"type": "disabled"}}, {"output_config": {"effort": "low"}})


class AnthropicDialect(ForeignDialect):
    """The Messages API."""

    def tools(self, functions: Sequence[Mapping[str, Any]]) -> Any:
        """See `Dialect`."""
        made = [
            {"name": each["name"], "description": each["description"], "input_schema": each["parameters"]}
            for each in (function["function"] for function in functions)
        ]
        made[-1] |= _CACHED
        return made

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Dialect`."""
        sent = dict(body)
        turns = body["messages"]
        if turns[0]["role"] == "system":
            sent["system"] = [{"type": "text", "text": turns[0]["content"], **_CACHED}]
            turns = turns[1:]
        messages: list[dict[str, Any]] = []
        for turn in turns:
            role = "assistant" if turn["role"] == "assistant" else "user"
            blocks = _blocks(turn)
            # All results of one answer's calls belong into one message.
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += blocks
            else:
                messages.append({"role": role, "content": blocks})
        messages[-1]["content"][-1] |= _CACHED
        sent["messages"] = messages
        return sent

    def translated(self, answered: Iterator[Any], vendor: str) -> Iterator[Any]:
        """See `ForeignDialect`."""
        begun = False
        for event in answered:
            kind = event.get("type") if isinstance(event, Mapping) else None
            if kind == "content_block_delta":
                yield from _delta(event)
            elif kind == "content_block_start":
                yield from _beginning(event)
            elif kind == "message_start":
                begun = True
                yield chunk({"role": "assistant"})
            elif kind == "message_delta":
                yield chunk({}, event["delta"].get("stop_reason"))
            elif kind == "message_stop":
                yield DONE
                return
            elif kind not in _SILENT:
                yield event
        if begun:
            raise VendorUnavailable(vendor, "answer broke off")


def _blocks(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = turn["content"]
    if turn["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": _id(turn["tool_call_id"]), "content": content}]
    if isinstance(content, list):
        return [_part(part) for part in content]
    blocks = [{"type": "text", "text": content}] if content and content.strip() else []
    for call in turn.get("tool_calls", ()):
        function = call["function"]
        arguments = orjson.Fragment(function["arguments"])
        blocks.append({"type": "tool_use", "id": _id(call["id"]), "name": function["name"], "input": arguments})
    return blocks


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return dict(part)
    media_type, data = picture_of(part)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _id(given: str) -> str:
    """Calls that another vendor made have ids of another form."""
    return _NOT_IN_AN_ID.sub("_", given)


def _beginning(event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    block = event["content_block"]
    if block.get("type") == "tool_use":
        given = block.get("input")
        function = {"name": block["name"], "arguments": orjson.dumps(given).decode() if given else ""}
        yield chunk({"tool_calls": [{"index": event["index"], "id": block["id"], "function": function}]})
    elif block.get("text"):
        yield chunk({"content": block["text"]})


def _delta(event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    delta = event["delta"]
    kind = delta.get("type")
    if kind == "text_delta":
        yield chunk({"content": delta["text"]})
    elif kind == "input_json_delta":
        yield chunk({"tool_calls": [{"index": event["index"], "function": {"arguments": delta["partial_json"]}}]})
    elif kind == "thinking_delta":
        yield chunk({"reasoning_content": delta["thinking"]})
