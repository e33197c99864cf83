"""What a turn is measured by: options from the settings, stages as durations, the record's reply."""

from __future__ import annotations

from xiaozhi.chat import Message
from xiaozhi.session.turn_record import Outcome, Speculation, Timeline, TurnOptions, TurnRecord
from xiaozhi.settings import load


def test_stages_count_from_the_end_of_the_voice() -> None:
    timeline = Timeline(voice_ended=10.0, released=10.2, heard=10.45, ended=12.0, tts_first=9.0)

    assert timeline.since_voice("released") == 10.2 - 10.0
    assert timeline.since_voice("tts_first") == 0.0, "prepared before the voice had really ended"
    assert timeline.since_voice("first_frame") is None
    assert timeline.milliseconds() == {"released_ms": 200, "heard_ms": 450, "tts_first_ms": 0, "ended_ms": 2000}


def test_without_a_voice_nothing_is_measured() -> None:
    assert Timeline(released=1.0).since_voice("released") is None
    assert Timeline(released=1.0).milliseconds() == {}


def test_the_reply_of_a_record_is_what_the_assistant_said() -> None:
    record = TurnRecord(
        turn_id=1,
        outcome=Outcome.ANSWERED,
        timeline=Timeline(),
        speculative=False,
        script=[
            Message("user", "what time is it"),
            Message("assistant", "Let me see."),
            Message("tool", "12:00", tool_call_id="c1"),
            Message("assistant", ""),
            Message("assistant", "It is noon."),
        ],
    )

    assert record.reply == "Let me see. It is noon."


def test_the_options_of_a_turn_come_from_the_settings() -> None:
    loaded = load(
        environ={},
        overrides={
            "conversation": {"speculative": "llm", "tool_depth": 3},
            "llm_timeout": {"first_token": 1, "stall": 2, "total": 3},
            "tts_timeout": 4,
            "system_error_response": "Sorry.",
            "correct_words": ["a|b"],
            "enable_stop_tts_notify": True,
        },
    )

    assert TurnOptions.of(loaded.settings, emotes=False) == TurnOptions(
        speculative=Speculation.LLM,
        llm_first_token=1,
        llm_stall=2,
        llm_total=3,
        tts_stall=4,
        tool_depth=3,
        apology="Sorry.",
        correct_words=("a|b",),
        emotes=False,
        chime=True,
    )
