"""The work of cleaning a text and cutting it into sentences grows with its length, not with its square.

Measured is processor time of this thread, and only the ratio between two lengths is judged: ten times the text may cost
ten times as much, quadratic work would cost a hundred times as much."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from xiaozhi.speech.cleanup import ReplyText
from xiaozhi.speech.sentences import SentenceSplitter
from xiaozhi.speech.transcripts import heard

FACTOR = 10
LIMIT = 3.5 * FACTOR
TRIES = 3
ALL_AT_ONCE = 1_000_000


def cost(text: str, size: int) -> float:
    """Seconds of processor time for a reply that comes in pieces of `size` characters."""
    reply = ReplyText()
    began = time.thread_time()
    for start in range(0, len(text), size):
        reply.feed(text[start : start + size])
    reply.flush()
    return time.thread_time() - began


def grows_evenly(spent: Callable[[int], float], characters: int) -> bool:
    """Whether `FACTOR` times as many characters cost at most `LIMIT` times as much, in the best of some tries: the
    machine has other work, too."""
    spent(characters)  # what is made once is made before
    return any(spent(characters * FACTOR) < LIMIT * max(1e-4, spent(characters)) for _ in range(TRIES))


@pytest.mark.parametrize("size", [3, ALL_AT_ONCE])
@pytest.mark.parametrize("unit", ["$", "!x", "a. ", "好。"])
def test_a_hundred_kilobytes_cost_a_hundred_times_as_much_as_one(unit: str, size: int) -> None:
    text = unit * (100_000 // len(unit) + 1)
    assert grows_evenly(lambda characters: cost(text[:characters], size), 1_000)
    assert grows_evenly(lambda characters: cost(text[:characters], size), 10_000)


UNITS = (
    *(
        "[a](b) ",
        "[",
        "[x](",
        "[[",
        "(",
        "(^",
        "<b",
        "<a href=",
        "<!--",
        "`",
        "```\n",
        "*a* ",
        "&#",
        "\\(",
        "$x^2$ ",
        "$x",
    ),
    *(
        "【1",
        "-",
        "#",
        "|a",
        "│a",
        "http://a.b ",
        "word ",
        "字",
        "字，",
        '"a." ',
        "“a",
        "Dr. ",
        "z. B. ",
        "A.B. ",
        "ก ",
    ),
    *("😀", "a\n", "ख।", "\ue200", "\n", " ", "...", "\u200c", "★", "~", "a,", "\\n", "1."),
)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("size", [3, ALL_AT_ONCE])
def test_no_text_of_one_kind_costs_more_than_its_length(unit: str, size: int) -> None:
    text = unit * (10_000 // len(unit) + 1)
    assert grows_evenly(lambda characters: cost(text[:characters], size), 1_000)


def test_protected_phrases_do_not_change_that() -> None:
    def spent(characters: int) -> float:
        splitter = SentenceSplitter(protect=["好，好，好", "a, b"])
        began = time.thread_time()
        splitter.feed("好，" * (characters // 2))
        splitter.flush()
        return time.thread_time() - began

    assert grows_evenly(spent, 2_000)


@pytest.mark.parametrize("unit", ["a ", "好", "ab cd ", "[", "*a", "(", "<|", "♪"])
def test_a_transcript_costs_no_more_than_its_length(unit: str) -> None:
    def spent(characters: int) -> float:
        began = time.thread_time()
        heard(unit * (characters // len(unit)))
        return time.thread_time() - began

    assert grows_evenly(spent, 1_000)
    assert grows_evenly(spent, 10_000)
