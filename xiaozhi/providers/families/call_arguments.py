"""The arguments of a tool call as models write them -> a dict, or a refusal that says why. Pure.

Tolerant where nothing has to be guessed (code fences, JSON within JSON, chatter behind it, a missing last bracket),
strict where a guess could run the wrong action: a value that was cut off is not completed, and of two different objects
none is chosen."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import orjson

MAX_ARGUMENT_CHARS = 100_000
_SHOWN = 120
# JSON within JSON within JSON: some gateways encode once more than the model did.
_MAX_ENCODINGS = 3
_EMPTY = frozenset({"", "null", "None", "undefined"})
# What a missing bracket may follow. After a digit or a word nobody knows whether "5" was to become "50".
_ENDS_A_VALUE = frozenset("\"'}]")
_LITERAL_CHARS = 20_000
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")


class BadToolCall(ValueError):
    """A tool call that cannot be understood; the message is fit to be told to the model."""


def parse_arguments(text: str, *, cut_off: bool = False, tool: str = "") -> dict[str, Any]:
    """The arguments in `text`. `cut_off`: the answer was broken off, so nothing but complete JSON counts. `tool`: the
    name of the tool, for models that write the whole call where its arguments belong. Raises BadToolCall."""
    stripped = text.strip()
    if len(stripped) > MAX_ARGUMENT_CHARS:
        raise BadToolCall("its arguments have no end")
    if stripped in _EMPTY:
        if cut_off:
            raise BadToolCall("the answer was cut off before its arguments came")
        return {}
    found = _json(stripped)
    if found is None and not cut_off:
        found = _tolerantly(stripped)
    for _ in range(_MAX_ENCODINGS):
        if not isinstance(found, str):
            break
        if found.strip() in _EMPTY:
            return {}
        found = _json(found) if cut_off else _json(found) or _tolerantly(found.strip())
    if not isinstance(found, dict):
        why = "were cut off" if cut_off else "are not one complete JSON object"
        raise BadToolCall(f"its arguments {why}: {_excerpt(stripped)}")
    return _unwrapped(found, tool)


def is_whole(text: str) -> bool:
    """Whether `text` is one complete JSON object."""
    return text.rstrip()[-1:] == "}" and isinstance(_json(text), dict)


def load_object(text: str) -> Any:
    """The JSON value, Python literal, or object with a missing last bracket that `text` begins with; None when there is
    none that could be read without guessing."""
    return _tolerantly(text.strip())


def _unwrapped(found: dict[str, Any], tool: str) -> dict[str, Any]:
    if not tool or len(found) != 2 or found.get("name") != tool:
        return found
    inner = next((found[key] for key in _ARGUMENT_KEYS if key in found), None)
    if isinstance(inner, str):
        inner = _json(inner)
    return inner if isinstance(inner, dict) else found


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _tolerantly(text: str) -> Any:
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    start = text.find("{")
    if start < 0:
        return _json(text)
    text = text[start:]
    values = _values(text)
    if values:
        return _the_one(values)
    if text[-1] in _ENDS_A_VALUE:
        closed = _json(text + _missing_brackets(text))
        if closed is not None:
            return closed
    if len(text) > _LITERAL_CHARS:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _values(text: str) -> list[Any]:
    """The objects that stand one behind the other at the beginning of `text`; what follows them is chatter."""
    decoder = json.JSONDecoder(strict=False)  # raw line breaks inside strings
    values: list[Any] = []
    at = 0
    while at < len(text) and text[at] == "{":
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []  # of two objects the second broke off: nobody knows which was meant
        values.append(value)
        while at < len(text) and text[at] in " \t\r\n,;":
            at += 1
    return values


def _the_one(values: list[Any]) -> Any:
    """The object that is meant when a vendor sent several: an empty one first (a placeholder), the same one again, or
    one that grew."""
    last = values[-1]
    for value in values[:-1]:
        if not (isinstance(value, Mapping) and isinstance(last, Mapping)):
            return None
        if any(key not in last or last[key] != item for key, item in value.items()):
            return None
    return last


def _missing_brackets(text: str) -> str:
    # Only brackets: a string that is still open was cut off, and half a value is a wrong value.
    open_brackets: list[str] = []
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "{[":
            open_brackets.append("}" if character == "{" else "]")
        elif character in "}]" and open_brackets:
            open_brackets.pop()
    return "" if in_string else "".join(reversed(open_brackets))


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]}…"
