"""JSON text in and out, with every surprise turned into one ProtocolError.

Not a schema: what a message must contain is decided in `device.py` and `server.py`. It exists because three things of
ordinary JSON parsers must never reach a session: nesting that overflows somebody's recursion, numbers that are no
numbers (NaN, Infinity, 1e999), and lone surrogates, which cannot be sent again as UTF-8. A message is not lost over the
last two: they are replaced."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

import orjson

from xiaozhi.errors import ProtocolError

MAX_MENDED_CHARS: Final = 16_384
"""Longer text with such numbers or surrogates is no JSON: to replace them costs more than to parse."""
MAX_DEPTH: Final = 64
"""Nesting of objects and lists. Schemas of tools, the deepest thing devices send, stay below 10."""


class NotJson(ProtocolError):
    """The text is no JSON at all (as opposed to JSON that is refused)."""


def parse(text: str) -> object:
    """The value of a JSON text. Integers beyond 64 bits become floats. Raises NotJson, or ProtocolError when it is
    nested too deeply."""
    # Counting brackets costs nothing, walking the value does; only texts with many brackets can be deep.
    suspicious = text.count("{") + text.count("[") > MAX_DEPTH
    try:
        value: object = orjson.loads(text)
    except ValueError as error:
        if suspicious:  # orjson gives up at 1024 levels with the same error
            raise ProtocolError("unreadable JSON") from error
        value = _mended(text)
    if suspicious and _deeper_than(MAX_DEPTH, value):
        raise ProtocolError(f"JSON nested deeper than {MAX_DEPTH}")
    return value


def render(body: Mapping[str, object]) -> str:
    """Compact JSON text, non-ASCII characters as they are. Raises ProtocolError for what JSON cannot say.

    Lone surrogates (half an emoji at the end of a streamed chunk) become "?", integers beyond 64 bits are written out,
    NaN and Infinity become null."""
    try:
        return orjson.dumps(body).decode()
    except TypeError:
        return _render_leniently(body)


def _render_leniently(body: Mapping[str, object]) -> str:
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"cannot be said in JSON: {type(error).__name__}") from error
    return text.encode("utf-8", "replace").decode()


def _mended(text: str) -> object:
    """The object in a text that only has numbers which are none (null instead) or lone surrogates ("?"). Raises
    NotJson."""
    if len(text) > MAX_MENDED_CHARS or not text.lstrip().startswith("{"):
        raise NotJson("not JSON")
    try:
        value = json.loads(text, parse_constant=lambda name: None, parse_float=_finite)
        mended: object = orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise NotJson("not JSON") from error
    return mended


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _deeper_than(limit: int, value: object) -> bool:
    """Level by level rather than by recursion."""
    level = [value] if isinstance(value, (dict, list)) else []
    depth = 0
    while level:
        depth += 1
        if depth > limit:
            return True
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
    return False
