"""What a session hands in of its turns."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.sessions import FakeHistory
from xiaozhi.chat import CallContext, Message, ToolCall
from xiaozhi.history.entries import KeptSound, ToolUse
from xiaozhi.session.history import SessionHistory
from xiaozhi.session.turn_record import Outcome, Timeline, TurnRecord
from xiaozhi.session.turns.dialogue import Exchange

CONTEXT = CallContext("02:00:00:00:00:01", "client", "session")


def made(keeper: FakeHistory) -> SessionHistory:
    return SessionHistory(keeper, CONTEXT, lambda: 110.0, now=lambda: 1_000.0)


def record(outcome: Outcome = Outcome.ANSWERED, **fields: Any) -> TurnRecord:
    return TurnRecord(1, outcome, Timeline(voice_ended=100.0, first_frame=101.0, ended=104.0), False, **fields)


def test_a_turn_is_handed_in_with_what_is_known_of_it() -> None:
    keeper = FakeHistory()
    use = ToolUse("t", {}, "done", "r", 3)
    made(keeper).turn_ended(
        record(user_text="hello", spoken=("Hi.",), tools=(use,), speaker="Ming", sound=b"12"), "text"
    )

    (entry,) = keeper.entries
    assert entry.key == "session:1"
    assert (entry.session.device_id, entry.session.client_id) == ("02:00:00:00:00:01", "client")
    assert (entry.at, entry.said, entry.spoken, entry.tools, entry.speaker) == (
        990.0,
        "hello",
        ("Hi.",),
        (use,),
        "Ming",
    )
    assert entry.timings["ended"] == 4_000
    assert keeper.sounds == [b""]


def test_sound_is_handed_in_where_it_is_kept() -> None:
    keeper = FakeHistory()
    answer = (KeptSound((b"packet",)),)
    for mode in ("sound", "text"):
        made(keeper).turn_ended(record(user_text="hello", sound=b"12", voices=answer), mode)

    assert keeper.sounds == [b"12", b""]
    assert keeper.voices == [answer, ()]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_a_turn_in_which_something_was_said_or_went_wrong_is_kept(outcome: Outcome) -> None:
    keeper = FakeHistory()
    made(keeper).turn_ended(record(outcome, sound=b"12"), "sound")

    assert len(keeper.entries) == (outcome in (Outcome.FAILED, Outcome.OVERLOADED))


def test_where_nothing_is_kept_nothing_is_handed_in_not_even_the_end() -> None:
    keeper = FakeHistory()
    history = made(keeper)
    history.turn_ended(record(user_text="hello"), "off")
    history.end()

    assert (keeper.entries, keeper.ended) == ([], [])


def test_the_end_follows_what_was_kept() -> None:
    keeper = FakeHistory()
    history = made(keeper)
    history.turn_ended(record(user_text="hello"), "text")
    history.end()

    (ended,) = keeper.ended
    assert (ended.session.id, ended.ended_at, ended.turns) == ("session", 1_000.0, 1)


def test_calls_of_tools_are_known_with_their_outcome_and_time() -> None:
    exchange = Exchange()
    exchange.calling("", [ToolCall("1", "a", {"x": 1}), ToolCall("2", "b", {}), ToolCall("3", "c", {})])
    exchange.call_started(0)
    exchange.call_started(1)
    exchange.call_ended(0, "done it", ms=250)
    exchange.calling("", [ToolCall("4", "d", {})])
    exchange.call_started(0)
    exchange.call_ended(0, "error: no", failed=True, ms=0)

    assert exchange.tools == (
        ToolUse("a", {"x": 1}, "done", "done it", 250),
        ToolUse("b", {}, "started"),
        ToolUse("c", {}, "skipped"),
        ToolUse("d", {}, "failed", "error: no", 0),
    )
    assert exchange.messages[-1] == Message("tool", "error: no", tool_call_id="4")
