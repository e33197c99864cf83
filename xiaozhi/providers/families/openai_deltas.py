"""Pieces of a streamed chat completion -> text worth speaking and whole tool calls. Pure: no network, no time.

Tolerant where vendors are known to differ (missing index, repeated names, arguments that are almost JSON), strict where
guessing could run the wrong tool: arguments that were cut off are not completed."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from xiaozhi.chat import ToolCall

_OPEN, _CLOSE = "<think>", "</think>"
MAX_TOOL_CALLS = 32
MAX_ARGUMENT_CHARS = 100_000


class BadToolCall(ValueError):
    """A tool call that cannot be understood."""


class ThinkFilter:
    """Drops what a reasoning model thinks aloud between <think> and </think>, wherever the stream is cut."""

    def __init__(self) -> None:
        self._inside = False
        self._held = ""
        self._trim = False

    def feed(self, text: str) -> str:
        """The part of `text` (and of what was held back) that may be spoken."""
        if not self._inside and not self._held and not self._trim and "<" not in text:
            return text
        text = self._held + text
        self._held = ""
        spoken = []
        while text:
            mark = _CLOSE if self._inside else _OPEN
            at = text.find(mark)
            if at < 0:
                text, self._held = _hold_back(text, mark)
                spoken.append(self._outside(text))
                break
            spoken.append(self._outside(text[:at]))
            text = text[at + len(mark) :]
            self._inside = not self._inside
            self._trim = not self._inside
        return "".join(spoken)

    def flush(self) -> str:
        """The stream has ended: what was held back was no mark after all."""
        held, self._held = self._held, ""
        return self._outside(held)

    def _outside(self, text: str) -> str:
        if self._inside:
            return ""
        if self._trim:  # models put empty lines between thinking and speaking
            text = text.lstrip()
            self._trim = not text
        return text


def _hold_back(text: str, mark: str) -> tuple[str, str]:
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if mark.startswith(text[-size:]):
            return text[:-size], text[-size:]
    return text, ""


@dataclass(slots=True)
class _Growing:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class ToolCalls:
    """Puts the fragments of tool calls together."""

    def __init__(self) -> None:
        self._calls: dict[Any, _Growing] = {}
        self._last: Any = None

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, fragments: Any) -> None:
        """Add the `tool_calls` of one delta. Raises BadToolCall."""
        for fragment in fragments:
            if not isinstance(fragment, Mapping):
                raise BadToolCall(f"not an object: {fragment!r}")
            self._add(fragment)

    def whole(self, *, cut_off: bool = False) -> list[ToolCall]:
        """The calls in the order they began. `cut_off`: the answer hit its length limit. Raises BadToolCall."""
        return [
            ToolCall(call.id or f"call_{number}", call.name, parse_arguments("".join(call.arguments), cut_off=cut_off))
            for number, call in enumerate(self._calls.values())
            if call.name
        ]

    def _add(self, fragment: Mapping[str, Any]) -> None:
        function = fragment.get("function") or {}
        call = self._calls.get(key := self._key(fragment, function))
        if call is None:
            if len(self._calls) >= MAX_TOOL_CALLS:
                raise BadToolCall(f"more than {MAX_TOOL_CALLS} tool calls")
            call = self._calls[key] = _Growing()
        self._last = key
        call.id = call.id or str(fragment.get("id") or "")
        call.name = call.name or str(function.get("name") or "")  # some vendors repeat it with every fragment
        arguments = function.get("arguments")
        if arguments:
            call.arguments.append(arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode())
            if sum(map(len, call.arguments)) > MAX_ARGUMENT_CHARS:
                raise BadToolCall("arguments without end")

    def _key(self, fragment: Mapping[str, Any], function: Mapping[str, Any]) -> Any:
        index, identity = fragment.get("index"), fragment.get("id")
        if index is not None:
            # Some vendors number every call 0 and tell them apart by id alone.
            known = self._calls.get(index)
            return (
                (index, identity)
                if known is not None and identity and known.id and known.id != identity
                else self._same(index)
            )
        if identity:
            return identity
        if self._last is None or function.get("name"):
            return len(self._calls)
        return self._last

    def _same(self, index: Any) -> Any:
        if isinstance(self._last, tuple) and self._last[0] == index:
            return self._last
        return index


def parse_arguments(text: str, *, cut_off: bool = False) -> dict[str, Any]:
    """The arguments of a tool call as models write them: JSON, nothing at all, JSON in a code fence, JSON within JSON,
    JSON followed by chatter, a missing closing bracket, or a Python literal. `cut_off`: accept nothing but complete
    JSON. Raises BadToolCall."""
    stripped = text.strip()
    if not stripped:
        return {}
    found = _json(stripped)
    if found is None and not cut_off:
        found = _repaired(stripped)
    if isinstance(found, str):
        found = _json(found)
    if found is _NULL:
        return {}
    if not isinstance(found, dict):
        raise BadToolCall(f"arguments are no JSON object: {stripped[:200]}")
    return found


_NULL = object()


def _json(text: str) -> Any:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return _NULL if found is None else found


def _repaired(text: str) -> Any:
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    start = text.find("{")
    if start < 0:
        return None
    text = text[start:]
    try:
        return json.JSONDecoder(strict=False).raw_decode(text)[0]  # strict=False: raw line breaks inside strings
    except ValueError:
        pass
    closed = _json(text + _missing_brackets(text))
    if closed is not None:
        return closed
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


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
