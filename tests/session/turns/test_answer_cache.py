"""Which answers may be given again without asking."""

from __future__ import annotations

import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.session.turns.answer_cache import MAX_CHARS, AnswerCache, is_timeless


def key(
    question: str = "how big is the sun", *, model: str = "m", prompt: str = "p", tools: tuple[str, ...] = ("a", "b")
) -> str:
    return AnswerCache.key(question, model=model, prompt=prompt, tools=tools)


@pytest.mark.parametrize("question", ["how big is the sun", "what is photosynthesis", "太阳有多大", "水的沸点是多少度"])
def test_questions_about_the_world_are_timeless(question: str) -> None:
    assert is_timeless(question)
    assert key(question)


@pytest.mark.parametrize(
    "question",
    [
        "what time is it",
        "is it raining today",
        "what is the weather like",
        "who is my teacher",
        "tell me another joke",
        "现在几点了",
        "今天星期几",
        "我叫什么名字",
        "再讲一个",
        "明天会下雨吗",
    ],
)
def test_questions_of_the_moment_or_about_the_asker_are_not(question: str) -> None:
    assert not is_timeless(question)
    assert key(question) == ""


def test_only_what_is_asked_in_the_same_way_is_the_same() -> None:
    assert key() == key("How  big is the sun ")
    assert key() == key(tools=("b", "a"))
    others = [key("how big is the moon"), key(model="n"), key(prompt="q"), key(tools=("a",)), key(tools=())]
    assert len({key(), *others}) == 6


def test_answers_are_kept_for_a_while() -> None:
    clock = FakeClock()
    cache = AnswerCache(seconds=60, clock=clock)
    cache.put(key(), "Very big.")
    assert cache.get(key()) == "Very big."
    assert cache.hits == 1

    clock.advance(61)

    assert cache.get(key()) == ""


def test_nothing_is_kept_without_a_key_without_words_or_of_any_length() -> None:
    cache = AnswerCache()
    cache.put("", "Very big.")
    cache.put(key(), "  ")
    cache.put(key("what is a saga"), "x" * (MAX_CHARS + 1))

    assert len(cache) == 0
    assert cache.get("") == ""


def test_the_cache_is_bounded() -> None:
    cache = AnswerCache(max_entries=3)
    for number in range(10):
        cache.put(key(f"what is {number}"), "something")

    assert len(cache) == 3
