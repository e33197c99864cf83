"""Reading the fields of a JSON object by type: what is absent or odd counts as not given.

Firmware variants and home-made clients leave fields out, send null, add their own, write numbers as text, or an empty
list where an object belongs (encoders of Lua and PHP cannot tell the two apart). None of that may cost the message: a
field of another type than expected takes its default. Only `required`, and a text that is too long, raise
ProtocolError; its message names the field and never quotes its content, which may be speech or a secret."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeVar

from xiaozhi.errors import ProtocolError

Body = Mapping[str, object]
E = TypeVar("E", bound=Enum)

_MAX_DIGITS: Final = 19


def text(body: Body, key: str, default: str = "", *, longest: int = 0) -> str:
    """A string, or a number written out; else `default`. Raises ProtocolError beyond `longest` characters (0: as many
    as a message has room for)."""
    value = body.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return default
    if longest and len(value) > longest:
        raise ProtocolError(f"{key} is longer than {longest} characters")
    return value


def integer(body: Body, key: str, low: int, high: int) -> int | None:
    """A whole number in [low, high], also written as 16000.0 or "16000"; else None."""
    value = body.get(key)
    if isinstance(value, str):
        digits = value.strip()
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        return None
    return value


def mapping(body: Body, key: str) -> dict[str, object]:
    """An object; empty for anything else."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def objects(body: Body, key: str) -> tuple[dict[str, object], ...]:
    """The objects in a list; empty for anything else."""
    value = body.get(key)
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def choice(body: Body, key: str, kind: type[E]) -> E | None:
    """A member of an enum of lower-case strings, written in any case; else None."""
    value = body.get(key)
    if not isinstance(value, str):
        return None
    try:
        return kind(value.strip().lower())
    except ValueError:
        return None


def required(value: E | None, key: str) -> E:
    """The value of a field that a message cannot do without. Raises ProtocolError."""
    if value is None:
        raise ProtocolError(f"{key} is missing or unknown")
    return value
