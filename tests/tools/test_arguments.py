"""What models write is made to fit where its meaning is plain, and named where it is not."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import ToolError
from xiaozhi.tools.arguments import fit_arguments

VOLUME = {
    "type": "object",
    "properties": {"volume": {"type": "integer", "minimum": 0, "maximum": 100}},
    "required": ["volume"],
}


def fit_one(schema: dict[str, Any], value: Any) -> Any:
    return fit_arguments({"type": "object", "properties": {"x": schema}}, {"x": value})["x"]


@pytest.mark.parametrize(
    "schema,given_value,fitted",
    [
        ({"type": "integer"}, 50, 50),
        ({"type": "integer"}, "50", 50),
        ({"type": "integer"}, " 50% ", 50),
        ({"type": "integer"}, 50.0, 50),
        ({"type": "integer"}, "49.6", 50),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "number"}, "2", 2),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "Off", False),
        ({"type": "boolean"}, 1, True),
        ({"type": "boolean"}, "打开", True),
        ({"type": "string"}, 5, "5"),
        ({"type": "string"}, True, "true"),
        ({"type": "string", "enum": ["light", "dark"]}, "Dark ", "dark"),
        ({"enum": [1, 2]}, "2", 2),
        ({"type": "array", "items": {"type": "integer"}}, ["1", 2], [1, 2]),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "array", "items": {"type": "string"}}, "red", ["red"]),
        ({"type": "object", "properties": {"r": {"type": "integer"}}}, '{"r": "7"}', {"r": 7}),
        ({"type": ["integer", "null"]}, None, None),
        ({"type": ["string", "integer"]}, "5", "5"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "3", 3),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),
        ({"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 10}]}, 12, 12),
        ({}, {"anything": 1}, {"anything": 1}),
    ],
)
def test_fits(schema: dict[str, Any], given_value: Any, fitted: Any) -> None:
    result = fit_one(schema, given_value)

    assert result == fitted
    assert type(result) is type(fitted)


@pytest.mark.parametrize(
    "schema,value,expected",
    [
        ({"type": "integer"}, "loud", "integer"),
        ({"type": "integer"}, True, "integer"),
        ({"type": "integer"}, [1], "integer"),
        ({"type": "integer", "minimum": 0, "maximum": 100}, 150, "integer from 0 to 100"),
        ({"type": "number", "exclusiveMinimum": 0}, 0, "number"),
        ({"type": "integer"}, 2**60, "integer"),
        ({"type": "number"}, float("inf"), "number"),
        ({"type": "number"}, "nan", "number"),
        ({"type": "boolean"}, "perhaps", "true or false"),
        ({"type": "string"}, {"a": 1}, "string"),
        ({"type": "string", "enum": ["light", "dark"]}, "blue", "one of 'light', 'dark'"),
        ({"type": "string", "maxLength": 3}, "long", "at most 3 characters"),
        ({"type": "array", "maxItems": 1}, [1, 2], "at most 1 items"),
        ({"type": "object"}, "text", "an object"),
        ({"const": "a"}, "b", "'a'"),
        ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, "x", "integer or boolean"),
    ],
)
def test_says_what_was_expected(schema: dict[str, Any], value: Any, expected: str) -> None:
    with pytest.raises(ToolError, match="argument 'x'") as raised:
        fit_one(schema, value)

    assert expected in str(raised.value)


def test_names_every_missing_argument_and_what_it_should_be() -> None:
    schema = {
        "type": "object",
        "properties": {"volume": {"type": "integer", "minimum": 0, "maximum": 100}, "unit": {"type": "string"}},
        "required": ["volume", "unit"],
    }

    with pytest.raises(ToolError) as raised:
        fit_arguments(schema, {"volume": None})

    assert "'volume' is missing (integer from 0 to 100)" in str(raised.value)
    assert "'unit' is missing (string)" in str(raised.value)


def test_names_a_wrong_argument_inside_another() -> None:
    schema = {
        "properties": {"colour": {"type": "object", "properties": {"r": {"type": "integer"}}, "required": ["r", "g"]}}
    }

    with pytest.raises(ToolError, match=r"colour\.r.*colour\.g"):
        fit_arguments(schema, {"colour": {"r": "red"}})


def test_finds_an_argument_written_in_another_case() -> None:
    assert fit_arguments(VOLUME, {"Volume": "30"}) == {"volume": 30}
    assert fit_arguments({"properties": {"song_name": {"type": "string"}}}, {"Song-Name": "x"}) == {"song_name": "x"}


def test_does_not_take_the_argument_of_another_property() -> None:
    schema = {"properties": {"a": {"type": "integer"}, "A": {"type": "integer"}}}

    assert fit_arguments(schema, {"A": 1}) == {"A": 1}


def test_fills_in_defaults_and_keeps_extras_unless_forbidden() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}

    assert fit_arguments(schema, {"extra": 1}) == {"n": 3, "extra": 1}
    assert fit_arguments({**schema, "additionalProperties": False}, {"extra": 1}) == {"n": 3}


def test_does_not_change_what_it_was_given() -> None:
    given_arguments = {"volume": "5", "deep": {"a": 1}}

    fit_arguments(VOLUME, given_arguments)

    assert given_arguments == {"volume": "5", "deep": {"a": 1}}


def test_nested_alternatives_of_a_hostile_schema_cost_little() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(30):
        schema = {"anyOf": [schema] * 50}

    assert fit_one(schema, "x") == "x"  # given up on, not explored: this would be 100 ** 30 tries


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
keywords = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "anyOf",
        "minimum",
        "maxLength",
        "const",
        "default",
        "additionalProperties",
        "x",
    ]
)
types = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null", "nonsense"])
schemas = st.dictionaries(
    keywords, json_values | types | st.dictionaries(st.sampled_from(["x", "y"]), json_values), max_size=6
)


@given(schemas, st.dictionaries(st.sampled_from(["x", "y", "X"]), json_values, max_size=3))
def test_garbage_schemas_and_arguments_end_in_a_result_or_a_tool_error(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    with suppress(ToolError):
        assert isinstance(fit_arguments(schema, arguments), dict)


@given(
    st.dictionaries(st.sampled_from(["x", "y"]), schemas, max_size=2),
    st.dictionaries(st.sampled_from(["x", "y"]), json_values, max_size=2),
)
def test_garbage_inside_properties_too(properties: dict[str, Any], arguments: dict[str, Any]) -> None:
    with suppress(ToolError):
        assert "x" in fit_arguments({"type": "object", "properties": properties, "required": ["x"]}, arguments)
