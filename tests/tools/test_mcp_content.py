"""Pages of tools within their bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.test_schemas import nested
from xiaozhi.tools.base import Action
from xiaozhi.tools.mcp_content import ListingLimits, ToolListing, outcome
from xiaozhi.tools.schemas import json_chars


def described(name: Any, **members: Any) -> dict[str, Any]:
    return {"name": name, "description": "does something", "inputSchema": {"type": "object"}, **members}


def listed(*pages: Any, **limits: int) -> tuple[ToolListing, list[str | None]]:
    listing = ToolListing(ListingLimits(**limits))
    return listing, [listing.add(page) for page in pages]


def test_pages_are_collected_until_the_last() -> None:
    first = {"tools": [described("a")], "nextCursor": "b"}

    listing, cursors = listed(first, {"tools": [described("b"), described("a")]})

    assert list(listing.specs) == ["a", "b"]
    assert cursors == ["b", None]
    assert (listing.whole, listing.pages, listing.skipped) == (True, 2, 0)


@pytest.mark.parametrize("page", [None, 5, [], {}, {"tools": 5}, {"tools": [], "nextCursor": 5}, {"nextCursor": ""}])
def test_a_page_that_means_nothing_is_the_last(page: Any) -> None:
    listing, cursors = listed(page)

    assert listing.specs == {}
    assert cursors == [None]
    assert listing.whole


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "x",
        {},
        described(None),
        described(""),
        described("n" * 201),
        described("fat", inputSchema={"properties": {"x": {"description": "x" * 9000}}}),
        described("wide", inputSchema={"properties": {"x": {"enum": list(range(5000))}}}),
    ],
)
def test_what_is_no_tool_or_too_large_is_skipped(bad: Any) -> None:
    listing, _ = listed({"tools": [bad, described("good")]})

    assert list(listing.specs) == ["good"]
    assert listing.skipped == 1


def test_a_tool_without_words_or_schema_is_a_tool() -> None:
    listing, _ = listed({"tools": [{"name": "a"}, described("b", description="x" * 5000)]})

    assert listing.specs["a"].description == ""
    assert listing.specs["a"].parameters == {"type": "object", "properties": {}}
    assert len(listing.specs["b"].description) == 4000


def test_after_some_schemas_that_are_too_large_no_other_is_looked_at() -> None:
    fat = {"properties": {"x": {"description": "x" * 9000}}}
    listing, _ = listed(
        {"tools": [*(described(f"fat{number}", inputSchema=fat) for number in range(3)), described("a")]}
    )
    assert list(listing.specs) == ["a"]

    listing, _ = listed(
        {"tools": [*(described(f"fat{number}", inputSchema=fat) for number in range(3)), described("a")]}, oversized=3
    )
    assert (list(listing.specs), listing.skipped) == ([], 4)


def test_a_schema_nested_without_end_is_cut() -> None:
    listing, _ = listed({"tools": [described("a", inputSchema={"properties": {"x": nested(900)}})]})

    assert json_chars(listing.specs["a"].parameters) < 500


def test_tools_pages_and_letters_are_bounded() -> None:
    many = {"tools": [described(f"t{number}") for number in range(10)], "nextCursor": "more"}
    listing, cursors = listed(many, tools=3)
    assert (len(listing.specs), listing.skipped, cursors, listing.whole) == (3, 7, [None], False)

    listing, cursors = listed(*({"nextCursor": f"c{number}"} for number in range(3)), pages=3)
    assert cursors == ["c0", "c1", None]
    assert not listing.whole

    listing, _ = listed(many, total_chars=200)
    assert 0 < len(listing.specs) < 10
    assert listing.skipped == 10 - len(listing.specs)


@pytest.mark.parametrize("cursors", [["x" * 1001], ["a", "a"], ["a", "b", "a"]])
def test_cursors_too_long_or_in_circles_end_the_listing(cursors: list[str]) -> None:
    listing, wanted = listed(*({"nextCursor": cursor} for cursor in cursors))

    assert wanted == [*cursors[:-1], None]
    assert not listing.whole


@pytest.mark.parametrize(
    "result,action,text",
    [
        ({"content": [{"type": "text", "text": "a"}, "b", {"type": "image"}, {}, 5]}, Action.ASK_LLM, None),
        ({"content": [], "isError": True}, Action.ERROR, "the device reported an error"),
        ({"content": 5}, Action.ASK_LLM, '{"content": 5}'),
        ("plain", Action.ASK_LLM, "plain"),
        (nested(5000), Action.ASK_LLM, "[unknown content]"),
    ],
)
def test_results_are_told_in_words(result: Any, action: Action, text: str | None) -> None:
    told = outcome(result)

    assert told.action is action
    assert told.text == (text if text is not None else "a\nb\n[image]\n[unknown content]\n[unknown content]")


def text_result(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": False}


SEEN = '{"success": true, "action": "RESPONSE", "response": " A cat. "}'


@pytest.mark.parametrize(
    ("result", "action", "text"),
    [
        (text_result(SEEN), Action.SPEAK, "A cat."),
        (text_result("\n" + SEEN + "\n"), Action.SPEAK, "A cat."),
        (SEEN, Action.SPEAK, "A cat."),
        ({"action": "response", "response": "A cat."}, Action.SPEAK, "A cat."),
        (text_result('{"action": "REQLLM", "result": "a cat", "response": null}'), Action.ASK_LLM, "a cat"),
        (text_result('{"action": "RECORD", "result": "a cat"}'), Action.RECORD, "a cat"),
        (text_result('{"action": "NONE"}'), Action.NOTHING, ""),
        (text_result('{"action": "ERROR", "response": "too dark"}'), Action.ERROR, "too dark"),
        # Anything else is the model's to read.
        (text_result('{"action": "RESPONSE", "response": ""}'), Action.ASK_LLM, None),
        (text_result('{"action": "RESPONSE", "response": 5}'), Action.ASK_LLM, None),
        (text_result('{"action": "dance", "response": "A cat."}'), Action.ASK_LLM, None),
        (text_result('{"success": false, "message": "too dark"}'), Action.ASK_LLM, None),
        (text_result('{"action": "RESPONSE", "resp'), Action.ASK_LLM, None),
        ({**text_result(SEEN), "isError": True}, Action.ERROR, None),
    ],
)
def test_a_result_may_say_what_follows(result: Any, action: Action, text: str | None) -> None:
    told = outcome(result)

    assert told.action is action
    assert told.text == (text if text is not None else result["content"][0]["text"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["tools", "nextCursor", "name", "description", "inputSchema", "content", "action", "response"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.lists(json_values, max_size=5))
def test_no_page_and_no_result_whatsoever_raises(pages: list[Any]) -> None:
    listing, _ = listed(*pages)

    assert all(name == spec.name for name, spec in listing.specs.items())
    for page in pages:
        assert isinstance(outcome(page).text, str)
