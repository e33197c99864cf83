"""How utterances are cut. Scripts of one character per 32 ms window: "#" voiced, "." silent, "-" in between (0.35)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.pauses import PauseBudget
from xiaozhi.speech.segmenter import (
    Ended,
    EndReason,
    Event,
    Paused,
    Resumed,
    Segmenter,
    SegmenterOptions,
    Started,
    TooShort,
)

WINDOW = 32.0
PROBABILITY = {"#": 0.9, ".": 0.05, "-": 0.35}
PLAIN = SegmenterOptions(min_silence_ms=320, pause_ms=0, pre_roll_ms=96, min_utterance_ms=0)


def play(
    script: str, options: SegmenterOptions = PLAIN, segmenter: Segmenter | None = None, at: float = 0.0
) -> list[Event]:
    """The events of a script."""
    segmenter = segmenter or Segmenter(options)
    events = []
    for character in script:
        at += WINDOW
        event = segmenter.feed(PROBABILITY[character], at)
        if event is not None:
            events.append(event)
    return events


def test_silence_is_nothing() -> None:
    assert play("." * 100) == []


def test_a_click_is_not_speech() -> None:
    assert play("##........#.#........" * 3) == []


def test_three_of_five_windows_start_an_utterance_at_the_first_of_them() -> None:
    assert play("......#.#.#") == [Started(11 * WINDOW, audio_from=6 * WINDOW - 96)]


def test_the_end_of_the_voice_is_told_to_the_window() -> None:
    started, ended = play("." * 10 + "#" * 20 + "." * 20)
    assert started == Started(13 * WINDOW, 10 * WINDOW - 96)
    assert ended == Ended(
        40 * WINDOW, 10 * WINDOW - 96, voice_end=30 * WINDOW, voiced_ms=20 * WINDOW, reason=EndReason.SILENCE
    )


def test_in_between_is_as_before() -> None:
    # Above `threshold_low` the voice goes on; once unvoiced, only `threshold` brings it back.
    ended = play("#" * 10 + "-" * 10 + "." * 3 + "-" * 20)[-1]
    assert isinstance(ended, Ended) and ended.voice_end == 17 * WINDOW, "a faint voice, and three windows of fading"


@pytest.mark.parametrize("fading", ["", "-", "--", "---"])
def test_while_the_detector_fades_it_is_silent_already(fading: str) -> None:
    ended = play("#" * 10 + fading + "." * 20)[-1]
    assert isinstance(ended, Ended) and (ended.voice_end, ended.at) == (10 * WINDOW, 20 * WINDOW)


def test_a_lone_voiced_window_does_not_put_off_the_end() -> None:
    ended = play("#" * 10 + "....." + "#" + "....")[-1]
    assert isinstance(ended, Ended) and ended.voice_end == 10 * WINDOW and ended.at == 20 * WINDOW


def test_a_voice_that_comes_back_in_the_last_moment_is_waited_for() -> None:
    assert [type(event) for event in play("#" * 10 + "." * 9 + "##" + "." * 2)] == [Started, Ended], "it was two clicks"
    assert [type(event) for event in play("#" * 10 + "." * 9 + "###" + "." * 2)] == [Started], "it was the voice"


def test_a_gap_shorter_than_the_silence_does_not_end_it() -> None:
    events = play("#" * 10 + "." * 9 + "#" * 10)
    assert len(events) == 1 and isinstance(events[0], Started)


PAUSING = replace(PLAIN, pause_ms=160)


def test_pause_then_resumed_then_pause_then_ended() -> None:
    pauses = PauseBudget()
    pauses.ended()
    pauses.ended()
    events = play("#" * 10 + "." * 6 + "#" * 10 + "." * 12, segmenter=Segmenter(PAUSING, pauses))
    assert [type(event) for event in events] == [Started, Paused, Resumed, Paused, Ended]
    first, resumed, second, ended = events[1:]
    assert isinstance(first, Paused) and (first.at, first.voice_end, first.voiced_ms) == (
        15 * WINDOW,
        10 * WINDOW,
        10 * WINDOW,
    )
    assert resumed == Resumed(19 * WINDOW), "one voiced window might be a click; the third is the voice"
    assert isinstance(second, Paused) and isinstance(ended, Ended)
    assert second.voice_end == ended.voice_end == 26 * WINDOW
    assert second.voiced_ms == ended.voiced_ms == 20 * WINDOW
    assert second.at == (26 + 9) * WINDOW, "longer than the pause before, with the windows that made it a voice again"


EAGER = replace(PLAIN, pause_ms=WINDOW)


def test_a_pause_may_be_told_with_the_first_window_below_the_threshold() -> None:
    assert [(type(event), event.at) for event in play("#" * 10 + "-" + "." * 9, EAGER)] == [
        (Started, 3 * WINDOW),
        (Paused, 11 * WINDOW),
        (Ended, 20 * WINDOW),
    ]


def test_a_voice_that_is_not_gone_goes_on_at_once() -> None:
    assert [(type(event), event.at) for event in play("#" * 10 + "-#", EAGER)][1:] == [
        (Paused, 11 * WINDOW),
        (Resumed, 12 * WINDOW),
    ]


def test_a_faint_voice_is_one_pause_at_most() -> None:
    events = play("#" * 10 + "-" * 10, EAGER)[1:]
    assert [(type(event), event.at) for event in events] == [(Paused, 11 * WINDOW), (Resumed, 14 * WINDOW)]


def test_one_wrong_guess_per_utterance_and_one_in_two_in_the_long_run() -> None:
    segmenter, at, wrong = Segmenter(EAGER), 0.0, []
    for _ in range(20):
        events = play("#" * 10 + "..####" * 2 + "." * 12, segmenter=segmenter, at=at)
        at += 34 * WINDOW
        assert isinstance(events[-1], Ended)
        wrong.append(sum(isinstance(event, Resumed) for event in events))
    assert wrong[0] == 1 and max(wrong) == 1
    assert sum(wrong) == 1, "a pause that the speaker makes in every sentence is waited for"


def test_the_habit_of_a_speaker_is_forgotten() -> None:
    pauses = PauseBudget()
    pauses.went_on(320.0, prepared=True)
    assert pauses.needed_ms(32.0) == math.inf, "one wrong guess was allowed"
    pauses.ended()
    pauses.ended()
    assert 200.0 < pauses.needed_ms(32.0) <= 320.0
    for _ in range(10):
        pauses.ended()
    assert pauses.needed_ms(32.0) == 32.0


@given(st.lists(st.tuples(st.lists(st.floats(1, 1000), max_size=4)), max_size=30))
def test_wrong_guesses_are_bounded_whatever_the_speaker_does(utterances: list[tuple[list[float]]]) -> None:
    pauses, wrong = PauseBudget(), 0
    for number, (silences,) in enumerate(utterances, 1):
        for silence in silences:
            told = silence >= pauses.needed_ms(32.0)
            wrong += told
            pauses.went_on(silence, prepared=told)
        pauses.ended()
        assert wrong <= (number + 1) / 2


def test_whoever_judges_a_pause_may_have_it_last_longer() -> None:
    segmenter = Segmenter(PLAIN)
    assert [type(event) for event in play("#" * 10 + "." * 5, segmenter=segmenter)] == [Started]
    segmenter.require(20 * WINDOW)
    assert segmenter.settle() is None

    (ended,) = play("." * 20, segmenter=segmenter, at=15 * WINDOW)

    assert isinstance(ended, Ended) and ended.at == 30 * WINDOW, "20 windows after the end of the voice"
    assert ended.reason is EndReason.SILENCE


def test_whoever_judges_a_pause_may_shorten_it() -> None:
    segmenter = Segmenter(PLAIN)
    play("#" * 10 + "." * 2, segmenter=segmenter)
    segmenter.require(4 * WINDOW)
    assert segmenter.settle() is None, "not silent for so long"

    (ended,) = play("." * 5, segmenter=segmenter, at=12 * WINDOW)

    assert isinstance(ended, Ended)
    assert (ended.at, ended.voice_end, ended.reason) == (14 * WINDOW, 10 * WINDOW, EndReason.END_OF_TURN)


def test_a_judgement_that_comes_after_that_silence_ends_it_at_once() -> None:
    segmenter = Segmenter(PLAIN)
    assert segmenter.settle() is None, "nobody speaks"
    segmenter.require(WINDOW)  # without effect
    play("#" * 10 + "." * 6, segmenter=segmenter)
    assert segmenter.settle() is None, "by the plain silence"
    segmenter.require(4 * WINDOW)

    ended = segmenter.settle()

    assert isinstance(ended, Ended) and ended.at == 16 * WINDOW and ended.reason is EndReason.END_OF_TURN
    assert segmenter.settle() is None
    assert [type(event) for event in play("." * 5 + "#" * 10 + "." * 10, segmenter=segmenter, at=16 * WINDOW)] == [
        Started,
        Ended,
    ]


@pytest.mark.parametrize("windows", [4, 20])
def test_a_judgement_is_for_one_pause_only(windows: int) -> None:
    segmenter = Segmenter(PLAIN)
    play("#" * 10 + "." * 2, segmenter=segmenter)
    segmenter.require(windows * WINDOW)

    (ended,) = play("#" * 5 + "." * 20, segmenter=segmenter, at=12 * WINDOW)

    assert isinstance(ended, Ended) and ended.at == 27 * WINDOW, "10 windows after the end of the voice, as usual"


def test_a_voice_that_comes_back_is_not_cut_off_by_a_judgement() -> None:
    segmenter = Segmenter(PLAIN)
    play("#" * 10 + "." * 6 + "#", segmenter=segmenter)
    segmenter.require(2 * WINDOW)
    assert segmenter.settle() is None, "one loud window: perhaps the voice goes on"


def test_no_judgement_lasts_beyond_the_longest_utterance() -> None:
    segmenter = Segmenter(replace(PLAIN, max_utterance_ms=40 * WINDOW))
    play("#" * 10, segmenter=segmenter)
    segmenter.require(1e9)

    (ended,) = play("." * 60, segmenter=segmenter, at=10 * WINDOW)

    assert isinstance(ended, Ended) and ended.reason is EndReason.TOO_LONG


def test_a_habit_of_long_pauses_does_not_hide_the_next_one_from_a_judge() -> None:
    pauses = PauseBudget(per_utterance=1.0)
    pauses.went_on(900, prepared=False)
    assert pauses.needed_ms(100) > 900 and pauses.needed_ms(100, 300) == 300
    pauses.went_on(900, prepared=True)
    pauses.went_on(900, prepared=True)
    assert pauses.needed_ms(100, 300) == math.inf, "nothing is left to be thrown away"
    pauses.ended()
    assert pauses.needed_ms(100, 300) == 300, "one more for each utterance"


@pytest.mark.parametrize("pause_ms", [0, 320, 1000])
def test_no_pause_is_told_when_it_is_not_shorter_than_the_silence(pause_ms: float) -> None:
    events = play("#" * 10 + "." * 12, replace(PLAIN, pause_ms=pause_ms))
    assert [type(event) for event in events] == [Started, Ended]


def test_too_short_is_dropped_and_never_paused() -> None:
    options = replace(PAUSING, min_utterance_ms=96 + 20 * WINDOW)
    assert [type(event) for event in play("." * 5 + "###" + "." * 12, options)] == [Started, TooShort]
    assert [type(event) for event in play("." * 5 + "#" * 15 + "." * 12, options)] == [Started, Paused, Ended]


def test_speech_at_the_very_start_counts_as_if_the_pre_roll_had_been_recorded() -> None:
    options = replace(PLAIN, pre_roll_ms=960, min_utterance_ms=960 + 13 * WINDOW)
    early = play("###" + "." * 12, options)[-1]
    late = play("." * 40 + "###" + "." * 12, options)[-1]
    assert isinstance(early, Ended) and isinstance(late, Ended)
    assert early.audio_from == 0.0 and late.audio_from == 10 * WINDOW


def test_too_long_ends_and_the_next_starts_where_it_ended() -> None:
    options = replace(PLAIN, max_utterance_ms=10 * WINDOW)
    first, ended, second, *_ = play("#" * 30, options)
    assert (
        isinstance(ended, Ended) and ended.reason is EndReason.TOO_LONG and ended.at - ended.audio_from == 10 * WINDOW
    )
    assert first == Started(3 * WINDOW, 0.0)
    assert second == Started(ended.at + WINDOW, ended.at), "not a sample lost, not one twice"


def test_too_long_in_a_pause_does_not_start_another() -> None:
    options = replace(PAUSING, max_utterance_ms=16 * WINDOW)
    events = play("#" * 10 + "." * 30, options)
    assert [type(event) for event in events] == [Started, Paused, Ended]


def test_utterances_do_not_share_sound() -> None:
    segmenter = Segmenter(replace(PLAIN, pre_roll_ms=3200))
    ended = play("#" * 5 + "." * 10, segmenter=segmenter)[-1]
    (started,) = play("..###", segmenter=segmenter, at=15 * WINDOW)
    assert isinstance(ended, Ended) and isinstance(started, Started)
    assert started.audio_from == ended.at


def test_stop_ends_what_is_under_way() -> None:
    segmenter = Segmenter(PLAIN)
    assert segmenter.stop() is None
    play("#" * 10, segmenter=segmenter)
    assert segmenter.speaking
    assert segmenter.stop() == Ended(10 * WINDOW, 0.0, 10 * WINDOW, 10 * WINDOW, EndReason.STOPPED)
    assert not segmenter.speaking and segmenter.stop() is None


def test_reset_forgets_and_counts_from_zero() -> None:
    segmenter = Segmenter(PLAIN)
    play("#" * 10, segmenter=segmenter)
    segmenter.reset()
    assert not segmenter.speaking and segmenter.stop() is None
    assert play("###", segmenter=segmenter) == [Started(3 * WINDOW, 0.0)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.1},
        {"threshold": 1.5},
        {"threshold_low": -0.1},
        {"voiced_needed": 6},
        {"window_ms": 0.0},
        {"max_utterance_ms": 100.0},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        replace(SegmenterOptions(), **wrong)  # type: ignore[arg-type]


OPTIONS = st.builds(
    SegmenterOptions,
    min_silence_ms=st.integers(32, 800),
    pause_ms=st.integers(0, 800),
    pre_roll_ms=st.integers(0, 700),
    min_utterance_ms=st.integers(0, 1200),
    max_utterance_ms=st.integers(200, 3000),
)
# Runs rather than single characters, so that utterances really happen.
SCRIPTS = st.lists(st.tuples(st.sampled_from("#.-"), st.integers(1, 30)), max_size=25).map(
    lambda runs: "".join(c * n for c, n in runs)
)


@given(OPTIONS, SCRIPTS)
def test_events_come_in_an_order_that_makes_sense(options: SegmenterOptions, script: str) -> None:
    may_follow = {
        None: (Started,),
        Started: (Paused, Ended, TooShort),
        Paused: (Resumed, Ended),
        Resumed: (Paused, Ended),
        Ended: (Started,),
        TooShort: (Started,),
    }
    last: type[Event] | None = None
    for event in play(script, options):
        assert isinstance(event, may_follow[last]), (last, event)
        last = type(event)


@given(OPTIONS, SCRIPTS)
def test_bounds_of_every_utterance(options: SegmenterOptions, script: str) -> None:
    floor, started = 0.0, None
    for event in play(script, options):
        if isinstance(event, Started):
            started = event
            assert floor <= event.audio_from < event.at
            assert event.at - event.audio_from <= options.pre_roll_ms + options.voiced_of * WINDOW
        elif isinstance(event, Paused | Ended):
            assert started is not None and event.audio_from == started.audio_from
            assert event.audio_from < event.voice_end <= event.at
            assert 0 < event.voiced_ms <= event.at - event.audio_from
        if isinstance(event, Paused):
            assert options.pause_ms <= event.at - event.voice_end < options.min_silence_ms
        if isinstance(event, Ended):
            # Judged window by window, so at most one window over.
            assert event.at - event.audio_from < options.max_utterance_ms + max(
                WINDOW, options.pre_roll_ms + options.voiced_of * WINDOW
            )
            if event.reason is EndReason.SILENCE:
                # A window over, and two more if they were voiced but no speech.
                longest = max(options.min_silence_ms, options.fade_ms) + 3 * WINDOW
                assert options.min_silence_ms <= event.at - event.voice_end < longest
        if isinstance(event, Ended | TooShort):
            floor = event.at


@given(OPTIONS, SCRIPTS)
def test_silence_ends_everything(options: SegmenterOptions, script: str) -> None:
    segmenter = Segmenter(options)
    play(script, segmenter=segmenter)
    play("." * 100, segmenter=segmenter, at=len(script) * WINDOW)
    assert not segmenter.speaking


@given(OPTIONS, SCRIPTS)
def test_a_reset_segmenter_is_a_new_one(options: SegmenterOptions, script: str) -> None:
    options = replace(options, pause_ms=0)  # what is known of the speaker stays
    segmenter = Segmenter(options)
    play(script[::-1], segmenter=segmenter)
    segmenter.reset()
    assert play(script, segmenter=segmenter) == play(script, options)
