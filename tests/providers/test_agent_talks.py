"""What the platforms of assistants share: what each question tells, and whose conversation it belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.chat import UNANSWERED, CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorGarbage
from xiaozhi.providers.contracts.llm import Retraction
from xiaozhi.providers.families.agent_talks import TALK_SECONDS, Piece, Replaced, Talk, Talks, spoken
from xiaozhi.providers.families.completion import Completion
from xiaozhi.providers.families.told_tools import question_of, told
from xiaozhi.providers.families.tool_names import Offer

VOLUME = ToolSpec("set_volume", "Set the volume.", {"type": "object", "properties": {"volume": {"type": "integer"}}})
TIME = ToolSpec("get_time", "Tell the time.")
SYSTEM = Message("system", "You are a toy.")
HELLO = [SYSTEM, Message("user", "hello")]
TURN = CallContext(session_id="s", turn_id=3)


# --- what a question tells --------------------------------------------------------------------------------------------


def test_only_what_was_said_last_is_told() -> None:
    dialogue = [*HELLO, Message("assistant", "Hi!"), Message("user", "and now?")]
    assert Talk().query(dialogue, []) == "and now?"


def test_results_of_tools_come_with_the_question() -> None:
    call = ToolCall("c1", "get_time", {})
    dialogue = [
        *HELLO,
        Message("assistant", "Wait.", tool_calls=(call,)),
        Message("tool", "noon", tool_call_id="c1"),
        Message("tool", "lost", tool_call_id="?"),
    ]
    asked = question_of(dialogue)
    assert asked.startswith("hello\n") and "- get_time: noon\n- tool: lost\n" in asked
    assert "noon" not in question_of([*dialogue, Message("assistant", "It is noon."), Message("user", "thanks")])


@pytest.mark.parametrize("dialogue", [[], [SYSTEM], [Message("user", "  ")]])
def test_nothing_said_is_no_empty_question(dialogue: list[Message]) -> None:
    assert question_of(dialogue) == UNANSWERED


def test_a_tool_is_told_once_in_a_conversation() -> None:
    talk = Talk()
    first = talk.query(HELLO, [VOLUME])
    assert first.endswith("\n\nhello") and '"set_volume"' in first and "<tool_call>" in first
    talk.began("c")
    assert talk.query(HELLO, [VOLUME]) == talk.query(HELLO, []) == "hello"
    more = talk.query(HELLO, [VOLUME, TIME])
    assert '"get_time"' in more and '"set_volume"' not in more and "<tool_call>" not in more
    talk.began("c")
    assert talk.query(HELLO, [TIME, VOLUME]) == "hello"


def test_a_tool_that_changed_is_told_again() -> None:
    talk = Talk()
    talk.query(HELLO, [VOLUME])
    talk.began("c")
    assert "Make it louder." in talk.query(HELLO, [ToolSpec("set_volume", "Make it louder.", VOLUME.parameters)])


def test_what_the_vendor_has_not_got_is_told_again() -> None:
    talk = Talk()
    first = talk.query(HELLO, [VOLUME])
    assert talk.query(HELLO, [VOLUME]) == first
    talk.began("c")
    talk.forget()
    assert talk.id == "" and talk.query(HELLO, [VOLUME]) == first


def test_a_question_that_stands_alone_has_its_instruction() -> None:
    assert Talk(alone=True).query(HELLO, []) == "You are a toy.\n\nhello"


def test_no_tools_are_no_words() -> None:
    assert told([], first=True) == ""


# --- whose conversation -----------------------------------------------------------------------------------------------


def test_a_session_keeps_its_conversation() -> None:
    talks = Talks()
    mine = talks.of(TURN)
    assert talks.of(CallContext(session_id="s", turn_id=4)) is mine
    assert talks.of(CallContext(session_id="t", turn_id=1)) is not mine
    assert not mine.alone


@pytest.mark.parametrize("context", [CallContext(session_id="s"), CallContext(turn_id=3), CallContext()])
def test_what_belongs_to_no_dialogue_is_alone(context: CallContext) -> None:
    talks = Talks()
    mine = talks.of(TURN)
    assert talks.of(context).alone and talks.of(context) is not mine
    assert len(talks) == 1


def test_conversations_are_bounded_in_number() -> None:
    talks = Talks(most=2)
    first = talks.of(CallContext(session_id="a", turn_id=1))
    second = talks.of(CallContext(session_id="b", turn_id=1))
    assert talks.of(CallContext(session_id="a", turn_id=2)) is first
    talks.of(CallContext(session_id="c", turn_id=1))
    assert len(talks) == 2
    assert talks.of(CallContext(session_id="a", turn_id=3)) is first, "the one silent for longest had to go"
    assert talks.of(CallContext(session_id="b", turn_id=2)) is not second


def test_a_silent_conversation_ends() -> None:
    clock = FakeClock()
    talks = Talks(clock)
    mine = talks.of(TURN)
    clock.advance(TALK_SECONDS - 1)
    assert talks.of(TURN) is mine
    clock.advance(TALK_SECONDS - 1)
    assert talks.of(TURN) is mine, "its time begins anew with every question"
    clock.advance(TALK_SECONDS + 1)
    assert talks.of(TURN) is not mine


# --- what becomes of an answer ----------------------------------------------------------------------------------------


def heard(*pieces: Piece, tools: Any = (VOLUME,)) -> list[str | ToolCall]:
    return list(spoken("acme", Completion("acme", Offer(tools)), iter(pieces)))


def test_text_passes_as_it_comes() -> None:
    assert heard("It is ", "late.") == ["It is ", "late."]


def test_a_call_that_is_written_is_a_call() -> None:
    items = heard('<tool_call>\n{"name": "set_volume", ', '"arguments": {"volume": 30}}\n</tool_call>')
    (call,) = [item for item in items if isinstance(item, ToolCall)]
    assert (call.name, call.arguments, call.fault) == ("set_volume", {"volume": 30}, "")
    assert not "".join(item for item in items if isinstance(item, str)).strip()


def test_what_is_replaced_is_withdrawn() -> None:
    items = heard("You are a ", "bad ", Replaced("Let us talk of something else."))
    assert items == ["You are a ", "bad ", Retraction(), "Let us talk of something else."]
    assert isinstance(items[2], Retraction)


def test_thoughts_without_a_beginning_are_withdrawn() -> None:
    items = heard("He wants the time. ", "</think>It is late.")
    assert isinstance(items[1], Retraction) and "".join(map(str, items[2:])) == "It is late."


def test_a_call_without_end_is_garbage() -> None:
    with pytest.raises(VendorGarbage, match="acme"):
        heard('<tool_call>{"name": "set_volume", "arguments": {"volume": "', *["9" * 4_000] * 30)
