"""What a turn is measured by: options from the settings, stages as durations, the record's reply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xiaozhi.chat import Message
from xiaozhi.session.turn_record import SHARES, Outcome, Speculation, Timeline, TurnOptions, TurnRecord
from xiaozhi.settings import load


def test_stages_count_from_the_end_of_the_voice() -> None:
    timeline = Timeline(voice_ended=10.0, released=10.2, heard=10.45, ended=12.0, tts_first=9.0)

    assert timeline.since_voice("released") == 10.2 - 10.0
    assert timeline.since_voice("tts_first") == 0.0, "prepared before the voice had really ended"
    assert timeline.since_voice("first_frame") is None
    assert timeline.since_voice("ended") == 2.0


def test_without_a_voice_nothing_is_measured() -> None:
    assert Timeline(released=1.0).since_voice("released") is None
    assert Timeline(released=1.0, first_frame=2.0).account() == {}
    assert Timeline(voice_ended=1.0, released=1.0).account() == {}, "nothing was heard of the answer"


AFTER_THE_VOICE = Timeline(
    voice_ended=10.0,
    quiet=10.0644,
    silent=10.2886,
    arrived=10.3,
    released=10.306,
    heard=10.406,
    llm_asked=10.407,
    llm_first=10.5075,
    tts_asked=10.5576,
    tts_first=10.6381,
    encoded=10.6403,
    first_frame=10.6412,
    ended=16.0,
)


def test_the_shares_of_a_wait_add_up_to_it() -> None:
    account = AFTER_THE_VOICE.account()

    assert account == {
        "detector": 64 + 6,
        "silence": 225,
        "grid": 11,
        "recognition": 100,
        "model": 102,
        "first_sentence": 50,
        "voice": 80,
        "encode": 2,
        "pacing": 1,
    }
    assert sum(account.values()) == 641
    assert tuple(account) == SHARES


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({"heard": 10.2}, {"recognition": 0, "model": 202}),
        ({"heard": 10.2, "llm_first": 10.25, "tts_asked": 10.3}, {"model": 0, "first_sentence": 0, "voice": 332}),
        (
            {
                "heard": 10.1,
                "llm_first": 10.15,
                "tts_asked": 10.2,
                "tts_first": 10.25,
                "encoded": 10.255,
                "first_frame": 10.31,
            },
            {"model": 0, "first_sentence": 0, "voice": 0, "encode": 0, "pacing": 4},
        ),
        ({"llm_first": None, "tts_asked": None}, {"model": 0, "first_sentence": 0, "voice": 232}),
        ({"quiet": None, "silent": None, "arrived": None}, {"detector": 306, "silence": 0, "grid": 0}),
    ],
    ids=["recognition is hidden", "the sentence is hidden", "all is hidden", "no model", "a button"],
)
def test_what_was_ready_before_it_was_wanted_costs_nothing(
    changes: dict[str, float | None], shares: dict[str, int]
) -> None:
    account = replace(AFTER_THE_VOICE, **changes).account()

    assert {share: account[share] for share in shares} == shares
    assert AFTER_THE_VOICE.voice_ended is not None
    first = changes.get("first_frame") or AFTER_THE_VOICE.first_frame
    assert first is not None and sum(account.values()) == round((first - AFTER_THE_VOICE.voice_ended) * 1000)


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
            "conversation": {
                "speculative": "llm",
                "tool_depth": 3,
                "tool_filler_seconds": 6,
                "tool_filler": "Hold on.",
            },
            "llm_timeout": {"first_token": 1, "stall": 2, "total": 3},
            "tts_timeout": 4,
            "system_error_response": "Sorry.",
            "language": "Deutsch",
            "wakeup_words": ["hello robot"],
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
        tool_filler_seconds=6,
        tool_filler={"": "Hold on."},
        tool_depth=3,
        apology={"": "Sorry."},
        language="de",
        home_language="en",
        correct_words=("a|b",),
        emotes=False,
        chime=True,
    )
