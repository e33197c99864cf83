"""Descriptions of tools that every server takes, made from what devices and foreign servers describe."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.chat import ToolSpec
from xiaozhi.providers.families.tool_schemas import MAX_DESCRIPTION_CHARS, Level, function_of


def parameters(schema: Any, level: Level = Level.MENDED) -> Any:
    return function_of(ToolSpec("f", "", schema), level)["function"]["parameters"]


def prop(schema: Any, level: Level = Level.MENDED) -> Any:
    return parameters({"type": "object", "properties": {"x": schema}}, level)["properties"]["x"]


@pytest.mark.parametrize(
    ("schema", "mended"),
    [
        ({"type": "string"}, {"type": "string"}),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"type": "array", "items": {}}, {"type": "array", "items": {"type": "string"}}),
        (
            {"type": "array", "items": {"type": "array"}},
            {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        ),
        ({"items": {"type": "integer"}}, {"type": "array", "items": {"type": "integer"}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": ["string", "null"]}, {"type": "string"}),
        ({"type": ["null"]}, {"type": "string"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "nonsense"}, {"type": "string"}),
        ({}, {"type": "string"}),
        (True, {"type": "string"}),
        ({"enum": []}, {"type": "string"}),
        ({"enum": ["a", None]}, {"enum": ["a"]}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "integer"}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        ({"type": "integer", "minimum": 0, "exclusiveMinimum": True}, {"type": "integer", "minimum": 0}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "exclusiveMinimum": 0}),
        ({"type": "string", "$comment": "x", "default": None}, {"type": "string"}),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b", "a", 5]},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": []},
            {"type": "object", "properties": {"a": {"type": "string"}}},
        ),
    ],
)
def test_what_servers_refuse_is_mended(schema: Any, mended: Any) -> None:
    assert prop(schema) == mended


@pytest.mark.parametrize(
    "schema", [{}, {"type": "string"}, {"properties": None}, {"properties": []}, {"required": "x"}]
)
def test_arguments_are_an_object_whatever_is_said(schema: Any) -> None:
    for level in Level:
        assert parameters(schema, level) == {"type": "object", "properties": {}}


def test_references_are_written_out_and_circles_end() -> None:
    point = {"type": "object", "properties": {"x": {"type": "number"}}}
    schema = {"type": "object", "properties": {"p": {"$ref": "#/$defs/Point"}}, "$defs": {"Point": point}}
    assert parameters(schema) == {"type": "object", "properties": {"p": point}}
    circle = {"type": "object", "properties": {"n": {"$ref": "#/definitions/N"}}}
    assert orjson.dumps(parameters({**circle, "definitions": {"N": circle}}))


def test_a_long_description_is_cut() -> None:
    made = function_of(
        ToolSpec("f", "d" * 5_000, {"type": "object", "properties": {"x": {"description": "e" * 5_000}}})
    )
    assert len(made["function"]["description"]) == MAX_DESCRIPTION_CHARS
    assert len(made["function"]["parameters"]["properties"]["x"]["description"]) == MAX_DESCRIPTION_CHARS
    assert len(function_of(ToolSpec("f", "d" * 500), longest=100)["function"]["description"]) == 100


def test_narrower_levels() -> None:
    schema = {"type": "string", "format": "date", "pattern": "x", "enum": ["a"], "description": "d"}
    assert prop(schema, Level.SIMPLIFIED) == {"type": "string", "enum": ["a"], "description": "d"}
    assert prop(schema, Level.FLAT) == {"type": "string", "description": "d"}
    assert prop({"type": "array", "items": {"type": "integer"}}, Level.FLAT) == {"type": "string"}
    assert prop({"type": "integer", "enum": [1, 2]}, Level.SIMPLIFIED) == {"type": "integer"}


def faults(schema: Any, where: str = "") -> list[str]:
    """What any server refuses in a schema."""
    if not isinstance(schema, dict):
        return [f"{where}: no object"]
    found = []
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        found.append(f"{where}: array without items")
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), dict):
        found.append(f"{where}: object without properties")
    properties = schema.get("properties", {})
    found += [f"{where}: {name} is not declared" for name in schema.get("required", ()) if name not in properties]
    if "enum" in schema and not schema["enum"]:
        found.append(f"{where}: no choices")
    children = [*properties.items(), *([("items", schema["items"])] if "items" in schema else [])]
    children += [(key, each) for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, ())]
    return found + [fault for name, child in children for fault in faults(child, f"{where}.{name}")]


leaves = st.sampled_from([None, True, 5, "x", [], ["a"], {}, "string", "array", "object", ["string", "null"]])
keys = st.sampled_from(["type", "properties", "items", "required", "enum", "anyOf", "description", "$ref", "x"])
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(st.dictionaries(keys, inner, max_size=5), st.lists(inner, max_size=3)),
    max_leaves=25,
)


@given(st.dictionaries(keys, schemas, max_size=5), st.sampled_from(list(Level)))
def test_whatever_is_described_is_sent_in_order(schema: Any, level: Level) -> None:
    made = parameters(schema, level)
    assert made["type"] == "object" and faults(made) == []
    orjson.dumps(made)
