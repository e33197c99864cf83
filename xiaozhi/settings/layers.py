"""Laying configuration layers over each other, and remembering which one said what.

Mappings merge key by key, to any depth; everything else, lists included, replaces what was there. So does a mapping
whose `type` is another one than below: it is another thing, and the keys of the first mean nothing to it. Two kinds of
value mean "not set here" and leave the lower layer alone: null (a section whose lines are all commented out) and a
placeholder that its template asked to be replaced ("你的api_key", "your-api-key"). Unreplaced placeholders are
remembered, because in a block that is in use they are a mistake.

Pure: plain data in, plain data out. It knows nothing of the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi.errors import Fault, SettingsError

MAX_DEPTH = 64
_MAX_BITS = 256

Path = tuple[str, ...]
"""Keys from the root: ("server", "port")."""
SHIPPED = ("vendors.yaml", "default.yaml")
"""Names of the files that ship: the lowest layers, in this order."""

_PLACEHOLDER = re.compile(
    r"\s*(?:(?:[（(]选填[）)])?你的.*"  # the templates of the existing server
    r"|(?:wss?|https?)://你的.*"
    r"|your[-_ ].*"
    r"|<[^<>]+>"
    r"|(?:[a-z]{2,12}-)?x{3,})\s*",
    re.IGNORECASE,
)
_LONGEST_PLACEHOLDER = 120
# Values meant to be read or spoken may begin with "你的" or "your" honestly.
_PROSE = re.compile(r"prompt|text|description|context|greeting|response|words|commands|content|message|question")


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings. `source` is its name for people: a file, a variable, "command line"."""

    source: str
    tree: Mapping[str, Any]


@dataclass(slots=True)
class Merged:
    """The outcome: the tree, who set each leaf, and which placeholders were never replaced (path -> source)."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    unfilled: dict[Path, str] = field(default_factory=dict)

    def origin(self, path: Path) -> str:
        """Who set the value at `path`, or whatever it is part of; "" when nobody did."""
        for end in range(len(path), 0, -1):
            source = self.origins.get(path[:end])
            if source is not None:
                return source
        return ""


def merge(layers: Iterable[Layer]) -> Merged:
    """Lay `layers` over each other, lowest first; the inputs are not changed. Raises SettingsError on absurd
    nesting."""
    merged = Merged()
    for layer in layers:
        _lay(merged.tree, layer.tree, (), layer.source, merged)
    return merged


def ships(source: str) -> bool:
    """Whether a layer is one of the files that ship."""
    return source.endswith(SHIPPED)


def is_prose(key: str) -> bool:
    """True for the name of a value that is meant to be read or spoken."""
    return _PROSE.search(key.lower()) is not None


def is_placeholder(key: str, value: object) -> bool:
    """True for a text that its template asked to be replaced."""
    if not isinstance(value, str) or len(value) > _LONGEST_PLACEHOLDER or is_prose(key):
        return False
    return _PLACEHOLDER.fullmatch(value) is not None


def _lay(below: dict[str, Any], above: Mapping[Any, Any], path: Path, source: str, merged: Merged) -> None:
    if len(path) > MAX_DEPTH:
        raise SettingsError([Fault(source, "nested too deeply", f"at most {MAX_DEPTH} levels")])
    for raw_key, value in above.items():
        key = str(raw_key)
        here = (*path, key)
        if value is None:
            continue
        if is_placeholder(key, value):
            merged.unfilled[here] = source
            continue
        if isinstance(value, Mapping):
            existing = below.get(key)
            if not isinstance(existing, dict) or _is_another_thing(existing, value):
                if existing is not None:
                    _forget(merged, here)
                existing = below[key] = {}
                merged.origins[here] = source
            _lay(existing, value, here, source, merged)
            continue
        below[key] = _copied(value, source, len(path))
        merged.origins[here] = source


def _is_another_thing(below: Mapping[str, Any], above: Mapping[Any, Any]) -> bool:
    kinds = below.get("type"), above.get("type")
    return all(isinstance(kind, str) and kind for kind in kinds) and kinds[0] != kinds[1]


def _forget(merged: Merged, path: Path) -> None:
    """Drop what is known of everything at `path`."""
    for known in (merged.origins, merged.unfilled):
        for other in [other for other in known if other[: len(path)] == path]:
            del known[other]


def _copied(value: Any, source: str, depth: int) -> Any:
    """A deep copy of a leaf; mappings inside lists lose their nulls as others do."""
    if depth > MAX_DEPTH:
        raise SettingsError([Fault(source, "nested too deeply", f"at most {MAX_DEPTH} levels")])
    if isinstance(value, Mapping):
        return {
            str(key): _copied(item, source, depth + 1)
            for key, item in value.items()
            if item is not None and not is_placeholder(str(key), item)
        }
    if isinstance(value, list | tuple):
        return [_copied(item, source, depth + 1) for item in value]
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        # Python refuses to write out longer ones, so it could be neither shown nor printed.
        raise SettingsError(
            [Fault(source, f"a number of {value.bit_length()} bits", "a smaller number, or quotes around it")]
        )
    return value
