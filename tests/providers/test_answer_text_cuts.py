"""Whatever a model writes, and however its text is cut: the same is spoken, nothing fails, and little is held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.answers import TOOLS, heard
from xiaozhi.providers.families.answer_text import AnswerText
from xiaozhi.providers.families.call_arguments import BadToolCall
from xiaozhi.providers.families.tool_names import NOTHING_OFFERED
from xiaozhi.providers.families.written_calls import read_calls

PIECES = [
    *[
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
        "<function=get_time>",
        "</function>",
    ],
    *[
        "<|im_start|>",
        "<|im_end|>",
        "<|channel|>",
        "<|message|>",
        "<|end|>",
        "</s>",
        "[TOOL_CALLS]",
        "[INST]",
        "◁think▷",
        "◁/think▷",
    ],
    *[
        "<",
        "|",
        "/",
        ">",
        "<|",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        ":",
        '"',
        "“",
        "”",
        "`",
        "```",
        "✿",
        "user",
        "assistant",
        "final",
        "analysis",
        "assistantfinal",
        "a",
        "Hello.",
    ],
    *["get_time", "get_", "call:", "Action:", "{}"],
    *(
        "\n",
        " ",
        '{"name":',
        '{"name": "get_time", "arguments": {}}',
        "Action: get_time",
        "commentary to=functions.get_time",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=9), st.sampled_from([1, 2, 3, 5]), st.booleans())
def test_cuts_do_not_matter_whatever_comes(pieces: list[str], size: int, tools: bool) -> None:
    text, offer = "".join(pieces), TOOLS if tools else NOTHING_OFFERED
    assert heard(text, size, offer) == heard(text, 10_000, offer)


@given(st.text(max_size=200))
def test_nothing_fails_in_another_way(text: str) -> None:
    try:
        heard(text, 3)
        read_calls(text, TOOLS)
    except BadToolCall:
        pass


@pytest.mark.parametrize(
    "unit", ["<", "[", "{", '{"name": ', "`", "<think>", "<tool_call>", "<tool_call>{", "<arg_key>", "a "]
)
def test_what_is_held_is_bounded(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    answer = AnswerText(TOOLS)
    try:
        for at in range(0, len(text), 5_000):
            answer.feed(text[at : at + 5_000])
        answer.finish()
    except BadToolCall:
        pass
