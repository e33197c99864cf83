"""Tool calls from fragments and from what models write as arguments: put together rightly, or not run and told."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.providers.families.call_arguments import BadToolCall, parse_arguments
from xiaozhi.providers.families.openai_deltas import ToolCalls
from xiaozhi.providers.families.tool_names import Offer

OFFER = Offer([ToolSpec(name, "") for name in ("f", "g", "get_weather")])
Calls = list[tuple[str, dict[str, Any]]]
X1: Calls = [("f", {"x": 1})]
F_AND_G: Calls = [("f", {"x": 1}), ("g", {"y": 2})]


def fragment(index: Any, identity: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """None: the field is missing."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    made: dict[str, Any] = {"function": function}
    if index is not None:
        made["index"] = index
    if identity is not None:
        made["id"] = identity
    return made


def whole(*fragments: Any, cut_off: bool = False) -> list[ToolCall]:
    calls = ToolCalls()
    for each in fragments:
        calls.add([each])
    return calls.whole(cut_off=cut_off, offer=OFFER)


ROWS: dict[str, tuple[list[Any], Calls]] = {
    "in one piece": ([(0, "a", "f", '{"x": 1}')], X1),
    "in pieces": ([(0, "a", "f", ""), (0, None, None, '{"x"'), (0, None, None, ": 1}")], X1),
    "two, interleaved by index": (
        [(0, "a", "f", '{"x"'), (1, "b", "g", '{"y"'), (0, None, None, ": 1}"), (1, None, None, ": 2}")],
        F_AND_G,
    ),
    "two, interleaved by id, every index 0": (
        [(0, "a", "f", '{"x"'), (0, "b", "g", '{"y"'), (0, "a", None, ": 1}"), (0, "b", None, ": 2}")],
        F_AND_G,
    ),
    "two, interleaved by id, no index": (
        [(None, "a", "f", '{"x"'), (None, "b", "g", '{"y"'), (None, "a", None, ": 1}"), (None, "b", None, ": 2}")],
        F_AND_G,
    ),
    "index as text": ([("0", "a", "f", '{"x"'), ("1", "b", "g", '{"y": 2}'), ("0", None, None, ": 1}")], F_AND_G),
    "index is nonsense": ([([], "a", "f", '{"x"'), (True, None, None, ": 1}")], X1),
    "indexes begin at 1": ([(1, "a", "f", '{"x": 1}'), (2, "b", "g", '{"y": 2}')], F_AND_G),
    "indexes count fragments": ([(0, "a", "f", '{"x"'), (1, "a", None, ": "), (2, None, None, "1}")], X1),
    "no index, no id": (
        [(None, None, "f", '{"x": '), (None, None, None, "1}"), (None, None, "g", '{"y": 2}')],
        F_AND_G,
    ),
    "every call is number 0": ([(0, "a", "f", '{"x": 1}'), (0, "b", "g", '{"y": 2}')], F_AND_G),
    "every call is number 0, without ids": ([(0, None, "f", '{"x": 1}'), (0, None, "g", '{"y": 2}')], F_AND_G),
    "the same function twice, number 0, without ids": (
        [(0, None, "f", '{"x": 1}'), (0, None, "f", '{"x": 2}')],
        [("f", {"x": 1}), ("f", {"x": 2})],
    ),
    "the id changes inside a call": ([(0, "a", "f", ""), (0, "b", "", '{"x": 1}')], X1),
    "the id changes with every fragment": ([(0, "a", "f", '{"x"'), (0, "b", None, ": "), (0, "c", "", "1}")], X1),
    "id and name are new in each piece": ([(0, "a", "f", '{"x"'), (0, "b", "f", ": "), (0, "c", "f", "1}")], X1),
    "id and name are new in each piece, no index": ([(None, "a", "f", '{"x"'), (None, "b", "f", ": 1}")], X1),
    "the name comes with every fragment": ([(0, "a", "f", "{"), (0, "a", "f", '"x"'), (0, "a", "f", ": 1}")], X1),
    "the name comes in pieces": ([(0, "a", "get_", ""), (0, "a", "weather", "{}")], [("get_weather", {})]),
    "the name grows": ([(0, "a", "get_", ""), (0, "a", "get_weather", "{}")], [("get_weather", {})]),
    "the name comes late": ([(0, "a", None, None), (0, None, "f", '{"x": 1}')], X1),
    "a mark of the template is stuck to the name": ([(0, "a", "f<|channel|>commentary", '{"x": 1}')], X1),
    "a prefix and a counter": ([(0, "a", "functions.f:0", '{"x": 1}')], X1),
    "an empty id": ([(0, "", "f", '{"x": 1}'), (1, "", "g", '{"y": 2}')], F_AND_G),
    "a number as id": ([(0, 7, "f", '{"x"'), (0, 7, None, ": 1}")], X1),
    "one id for two calls": ([(0, "a", "f", '{"x": 1}'), (1, "a", "g", '{"y": 2}')], F_AND_G),
    "one id for two calls, no index": ([(None, "a", "f", '{"x": 1}'), (None, "a", "g", '{"y": 2}')], F_AND_G),
    "functions without arguments": ([(0, "a", "f", ""), (1, "b", "g", "")], [("f", {}), ("g", {})]),
    "functions without arguments, number 0": ([(0, "a", "f", ""), (0, "b", "g", "")], [("f", {}), ("g", {})]),
    "the whole call again at the end": (
        [(0, "a", "f", '{"x"'), (0, None, None, ": 1}"), (0, "a", "f", '{"x": 1}')],
        X1,
    ),
    "the arguments grow": ([(0, "a", "f", '{"x"'), (0, "a", None, '{"x": '), (0, "a", None, '{"x": 1}')], X1),
    "a placeholder first": ([(0, "a", "f", "{}"), (0, None, None, '{"x": 1}')], X1),
    "a placeholder first, with its id": ([(0, "a", "f", "{}"), (0, "a", "f", '{"x": 1}')], X1),
    "arguments as an object": ([(0, "a", "f", {"x": 1})], X1),
    "null arguments": ([(0, "a", "f", "null")], [("f", {})]),
    "no arguments": ([(0, "a", "f", None)], [("f", {})]),
    "empty fragments behind": ([(0, "a", "f", '{"x": 1}'), (0, "", "", ""), (0, None, None, None)], X1),
    "encoded twice": ([(0, "a", "f", '"{\\"x\\": 1}"')], X1),
    "the whole call where the arguments belong": ([(0, "a", "f", '{"name": "f", "arguments": {"x": 1}}')], X1),
}


@pytest.mark.parametrize("name", ROWS)
def test_fragments_become_calls(name: str) -> None:
    rows, expected = ROWS[name]
    calls = whole(*(fragment(*row) for row in rows))
    assert [(call.name, call.arguments) for call in calls] == expected
    assert [call.fault for call in calls] == [""] * len(calls)
    assert len({call.id for call in calls}) == len(calls) and all(call.id for call in calls)


def test_odd_fragments_are_skipped() -> None:
    calls = ToolCalls()
    for odd in (17, "x", [17, None, "x"], [{"index": 0, "function": None}], None, [{}]):
        calls.add(odd)
    calls.add({"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x": 1}'}})
    calls.add([{"index": 1, "id": "b", "name": "g", "arguments": '{"y": 2}'}])  # without the level in between
    assert [(call.name, call.arguments) for call in calls.whole(offer=OFFER)] == F_AND_G


@pytest.mark.parametrize(
    "arguments",
    ['{"x": 1', '{"x": "ab', '{"x"', '{"x": 1}{"x": 2}', "5", "[1]", "x=1", '{"x": 1} {"y"', "{x: 1}", '"f"'],
)
def test_what_is_not_understood_is_never_run(arguments: str) -> None:
    (call,) = whole(fragment(0, "a", "f", arguments))
    assert (call.id, call.name, call.arguments) == ("a", "f", {})
    assert "arguments" in call.fault


def test_one_call_that_is_not_understood_leaves_the_others() -> None:
    first, second = whole(fragment(0, "a", "f", '{"x": '), fragment(1, "b", "g", '{"y": 2}'))
    assert first.fault and not second.fault and second.arguments == {"y": 2}


def test_a_call_without_a_name_is_none() -> None:
    assert whole(fragment(0, "a", None, '{"x": 1}')) == []


@pytest.mark.parametrize("arguments", ["", '{"x": 1', '{"x": [1]'])
def test_when_the_answer_broke_off_only_a_whole_call_counts(arguments: str) -> None:
    (call,) = whole(fragment(0, "a", "f", arguments), cut_off=True)
    assert call.arguments == {} and "cut off" in call.fault
    (call,) = whole(fragment(0, "a", "f", '{"x": 1}'), cut_off=True)
    assert call.arguments == {"x": 1} and not call.fault


@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=10), st.booleans()), max_size=5
    ),
    st.integers(1, 9),
)
def test_fragments_add_up(arguments: dict[str, Any], size: int) -> None:
    calls = ToolCalls()
    text = orjson.dumps(arguments).decode()
    calls.add([{"index": 0, "id": "a", "function": {"name": "f"}}])
    for start in range(0, len(text), size):
        calls.add([{"index": 0, "function": {"arguments": text[start : start + size]}}])
    assert calls.whole() == [ToolCall("a", "f", arguments)]


def test_endless_tool_calls_are_refused() -> None:
    calls = ToolCalls()
    with pytest.raises(BadToolCall):
        for number in range(1000):
            calls.add([{"index": number, "function": {"name": "f"}}])
    calls = ToolCalls()
    with pytest.raises(BadToolCall):
        for _ in range(1000):
            calls.add([{"index": 0, "function": {"name": "f", "arguments": "x" * 1000}}])


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ("null", {}),
        ("None", {}),
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('{"a": 1} and so on', {"a": 1}),
        ('{"a": 1}}', {"a": 1}),
        ('{"a": 1}</tool_call>', {"a": 1}),
        ('Sure: {"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('"\\"{\\\\\\"a\\\\\\": 1}\\""', {"a": 1}),
        ('{}{"a": 1}', {"a": 1}),
        ('{"a": 1}{"a": 1}', {"a": 1}),
        ('{"a": 1}{"a": 1, "b": 2}', {"a": 1, "b": 2}),
        ('{"a": {"b": [1, 2]', {"a": {"b": [1, 2]}}),
        ('{"a": "b"', {"a": "b"}),
        ("{'a': 'x', 'b': True}", {"a": "x", "b": True}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
    ],
)
def test_arguments_as_models_write_them(text: str, expected: dict[str, Any]) -> None:
    assert parse_arguments(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "half a str',
        '{"a": 1',
        '{"a": tru',
        '{"a": -',
        '{"a": "b",',
        '{"a": 1}{"a": 2}',
        '{"a": 1}{"b": 2}',
        "[1, 2]",
        "17",
        '"text"',
        "{a: b}",
        "no json",
        "{" * 5000,
        "[" * 5000,
        "x" * 200_000,
    ],
)
def test_arguments_that_cannot_be_guessed(text: str) -> None:
    with pytest.raises(BadToolCall):
        parse_arguments(text)


def test_a_cut_off_call_must_be_whole() -> None:
    assert parse_arguments('{"a": 1}', cut_off=True) == {"a": 1}
    for text in ('{"a": 1', '{"a": [1]', '{"a": 1} and', ""):
        with pytest.raises(BadToolCall):
            parse_arguments(text, cut_off=True)


@given(st.text(max_size=60))
def test_arguments_never_fail_in_another_way(text: str) -> None:
    try:
        assert isinstance(parse_arguments(text), dict)
    except BadToolCall:
        pass
