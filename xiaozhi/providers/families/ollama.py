"""Ollama's own API (/api/chat) as a dialect. Its OpenAI-compatible one cannot say how long a model stays loaded, nor
how long its context is: what does not fit into the default is cut off there without a word. Pure: no network, no time.

Source: docs.ollama.com/api/chat, docs.ollama.com/capabilities/thinking, .../tool-calling, github.com/ollama/ollama
server/routes.go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.families.dialect import ForeignDialect, chunk
from xiaozhi.providers.families.json_body import DONE
from xiaozhi.providers.families.thinking_switches import Switches

_OPTIONS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "num_predict",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "stop": "stop",
}

SWITCHES: Final[Switches] = ({"think": False}, {"think": "low"})
"""What keeps a model from thinking, or lets it think least."""


def switches_of(model: str) -> Switches:
    """The switches of a model. gpt-oss does not listen to the first."""
    return SWITCHES[1:] if "gpt-oss" in model else SWITCHES


def base_of(base_url: str) -> str:
    """The address of the server, of any that stands in existing files: with /v1, /api or /api/chat behind it."""
    for end in ("/v1/chat/completions", "/api/chat", "/v1", "/api"):
        base_url = base_url.removesuffix(end)
    return base_url


class OllamaDialect(ForeignDialect):
    """Ollama's chat."""

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Dialect`."""
        options: dict[str, Any] = {}
        sent: dict[str, Any] = {}
        for key, value in body.items():
            if key in _OPTIONS:
                options[_OPTIONS[key]] = value
            else:
                sent[key] = value
        if options:
            sent["options"] = options | sent.get("options", {})
        names: dict[str, str] = {}
        sent["messages"] = [_message(turn, names) for turn in body["messages"]]
        return sent

    def translated(self, answered: Iterator[Any], vendor: str) -> Iterator[Any]:
        """See `ForeignDialect`."""
        begun = False
        calls = 0
        for value in answered:
            message = value.get("message") if isinstance(value, Mapping) else None
            if not isinstance(message, Mapping):
                yield value
                continue
            begun = True
            for call in message.get("tool_calls") or ():
                yield chunk({"tool_calls": [{**call, "index": calls}]})
                calls += 1
            if message.get("thinking"):
                yield chunk({"reasoning_content": message["thinking"]})
            if message.get("content"):
                yield chunk({"content": message["content"]})
            if value.get("done"):
                yield chunk({}, value.get("done_reason") or "stop")
                yield DONE
                return
        if begun:
            raise VendorUnavailable(vendor, "answer broke off")


def _message(turn: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": turn["role"], "content": turn["content"] or ""}
    if turn["role"] == "tool":
        made["tool_name"] = names[turn["tool_call_id"]]
    calls = turn.get("tool_calls", ())
    if calls:
        names |= {call["id"]: call["function"]["name"] for call in calls}
        made["tool_calls"] = [
            {
                "function": {
                    "name": call["function"]["name"],
                    "arguments": orjson.Fragment(call["function"]["arguments"]),
                }
            }
            for call in calls
        ]
    return made
