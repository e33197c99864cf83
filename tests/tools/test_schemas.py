"""Schemas of strangers become ones that are safe to keep and to show."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import ToolError
from xiaozhi.tools.arguments import fit_arguments
from xiaozhi.tools.schemas import MAX_DEPTH, MAX_NODES, SchemaTooLarge, json_chars, object_schema

EMPTY = {"type": "object", "properties": {}}


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def nested(levels: int, keyword: str = "items") -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {keyword: schema}
    return schema


def test_an_ordinary_schema_stays_as_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {
            "volume": {"type": "integer", "minimum": 0, "maximum": 100, "description": "How loud.", "default": 5},
            "colours": {"type": "array", "items": {"enum": ["red", {"r": 1}]}},
            "title": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["volume"],
    }

    assert object_schema(schema) == schema


@pytest.mark.parametrize("schema", [None, 5, [], "x", True, {}, {"properties": []}, {"type": "string"}, {"$ref": "#"}])
def test_what_is_no_object_schema_becomes_an_empty_one(schema: Any) -> None:
    assert object_schema(schema) == EMPTY


def test_only_properties_that_are_schemas_stay_and_only_they_are_required() -> None:
    schema = {"properties": {"a": 5, "b": {}, "c": None}, "required": ["a", 3, "b", ["b"]]}

    assert object_schema(schema) == {"type": "object", "properties": {"b": {}}, "required": ["b"]}


def test_references_are_replaced_by_what_they_refer_to() -> None:
    schema = {
        "$defs": {"Colour": {"title": "Colour", "type": "string"}, "a/b~c": {"type": "integer"}},
        "properties": {
            "colour": {"$ref": "#/$defs/Colour", "description": "Of the lamp."},
            "list": {"items": {"$ref": "#/$defs/Colour"}},
            "odd": {"$ref": "#/$defs/a~1b~0c"},
        },
    }

    assert object_schema(schema)["properties"] == {
        "colour": {"type": "string", "description": "Of the lamp."},
        "list": {"items": {"type": "string"}},
        "odd": {"type": "integer"},
    }


def test_a_reference_may_stand_for_the_whole() -> None:
    schema = {"$ref": "#/definitions/A", "definitions": {"A": {"properties": {"x": {"type": "integer"}}}}}

    assert object_schema(schema)["properties"] == {"x": {"type": "integer"}}


@pytest.mark.parametrize(
    "reference", ["#", "#/nowhere", "#/properties/x/y", "http://host/schema", "other.json#/a", "", "#/" + "a" * 300]
)
def test_references_to_nothing_here_become_anything(reference: str) -> None:
    assert object_schema({"properties": {"x": {"$ref": reference}}})["properties"] == {"x": {}}


def test_names_of_properties_are_no_keywords_and_data_is_no_schema() -> None:
    schema = {
        "$defs": {"A": {"type": "integer"}},
        "properties": {
            "$ref": {"type": "string"},
            "title": {"default": {"$ref": "#/$defs/A", "title": "kept"}},
            "enum": {"const": ["$defs"]},
        },
    }

    assert object_schema(schema)["properties"] == schema["properties"]


def test_recursive_schemas_end() -> None:
    schema = {
        "$defs": {
            "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "n": {"type": "integer"}}},
            "A": {"$ref": "#/$defs/B"},
            "B": {"$ref": "#/$defs/A"},
        },
        "properties": {"tree": {"$ref": "#/$defs/Node"}, "loop": {"$ref": "#/$defs/A"}},
    }

    assert object_schema(schema)["properties"] == {
        "tree": {"type": "object", "properties": {"next": {}, "n": {"type": "integer"}}},
        "loop": {},
    }


def test_references_that_multiply_are_too_large() -> None:
    """Ten definitions of ten references each would be 10 ** 10 values."""
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for number in range(1, 11):
        definitions[f"d{number}"] = {"anyOf": [{"$ref": f"#/$defs/d{number - 1}"}] * 10}

    with pytest.raises(SchemaTooLarge):
        object_schema({"$defs": definitions, "properties": {"x": {"$ref": "#/$defs/d10"}}})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"p{number}": {} for number in range(MAX_NODES)}},
        {"properties": {"x": {"enum": list(range(MAX_NODES))}}},
        {"required": ["x"] * MAX_NODES},
        {f"k{number}": 1 for number in range(MAX_NODES + 1)},
    ],
)
def test_wide_schemas_are_too_large(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaTooLarge):
        object_schema(schema)


@pytest.mark.parametrize("levels", [MAX_DEPTH, 900])
@pytest.mark.parametrize("keyword", ["items", "properties", "default", "anyOf"])
def test_depth_is_bounded(levels: int, keyword: str) -> None:
    made = object_schema({"properties": {"x": nested(levels, keyword)}})

    assert depth_of(made) <= MAX_DEPTH + 4
    made = object_schema({"properties": {"x": {"anyOf": [nested(levels, keyword)], "enum": [[nested(levels)]]}}})
    assert depth_of(made) <= MAX_DEPTH + 4


def test_the_length_of_what_cannot_be_written_is_huge() -> None:
    assert json_chars({"a": [1, "ä"]}) == len('{"a": [1, "ä"]}')
    assert json_chars(nested(5000)) > 10**9


# --- anything at all ---

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("#/$defs/a"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["$ref", "$defs", "a", "properties", "items", "anyOf", "enum", "default", "required", "type", "title"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(values, st.dictionaries(st.sampled_from(["a", "$ref", "items"]), values, max_size=3))
def test_every_schema_becomes_one_that_can_be_shown_and_used(schema: Any, arguments: dict[str, Any]) -> None:
    try:
        made = object_schema(schema)
    except SchemaTooLarge:
        return

    assert made["type"] == "object"
    assert "$ref" not in {key for described in made["properties"].values() for key in described}
    assert depth_of(made) <= MAX_DEPTH + 4
    json.dumps(made)
    with suppress(ToolError):
        fit_arguments(made, arguments)
