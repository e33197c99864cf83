"""What measured times mean for whoever waits."""

from __future__ import annotations

import pytest

from xiaozhi.app.vendor_advice import EndOfUtterance, Timing, advice, answer_ms

USED = {"asr": 300.0, "llm": 400.0, "tts": 200.0}


def timings(**first: float) -> list[Timing]:
    return [Timing(kind, f"{kind.upper()}.Mine", ms, used=True) for kind, ms in first.items()]


@pytest.mark.parametrize(
    ("prepared", "silence", "expected"),
    [
        ("off", 600, 1_500),
        ("asr", 600, 1_200),  # 300 ms of recognition are hidden in the 400 that it leads
        ("llm", 600, 1_100),  # 400 of 700
        ("llm", 200, 900),  # a short silence hides no more than itself
    ],
)
def test_what_is_prepared_is_hidden(prepared: str, silence: float, expected: float) -> None:
    assert answer_ms(USED, EndOfUtterance(600, prepared, 400), silence) == expected


def test_the_selected_one_is_held_against_the_fastest() -> None:
    spare = Timing("llm", "LLM.Spare", 150, used=False)

    (said, *_) = advice([*timings(llm=400), spare], EndOfUtterance(600, "asr", 400))

    assert said == (
        "LLM.Spare is the fastest language model: 150 ms to the first words; LLM.Mine, which is selected, takes 400 ms."
    )


def test_the_selected_one_may_be_the_fastest() -> None:
    (said,) = advice([*timings(tts=90), Timing("tts", "TTS.Spare", 150, used=False)], EndOfUtterance(600, "asr", 400))

    assert said == "TTS.Mine is the fastest voice: 90 ms to the first sound."


def test_time_that_is_left_is_for_thinking() -> None:
    total, more = advice(timings(**USED), EndOfUtterance(600, "asr", 400))

    assert total.startswith("From the last word to the first sound: about 1200 ms with 600 ms of silence at the end")
    assert more.startswith("Up to 900 ms of silence stay within 1500 ms")


def test_a_long_silence_is_told() -> None:
    *_, less = advice(timings(**USED), EndOfUtterance(1_000, "asr", 400))

    assert less == "min_silence_duration_ms: 900 would keep it within 1500 ms."


def test_slow_vendors_are_not_the_fault_of_the_silence() -> None:
    *_, said = advice(timings(asr=900, llm=2_000, tts=900), EndOfUtterance(600, "asr", 400))

    assert said.startswith("Even with 200 ms of silence it is more than 1500 ms: the vendors decide")


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert advice(timings(llm=400), EndOfUtterance(600, "asr", 400)) == []
