"""What a session keeps for the memory."""

from __future__ import annotations

from xiaozhi.chat import Message
from xiaozhi.session.said import Said


def exchange(text: str) -> list[Message]:
    return [Message("user", text), Message("assistant", f"{text}?")]


def test_it_is_taken_once() -> None:
    said = Said()
    said.add(exchange("a"), by_user=False)
    said.add(exchange("b"), by_user=True)

    assert [message.content for message in said.take()] == ["a", "a?", "b", "b?"]
    assert said.take() == ()
    assert said.held_bytes == 0


def test_a_visit_in_which_the_user_said_nothing_is_not_worth_a_summary() -> None:
    said = Said()
    said.add(exchange("hello xiaozhi"), by_user=False)

    assert said.take() == ()


def test_it_is_bounded_by_number_and_by_length() -> None:
    said = Said(max_messages=4, max_chars=100)
    for number in range(10):
        said.add(exchange(str(number)), by_user=True)
    assert [message.content for message in said.take()] == ["8", "8?", "9", "9?"]

    said.add([Message("user", "x" * 60)], by_user=True)
    said.add([Message("user", "y" * 60)], by_user=True)
    assert 120 <= said.held_bytes < 1000
    assert [message.content[0] for message in said.take()] == ["y"]
