"""JSON schemas of tools' arguments, made safe to keep and to show to a language model.

Schemas come from devices, foreign servers and our own signatures. `object_schema` copies one within bounds: references
inside it are replaced by what they refer to, because models' vendors and `arguments.py` follow none. Not a validator:
`arguments.py` makes what a model wrote fit a schema. Pure functions of decoded JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16
"""Containers within containers, references followed; real schemas have 3 to 8. The JSON writer of the LLM clients
refuses more than 254, and would refuse the whole request."""
MAX_NODES = 1_000
"""Values in one schema after its references were replaced: few of them can multiply to any number."""
_MAX_REF_CHARS = 200
_NO_USE = frozenset({"$schema", "$id", "$defs", "definitions", "$comment", "$anchor", "title"})
"""Keywords that tell a model nothing once references are gone."""
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Keywords whose value maps names, not keywords, to schemas."""
_DATA = frozenset({"enum", "const", "default", "examples"})
"""Keywords whose value is data, in which nothing is a keyword."""
_UNWRITABLE = 1 << 30


class SchemaTooLarge(ValueError):
    """A schema has more values than MAX_NODES."""


def object_schema(schema: Any) -> dict[str, Any]:
    """An object schema that language models accept, whatever was given.

    What is nested deeper than MAX_DEPTH, refers to itself, or refers to another document, becomes {} (anything).
    Raises SchemaTooLarge."""
    given = _Copy(schema).schema(schema, 0)
    properties = given.get("properties")
    made: dict[str, Any] = {"type": "object", "properties": properties if isinstance(properties, dict) else {}}
    required = given.get("required")
    if isinstance(required, list):
        made["required"] = [name for name in required if isinstance(name, str) and name in made["properties"]]
    return made


def json_chars(value: Any) -> int:
    """Length of a decoded JSON value when it is written again; a huge number when it is nested too deeply for that."""
    try:
        return len(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:
        return _UNWRITABLE


class _Copy:
    """Copies one document within the bounds."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._left = MAX_NODES
        self._following = ["#"]
        """References that are being replaced; one of them again would never end."""

    def schema(self, given: Any, depth: int) -> dict[str, Any]:
        """A copy of what stands where a schema is expected."""
        if not isinstance(given, Mapping) or depth > MAX_DEPTH:
            return {}
        reference = given.get("$ref")
        copied = self._referred(reference, depth) if isinstance(reference, str) else {}
        for keyword, value in given.items():
            if keyword == "$ref" or keyword in _NO_USE:
                continue
            self._count()
            if keyword in _NAMED:
                copied[keyword] = self._named(value, depth + 1)
            elif keyword in _DATA:
                copied[keyword] = self._data(value, depth + 1)
            elif isinstance(value, Mapping):
                copied[keyword] = self.schema(value, depth + 1)
            elif isinstance(value, list):
                copied[keyword] = [self._item(item, depth + 2) for item in value]
            else:
                copied[keyword] = value
        return copied

    def _item(self, item: Any, depth: int) -> Any:
        """One of several schemas (`anyOf`), or a plain value (`required`, `type`)."""
        self._count()
        return self.schema(item, depth) if isinstance(item, Mapping) else self._data(item, depth)

    def _named(self, given: Any, depth: int) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for name, schema in given.items() if isinstance(given, Mapping) and depth <= MAX_DEPTH else ():
            self._count()
            if isinstance(schema, Mapping):
                named[name] = self.schema(schema, depth + 1)
        return named

    def _data(self, given: Any, depth: int) -> Any:
        if not isinstance(given, Mapping | list):
            return given
        if depth > MAX_DEPTH:
            return None
        if isinstance(given, list):
            return [self._counted(item, depth + 1) for item in given]
        return {name: self._counted(value, depth + 1) for name, value in given.items()}

    def _counted(self, given: Any, depth: int) -> Any:
        self._count()
        return self._data(given, depth)

    def _referred(self, reference: str, depth: int) -> dict[str, Any]:
        if reference in self._following or len(reference) > _MAX_REF_CHARS:
            return {}
        self._following.append(reference)
        try:
            return self.schema(self._target(reference), depth)
        finally:
            self._following.pop()

    def _target(self, reference: str) -> Any:
        """What a JSON pointer into this document (RFC 6901) refers to; None when it refers to nothing here."""
        start, *steps = reference.split("/")
        target = self._document if start == "#" else None
        for step in steps:
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) else None
        return target

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise SchemaTooLarge(f"more than {MAX_NODES} values")
