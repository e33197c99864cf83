"""Merging, origins and placeholders on plain data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import SettingsError
from xiaozhi.settings.layers import Layer, is_placeholder, merge


def test_inputs_are_not_changed_and_not_shared() -> None:
    low: dict[str, Any] = {"a": {"b": [1]}, "c": [{"d": 1}]}
    high: dict[str, Any] = {"a": {"e": {"f": [2]}}}

    merged = merge([Layer("low", low), Layer("high", high)])
    merged.tree["a"]["b"].append(9)
    merged.tree["a"]["e"]["f"].append(9)
    merged.tree["c"][0]["d"] = 9

    assert low == {"a": {"b": [1]}, "c": [{"d": 1}]}
    assert high == {"a": {"e": {"f": [2]}}}


def test_origins_name_the_layer_that_decided() -> None:
    merged = merge([Layer("low", {"a": {"b": 1, "c": 2}}), Layer("high", {"a": {"b": 3}, "l": [1, 2]})])

    assert merged.origin(("a", "b")) == "high"
    assert merged.origin(("a", "c")) == "low"
    assert merged.origin(("l", "0", "x")) == "high"
    assert merged.origin(("z",)) == ""


def test_null_and_placeholders_leave_the_lower_layer_alone() -> None:
    low = Layer("low", {"a": 1, "s": {"k": 2}, "api_key": "real"})
    high = Layer(
        "high",
        {
            "a": None,
            "s": None,
            "api_key": "你的api_key",
            "n": {"x": None, "token": "your-token"},
            "l": [{"y": None}, None],
        },
    )

    merged = merge([low, high])

    assert merged.tree == {"a": 1, "s": {"k": 2}, "api_key": "real", "n": {}, "l": [{}, None]}
    assert merged.unfilled == {("api_key",): "high", ("n", "token"): "high"}


def test_a_mapping_replaces_a_scalar_and_the_other_way_round() -> None:
    assert merge([Layer("1", {"a": 1}), Layer("2", {"a": {"b": 2}})]).tree == {"a": {"b": 2}}
    assert merge([Layer("1", {"a": {"b": 2}}), Layer("2", {"a": 1})]).tree == {"a": 1}


def test_absurd_nesting_is_a_fault() -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = ring
    hoop: list[Any] = []
    hoop.append(hoop)

    for tree in (ring, {"a": hoop}):
        with pytest.raises(SettingsError, match="nested too deeply"):
            merge([Layer("l", tree)])


def test_a_number_that_cannot_be_written_out_is_a_fault() -> None:
    assert merge([Layer("l", {"a": 2**200})]).tree == {"a": 2**200}
    with pytest.raises(SettingsError, match="a smaller number"):
        merge([Layer("l", {"a": {"b": [10**5_000]}})])


@pytest.mark.parametrize(
    "key, value",
    [
        ("api_key", "你的chat-glm web key"),
        ("boosting_table_name", "（选填）你的热词文件名称"),
        ("websocket", "ws://你的ip或者域名:端口号/xiaozhi/v1/"),
        ("mcp_endpoint", "你的接入点 websocket地址"),
        ("api_key", "your-api-key"),
        ("api_key", "Your API key"),
        ("api_key", "<your key>"),
        ("api_key", "mk-xxx"),
        ("api_key", "xxxx"),
    ],
)
def test_placeholders(key: str, value: str) -> None:
    assert is_placeholder(key, value)


@pytest.mark.parametrize(
    "key, value",
    [
        ("prompt", "你的名字是小智"),
        ("prompt_text", "your voice"),
        ("api_key", "sk-proj-xxAbC"),
        ("api_key", "yourself"),
        ("voice", "zh_female_xx"),
        ("model", "a < b > c"),
        ("api_key", ""),
        ("api_key", 5),
        ("note", "你的" + "很" * 200),
    ],
)
def test_what_is_no_placeholder(key: str, value: object) -> None:
    assert not is_placeholder(key, value)


LEAVES = st.integers() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
ROOTS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@given(ROOTS, ROOTS, ROOTS)
def test_merging_in_steps_is_merging_at_once(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    at_once = merge([Layer("1", one), Layer("2", two), Layer("3", three)]).tree
    below = merge([Layer("1", one), Layer("2", two)]).tree

    assert merge([Layer("12", below), Layer("3", three)]).tree == at_once


@given(ROOTS)
def test_merging_with_itself_changes_nothing(tree: dict[str, Any]) -> None:
    once = merge([Layer("1", tree)]).tree

    assert merge([Layer("1", tree), Layer("2", tree)]).tree == once


def test_a_mapping_of_another_type_replaces_what_was_there() -> None:
    merged = merge(
        [
            Layer("below", {"TTS": {"Mine": {"type": "a", "voice": "v", "key": "your-key", "deep": {"x": 1}}}}),
            Layer("above", {"TTS": {"Mine": {"type": "b", "speed": 2}}}),
        ]
    )

    assert merged.tree == {"TTS": {"Mine": {"type": "b", "speed": 2}}}
    assert merged.origin(("TTS", "Mine", "voice")) == "above"
    assert not merged.unfilled


def test_a_mapping_that_says_no_type_or_the_same_one_is_merged() -> None:
    below = Layer("below", {"TTS": {"Mine": {"type": "a", "voice": "v"}}})

    for own in ({"speed": 2}, {"type": "a", "speed": 2}, {"type": "", "speed": 2}):
        assert merge([below, Layer("above", {"TTS": {"Mine": own}})]).tree["TTS"]["Mine"]["voice"] == "v"
