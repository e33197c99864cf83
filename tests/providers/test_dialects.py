"""Whatever a server answers, nothing but typed errors comes out of a dialect."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vendors.anthropic_vendor import AnthropicVendor
from tests.vendors.gemini_vendor import GeminiVendor
from tests.vendors.ollama_vendor import OllamaVendor
from xiaozhi.errors import VendorError, VendorGarbage
from xiaozhi.providers.families.anthropic import AnthropicDialect
from xiaozhi.providers.families.call_arguments import BadToolCall
from xiaozhi.providers.families.completion import Completion
from xiaozhi.providers.families.dialect import Dialect
from xiaozhi.providers.families.gemini import GeminiDialect
from xiaozhi.providers.families.json_body import DONE, JsonBody
from xiaozhi.providers.families.ollama import OllamaDialect


def values_of(pieces: Any) -> list[Any]:
    body = JsonBody()
    return [value for piece in pieces for value in body.feed(piece)]


ANSWER: list[Any] = [("thought", "Hm."), "It is.", ("call", "f", {"x": 1})]
BLOCKS: list[Any] = [("thinking", "Hm."), "It is.", ("tool", "t_1", "f", ['{"x":', "1}"])]
LINES: list[Any] = [("thinking", "Hm."), *ANSWER[1:]]
GOOD: list[tuple[Dialect, list[Any]]] = [
    (AnthropicDialect(), values_of(AnthropicVendor("k").events(BLOCKS))),
    (GeminiDialect("gemini-3-flash"), values_of(GeminiVendor("k").chunks(ANSWER, "gemini-3-flash"))),
    (OllamaDialect(), values_of(OllamaVendor().lines(LINES))),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def read(dialect: Dialect, values: list[Any]) -> tuple[str, list[Any]]:
    answer = Completion("v")
    said = []
    for value in dialect.values(iter(values), "v"):
        if value is DONE:
            break
        said.append(answer.take(value))
    rest = list(answer.end())
    text = "".join(said) + "".join(piece for piece in rest if isinstance(piece, str))
    return text, [piece for piece in rest if not isinstance(piece, str)]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@pytest.mark.parametrize(("dialect", "values"), GOOD)
def test_what_is_good(dialect: Dialect, values: list[Any]) -> None:
    text, (call,) = read(dialect, values)
    assert (text, call.name, call.arguments) == ("It is.", "f", {"x": 1})


@pytest.mark.parametrize(("dialect", "values"), GOOD)
@given(data=st.data())
def test_anything_in_any_place(dialect: Dialect, values: list[Any], data: st.DataObject) -> None:
    broken = copy.deepcopy(values)
    *way, last = data.draw(st.sampled_from(places(broken)))
    inner: Any = broken
    for key in way:
        inner = inner[key]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        del inner[last]
    else:
        inner[last] = data.draw(JSON)
    try:
        read(dialect, broken)
    except (VendorError, BadToolCall):
        pass


def test_what_is_not_as_documented_is_garbage() -> None:
    for dialect, value in (
        (AnthropicDialect(), {"type": "content_block_delta", "index": 0}),
        (GeminiDialect("m"), {"candidates": [None]}),
        (OllamaDialect(), {"message": {"tool_calls": [7]}}),
    ):
        with pytest.raises(VendorGarbage):
            read(dialect, [value])
