"""Descriptions of tools as the narrowest common server takes them. Pure.

The schemas come from devices and foreign servers, so they are mended rather than trusted: what every server refuses (an
array without items, a required argument that is not declared, an empty list of choices) is put right always; what only
some refuse is left out when such a server is met (`simplified`, then `flat`)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from xiaozhi.chat import ToolSpec

MAX_DESCRIPTION_CHARS: Final = 1_024
"""OpenAI's limit for a function's description."""
MAX_TOOLS: Final = 128
"""OpenAI's limit."""
MAX_DEPTH: Final = 5
"""OpenAI's limit for nested objects."""

_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_ALIASES: Final = {
    "str": "string", "text": "string", "int": "integer", "float": "number", "double": "number", "bool": "boolean",
    "list": "array", "dict": "object", "map": "object", "any": "string",
}  # fmt: skip
# What a schema keeps at the level `simplified`, which Gemini's list of keywords has in common with everybody's.
_COMMON: Final = frozenset({"type", "description", "enum", "items", "properties", "required", "minimum", "maximum"})
_CHOICES: Final = ("anyOf", "oneOf", "allOf")


class Level(IntEnum):
    """How much of a schema is sent."""

    MENDED = 0
    SIMPLIFIED = 1
    """Common keywords only, one type each."""
    FLAT = 2
    """Names and plain types of the arguments; what is nested is text."""


def function_of(tool: ToolSpec, level: Level = Level.MENDED, *, longest: int = MAX_DESCRIPTION_CHARS) -> dict[str, Any]:
    """The tool as an OpenAI-compatible server wants it. `longest`: characters of a description."""
    if level is Level.FLAT:
        parameters = _flat(tool.parameters)
    else:
        parameters = _Mender(tool.parameters, level).object(tool.parameters, 0)
    description = _cut(tool.description, longest)
    return {"type": "function", "function": {"name": tool.name, "description": description, "parameters": parameters}}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


class _Mender:
    """Puts one tool's schema right."""

    def __init__(self, root: Mapping[str, Any], level: Level) -> None:
        self._level = level
        self._definitions = [root.get(key) for key in ("$defs", "definitions")]

    def object(self, schema: Any, depth: int) -> dict[str, Any]:
        """A schema of type object, whatever it said it was."""
        given = schema if isinstance(schema, Mapping) else {}
        mended = self._mended(given, depth)
        mended["type"] = "object"
        properties = mended.get("properties")
        if not isinstance(properties, dict):
            mended["properties"] = properties = {}
        required = _required(given, properties)
        return mended | {"required": required} if required else mended

    def _any(self, schema: Any, depth: int) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            return {"type": "string"}  # true, or a remark
        if depth >= MAX_DEPTH:
            return {"type": "string", "description": str(schema.get("description") or "as JSON")}
        if "$ref" in schema:
            schema = {**self._definition(schema["$ref"]), **schema}
        schema = _without_null(schema)
        kind = _type_of(schema)
        if kind == "object":
            return self.object(schema, depth)
        mended = self._mended(schema, depth)
        if kind is not None:
            mended["type"] = kind
        if kind == "array":
            mended["items"] = self._any(schema.get("items") or {"type": "string"}, depth + 1)
        return mended or {"type": "string"}

    def _definition(self, reference: Any) -> Mapping[str, Any]:
        name = str(reference).rpartition("/")[2]
        for definitions in self._definitions:
            if isinstance(definitions, Mapping) and isinstance(definitions.get(name), Mapping):
                found: Mapping[str, Any] = definitions[name]
                return found
        return {}

    def _mended(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        mended: dict[str, Any] = {}
        for key, value in schema.items():
            kept = self._keyword(key, value, depth)
            if kept is not None:
                mended[key] = kept
        if self._level is Level.SIMPLIFIED and "type" not in mended:
            mended["type"] = _type_of(schema) or "string"
        return mended

    def _keyword(self, key: Any, value: Any, depth: int) -> Any:
        """The value of a keyword as it is sent; None: it is left out."""
        narrow = self._level is not Level.MENDED
        if not isinstance(key, str) or key.startswith("$") or key in ("definitions", "required", "items", "type"):
            return value if key == "type" and isinstance(value, str) and value in _TYPES else None
        if narrow and key not in _COMMON:
            return None
        if key == "properties":
            given = value if isinstance(value, Mapping) else {}
            return {str(name): self._any(each, depth + 1) for name, each in given.items()}
        if key == "enum":
            choices = [each for each in value if each is not None] if isinstance(value, (list, tuple)) else []
            return choices if choices and not (narrow and any(not isinstance(each, str) for each in choices)) else None
        if key in _CHOICES:
            options = value if isinstance(value, (list, tuple)) else ()
            return [self._any(each, depth + 1) for each in options] or None
        if key == "additionalProperties" and isinstance(value, Mapping):
            return self._any(value, depth + 1)
        if key == "description":
            return _cut(str(value), MAX_DESCRIPTION_CHARS)
        draft_4 = key in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool)
        return None if draft_4 else value


def _required(schema: Mapping[str, Any], properties: Mapping[str, Any]) -> list[str]:
    """Names of arguments that are needed and declared."""
    declared = schema.get("required")
    names = declared if isinstance(declared, (list, tuple)) else ()
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name in properties))


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """An optional value without its "or null": arguments that are not needed are left out."""
    for choice in ("anyOf", "oneOf"):
        options = schema.get(choice)
        if isinstance(options, (list, tuple)):
            meant = [each for each in options if isinstance(each, Mapping) and each.get("type") != "null"]
            rest = {key: value for key, value in schema.items() if key != choice}
            return {**meant[0], **rest} if len(meant) == 1 else {**rest, choice: meant}
    return schema


def _types(schema: Mapping[str, Any]) -> list[str]:
    declared = schema.get("type")
    given = [declared] if isinstance(declared, str) else declared if isinstance(declared, (list, tuple)) else []
    types = [_ALIASES.get(str(each).lower(), str(each).lower()) for each in given]
    return [each for each in types if each in _TYPES]


def _type_of(schema: Mapping[str, Any]) -> str | None:
    """The one type that is meant; None: the schema says it in another way, or not at all."""
    types = [each for each in _types(schema) if each != "null"]
    if types:
        return types[0]
    if "properties" in schema:
        return "object"
    if "items" in schema:
        return "array"
    for choice in _CHOICES:
        options = schema.get(choice)
        if isinstance(options, (list, tuple)):
            found = [_type_of(option) for option in options if isinstance(option, Mapping)]
            return None if choice != "allOf" else next(filter(None, found), None)
    return None if "enum" in schema or "const" in schema or "$ref" in schema else "string"


def _flat(schema: Any) -> dict[str, Any]:
    root = schema if isinstance(schema, Mapping) else {}
    given = root.get("properties")
    properties: dict[str, Any] = {}
    for name, each in given.items() if isinstance(given, Mapping) else ():
        described = _without_null(each) if isinstance(each, Mapping) else {}
        kind = _type_of(described)
        plain: dict[str, Any] = {"type": kind if kind in ("integer", "number", "boolean") else "string"}
        if isinstance(described.get("description"), str):
            plain["description"] = _cut(described["description"], MAX_DESCRIPTION_CHARS)
        properties[str(name)] = plain
    flat: dict[str, Any] = {"type": "object", "properties": properties}
    required = _required(root, properties)
    return flat | {"required": required} if required else flat
