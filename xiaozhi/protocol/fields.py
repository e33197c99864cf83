"""Reading the fields of a JSON object by type: absent is allowed, wrong is not.

Firmware variants leave fields out, send null, or add their own: none of that matters. A field of the wrong type does
matter, because it would fail later and far away. Error messages name the field and never quote its content, which may
be speech or a secret."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from xiaozhi.errors import ProtocolError

Body = Mapping[str, object]
E = TypeVar("E", bound=Enum)


def text(body: Body, key: str, default: str = "", *, longest: int = 0) -> str:
    """A string of at most `longest` characters (0: as many as a message has room for); `default` when absent or
    null."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise ProtocolError(f"{key} is not text")
    if longest and len(value) > longest:
        raise ProtocolError(f"{key} is longer than {longest} characters")
    return value


def integer(body: Body, key: str, low: int, high: int) -> int | None:
    """A whole number in [low, high], also written as 16000.0; None when absent or null."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"{key} is not a whole number")
    if not low <= value <= high:
        raise ProtocolError(f"{key} is not between {low} and {high}")
    return value


def mapping(body: Body, key: str) -> dict[str, object]:
    """An object; empty when absent or null."""
    value = body.get(key)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise ProtocolError(f"{key} is not an object")


def objects(body: Body, key: str) -> tuple[dict[str, object], ...]:
    """A list of objects; empty when absent or null."""
    value = body.get(key)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return tuple(value)
    raise ProtocolError(f"{key} is not a list of objects")


def choice(body: Body, key: str, kind: type[E]) -> E | None:
    """A member of a string enum; None when absent, null or empty."""
    value = body.get(key)
    if value is None or value == "":
        return None
    try:
        return kind(value)
    except ValueError:
        raise ProtocolError(f"{key} is not one of {', '.join(str(member.value) for member in kind)}") from None


def required(value: E | None, key: str) -> E:
    """The value of a field that a message cannot do without."""
    if value is None:
        raise ProtocolError(f"{key} is missing")
    return value
