"""Google's Gemini API (generateContent) as a dialect: contents of parts, schemas in an OpenAPI subset, signatures on
what was thought. Pure: no network, no time.

A call that Gemini signed must bear its signature when its result is sent, or the request is refused; `Seal` carries it
through the dialogue, in the form that Google's OpenAI-compatible endpoint has for it. A call that another vendor made
has none; the value that the documentation gives for that case stands in its place.

Source: ai.google.dev/api/generate-content, .../gemini-api/docs/function-calling, .../gemini-api/docs/thinking,
.../gemini-api/docs/thought-signatures."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.errors import VendorRejected, VendorUnavailable
from xiaozhi.providers.families.chat_options import ModelOptions
from xiaozhi.providers.families.dialect import ForeignDialect, chunk, picture_of
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl
from xiaozhi.providers.families.learnt_limits import LearntLimits
from xiaozhi.providers.families.thinking_switches import Switches
from xiaozhi.providers.families.tool_schemas import Level

VERSION: Final = "v1beta"
NO_SIGNATURE: Final = "skip_thought_signature_validator"
_OLD: Final = re.compile(r"gemini-(?:1|2)\b|gemma")
_CONFIG: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "frequency_penalty": "frequencyPenalty",
    "thinking": "thinkingConfig",
}
_NOT_SENT: Final = frozenset({"model", "stream", "messages"})
_REASONS: Final = {
    "malformed_function_call": "error",
    "unexpected_tool_call": "error",
    "too_many_tool_calls": "error",
    "image_safety": "safety",
    "other": "content_filter",
    "language": "content_filter",
}


KNOWN: Final = LearntLimits(tool_schema=Level.SIMPLIFIED)
"""What Gemini refuses for certain."""


class GeminiOptions(ModelOptions):
    """`base_url` is the host, such as https://generativelanguage.googleapis.com, or has the API's version below it."""

    base_url: HttpUrl = Field(
        "https://generativelanguage.googleapis.com", validation_alias=AliasChoices("base_url", "url")
    )
    api_key: ApiKey
    model_name: str = Field("gemini-2.0-flash", min_length=1, validation_alias=AliasChoices("model_name", "model"))
    max_tokens: int | None = Field(2_048, ge=1)
    top_k: int | None = Field(None, ge=1)

    def credentials(self) -> dict[str, str]:
        """See `KeyedOptions`."""
        return {"x-goog-api-key": self.api_key.get_secret_value()}


def stream_endpoint(base_url: str, model: str) -> str:
    """The address of a model's streamed answers. `base_url`: the host, the version below it, or the OpenAI-compatible
    address below that."""
    base_url = base_url.removesuffix("/openai")
    if not urllib.parse.urlsplit(base_url).path:
        base_url = f"{base_url}/{VERSION}"
    return f"{base_url}/{model if '/' in model else f'models/{model}'}:streamGenerateContent?alt=sse"


def switches_of(model: str) -> Switches:
    """What keeps a model from thinking, or lets it think least."""
    if "gemini-2.5" in model:
        # Pro cannot do without; this is its least.
        return ({"thinking": {"thinkingBudget": 128 if "pro" in model else 0}},)
    if _OLD.search(model):
        return ()
    return ({"thinking": {"thinkingLevel": "MINIMAL"}}, {"thinking": {"thinkingLevel": "LOW"}})


class GeminiDialect(ForeignDialect):
    """The contents of one model."""

    def __init__(self, model: str) -> None:
        self._checks_signatures = not _OLD.search(model)

    def tools(self, functions: Sequence[Mapping[str, Any]]) -> Any:
        """See `Dialect`."""
        return [{"functionDeclarations": [_declaration(each["function"]) for each in functions]}]

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Dialect`."""
        sent: dict[str, Any] = {}
        config: dict[str, Any] = {}
        for key, value in body.items():
            if key in _CONFIG:
                config[_CONFIG[key]] = value
            elif key not in _NOT_SENT:
                sent[key] = value
        turns = body["messages"]
        if turns[0]["role"] == "system":
            sent["systemInstruction"] = {"parts": [{"text": turns[0]["content"]}]}
            turns = turns[1:]
        sent["contents"] = self._contents(turns)
        if config:
            sent["generationConfig"] = config | sent.get("generationConfig", {})
        return sent

    def translated(self, answered: Iterator[Any], vendor: str) -> Iterator[Any]:
        """See `ForeignDialect`."""
        begun = ended = False
        calls = 0
        for value in answered:
            candidates = value.get("candidates") if isinstance(value, Mapping) else None
            if not candidates:
                feedback = value.get("promptFeedback") if isinstance(value, Mapping) else None
                if feedback and feedback.get("blockReason"):
                    raise VendorRejected(vendor, f"refused by the vendor's safety filter: {feedback['blockReason']}")
                if not isinstance(value, Mapping) or "usageMetadata" not in value:
                    yield value
                continue
            begun = True
            candidate = candidates[0]
            for part in (candidate.get("content") or {}).get("parts") or ():
                if "functionCall" in part:
                    yield chunk({"tool_calls": [_call(part, calls)]})
                    calls += 1
                elif part.get("text"):
                    yield chunk({"reasoning_content" if part.get("thought") else "content": part["text"]})
            reason = candidate.get("finishReason")
            if reason:
                ended = True
                yield chunk({}, _REASONS.get(reason.lower(), reason.lower()))
        if begun and not ended:
            raise VendorUnavailable(vendor, "answer broke off")

    def _contents(self, turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        names: dict[str, str] = {}
        contents: list[dict[str, Any]] = []
        for turn in turns:
            role = "model" if turn["role"] == "assistant" else "user"
            if turn["role"] == "tool":
                identity = turn["tool_call_id"]
                result = {"id": identity, "name": names[identity], "response": {"output": turn["content"]}}
                parts: list[dict[str, Any]] = [{"functionResponse": result}]
            else:
                calls = turn.get("tool_calls", ())
                names |= {call["id"]: call["function"]["name"] for call in calls}
                parts = [*_said(turn["content"]), *self._calls(calls)]
            # All results of one answer's calls belong into one content.
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        return contents

    def _calls(self, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for call in calls:
            function = call["function"]
            arguments = orjson.Fragment(function["arguments"])
            part: dict[str, Any] = {"functionCall": {"id": call["id"], "name": function["name"], "args": arguments}}
            signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
            # Of calls that are made at once, the first bears it.
            if signature is None and not parts and self._checks_signatures:
                signature = NO_SIGNATURE
            if signature is not None:
                part["thoughtSignature"] = signature
            parts.append(part)
        return parts


def _said(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, list):
        return [{"text": content}] if content and content.strip() else []
    parts: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "text":
            parts.append({"text": part["text"]})
        else:
            mime_type, data = picture_of(part)
            parts.append({"inlineData": {"mimeType": mime_type, "data": data}})
    return parts


def _call(part: Mapping[str, Any], index: int) -> dict[str, Any]:
    call = part["functionCall"]
    made = {"index": index, "function": {"name": call.get("name"), "arguments": call.get("args") or {}}}
    if call.get("id"):
        made["id"] = call["id"]
    if part.get("thoughtSignature"):
        made["extra_content"] = {"google": {"thought_signature": part["thoughtSignature"]}}
    return made


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    made = {"name": function["name"], "description": function["description"]}
    parameters = _schema(function["parameters"])
    # An object without properties is refused.
    return made | {"parameters": parameters} if parameters["type"] == "OBJECT" else made


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A simplified schema as Gemini takes it."""
    made = dict(schema)
    kind = schema["type"]
    if kind == "object" and not schema.get("properties"):
        return {"type": "STRING", "description": schema.get("description") or "an object, as JSON"}
    made["type"] = kind.upper()
    if kind == "object":
        made["properties"] = {name: _schema(each) for name, each in schema["properties"].items()}
    if kind == "array":
        made["items"] = _schema(schema["items"])
    if kind != "string":
        made.pop("enum", None)
    return made
