"""What MCP says, read forgivingly: ids, errors, schemas and results as devices and servers really write them.

Pure functions of decoded JSON; no session and no I/O (`device_mcp.py` has those). Nothing here raises for a wrong
shape: what cannot be read becomes None, an empty schema, or a word in brackets. Protocol: MCP 2024-11-05."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xiaozhi.tools.base import Action, ToolOutcome

MAX_ERROR_CHARS = 500
# JSON parsers on devices keep numbers as doubles.
_EXACT = 2**53


def answer_id(identity: Any) -> int | None:
    """The id of an answer as the number we gave, None when it cannot be one of ours."""
    if isinstance(identity, bool):
        return None
    if isinstance(identity, int):
        return identity
    if isinstance(identity, float) and identity.is_integer():
        return int(identity)
    if isinstance(identity, str) and identity.isascii() and identity.isdigit() and len(identity) <= 12:
        return int(identity)
    return None


def may_echo(identity: Any) -> bool:
    """Whether the id of a request can be written back as it came."""
    # Whatever else JSON can hold might not survive being written again: huge numbers, lone surrogates.
    if isinstance(identity, str):
        return identity.isascii() and len(identity) <= 64
    return isinstance(identity, int) and abs(identity) < _EXACT


def error_text(error: Any) -> str:
    """What an error says, in whatever shape it came; firmware often leaves the code out."""
    message = error.get("message") if isinstance(error, Mapping) else error
    return message[:MAX_ERROR_CHARS] if isinstance(message, str) and message else "the device reported an error"


def object_schema(schema: Any) -> dict[str, Any]:
    """An object schema that language models accept, whatever the device sent."""
    given = schema if isinstance(schema, Mapping) else {}
    properties = given.get("properties")
    clean = (
        {name: value for name, value in properties.items() if isinstance(value, Mapping)}
        if isinstance(properties, Mapping)
        else {}
    )
    made: dict[str, Any] = {"type": "object", "properties": clean}
    required = given.get("required")
    if isinstance(required, list):
        made["required"] = [name for name in required if isinstance(name, str) and name in clean]
    return made


def json_chars(value: Any) -> int:
    """How long a decoded JSON value is when it is written again."""
    return len(json.dumps(value, ensure_ascii=False, default=str))


def outcome(result: Any) -> ToolOutcome:
    """What the model is told of a tools/call result: its texts, and a word for what is no text."""
    content = result.get("content") if isinstance(result, Mapping) else None
    if isinstance(content, list):
        text = "\n".join(_content_text(item) for item in content)
    elif isinstance(result, str):
        text = result
    else:
        # Not what the protocol says, but some boards answer with a bare value.
        text = json.dumps(result, ensure_ascii=False, default=str)
    failed = isinstance(result, Mapping) and result.get("isError") is True
    if failed:
        return ToolOutcome(Action.ERROR, text or "the device reported an error", result)
    return ToolOutcome(Action.ASK_LLM, text, result)


def _content_text(item: Any) -> str:
    if isinstance(item, Mapping):
        text = item.get("text")
        if isinstance(text, str):
            return text
        kind = item.get("type")
        return f"[{kind}]" if isinstance(kind, str) else "[unknown content]"
    return item if isinstance(item, str) else "[unknown content]"
