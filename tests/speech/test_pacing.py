from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.pacing import GRID_MS, Pacer


def play(
    pacer: Pacer, arrivals: list[float], *, sends: list[float] | None = None, lags: list[float] | None = None
) -> list[float]:
    """Send a frame for each arrival (s) as soon as it has arrived and is due; returns when each send began.

    `sends`: how long each send takes; `lags`: how late the sender wakes up."""
    now, began = -math.inf, []
    for index, arrival in enumerate(arrivals):
        now = max(now, arrival)
        now = max(now, pacer.due(now)) + (lags[index] if lags else 0.0)
        took = sends[index] if sends else 0.0
        began.append(now)
        pacer.sent(now, now + took)
        now += took
    return began


def ms(times: list[float], start: float = 0.0) -> list[float]:
    return [round((time - start) * 1000, 3) for time in times]


@pytest.mark.parametrize("frame_ms", [20, 40, 60])
@pytest.mark.parametrize("prebuffer", [1, 2, 3, 5])
def test_a_prebuffer_at_once_then_one_frame_per_frame_duration(frame_ms: int, prebuffer: int) -> None:
    pacer = Pacer(frame_ms, prebuffer_frames=prebuffer)
    began = ms(play(pacer, [100.0] * 20), 100.0)
    assert began == [0.0] * prebuffer + [frame_ms * step for step in range(1, 21 - prebuffer)]
    assert pacer.underruns == 0
    assert round(pacer.ended_at(), 6) == round(100.0 + 20 * frame_ms / 1000 + 0.1, 6)


def test_a_longer_lead_is_reached_without_a_bigger_burst() -> None:
    """Two frames per frame duration behind the pre-buffer, until the device holds six."""
    began = ms(play(Pacer(60, prebuffer_frames=3, lead_frames=6), [0.0] * 14))

    assert began == [0, 0, 0, 30, 60, 90, 120, 150, 180, 240, 300, 360, 420, 480]
    assert max(sum(start <= at < start + 30 for at in began) for start in began) == 3


def test_a_lead_below_the_prebuffer_changes_nothing() -> None:
    assert play(Pacer(60, prebuffer_frames=3, lead_frames=2), [0.0] * 9) == play(Pacer(60), [0.0] * 9)


def test_being_a_little_late_moves_nothing_behind() -> None:
    lags = [0.0, 0.0, 0.0, 0.020, 0.0, 0.0, 0.004, 0.0]
    began = ms(play(Pacer(60), [0.0] * 8, lags=lags))
    assert began == [0, 0, 0, 80, 120, 180, 244, 300]


def test_after_an_underrun_there_is_a_prebuffer_again_and_no_more() -> None:
    pacer = Pacer(60)
    # Five frames (300 ms of sound), then the voice is silent until 2 s, long after the device has played all.
    began = ms(play(pacer, [0.0] * 5 + [2.0] * 6))
    assert began == [0, 0, 0, 60, 120, 2000, 2000, 2000, 2060, 2120, 2180]
    assert pacer.underruns == 1


def test_sound_that_is_late_but_not_too_late_catches_up_without_a_burst() -> None:
    pacer = Pacer(60)
    # Frame 3 was due at 60 and comes at 170; the device still holds 10 ms.
    began = ms(play(pacer, [0.0] * 3 + [0.17] * 6))
    assert began == [0, 0, 0, 170, 200, 230, 260, 300, 360]
    assert pacer.underruns == 0


def test_a_slow_socket_makes_frames_late_and_not_bunched() -> None:
    pacer = Pacer(60)
    # The fifth send hangs for a second; the device has long played what it had, but a burst would only pile up in the
    # socket.
    began = ms(play(pacer, [0.0] * 9, sends=[0.0] * 4 + [1.0] + [0.0] * 4))
    assert began == [0, 0, 0, 60, 120, 1150, 1180, 1210, 1240]
    assert pacer.underruns == 0


def test_a_slow_socket_ends_the_prebuffer() -> None:
    began = ms(play(Pacer(60), [0.0] * 4, sends=[0.2, 0.0, 0.0, 0.0]))
    assert began == [0, 230, 260, 290]


@pytest.mark.parametrize("delay_ms", [30, 60, 100])
def test_a_fixed_delay_is_kept_behind_the_prebuffer(delay_ms: int) -> None:
    began = ms(play(Pacer(60, fixed_delay_ms=delay_ms), [0.0] * 12))
    assert began == [0.0, 0.0] + [float(delay_ms * step) for step in range(10)]


def test_a_pause_of_the_voice_starts_over_with_a_fixed_delay_too() -> None:
    pacer = Pacer(60, fixed_delay_ms=100)
    assert ms(play(pacer, [0.0] * 4 + [5.0] * 5)) == [0, 0, 0, 100, 5000, 5000, 5000, 5100, 5200]


def test_restart_forgets_everything() -> None:
    pacer = Pacer(60)
    play(pacer, [0.0] * 5 + [9.0])
    pacer.restart()
    assert (pacer.frames, pacer.underruns, pacer.ended_at()) == (0, 0, -math.inf)
    assert ms(play(pacer, [9.0] * 4), 9.0) == [0, 0, 0, 60]


def test_devices_that_began_at_odd_times_become_due_together() -> None:
    for start in (7.0011, 7.0034, 7.0049):
        began = play(Pacer(60), [start] * 50)
        assert all(abs(time / (GRID_MS / 1000) - round(time / (GRID_MS / 1000))) < 1e-3 for time in began[3:])
        assert began[3] - start < 0.060 + GRID_MS / 1000
        assert {round(after - before, 6) for before, after in pairwise(began[3:])} == {0.06}


@pytest.mark.parametrize(
    "arguments", [{"frame_ms": 0}, {"frame_ms": 60, "prebuffer_frames": 0}, {"frame_ms": 60, "fixed_delay_ms": -1}]
)
def test_nonsense_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Pacer(**arguments)


def device(began: list[float], frame: float) -> tuple[float, list[float]]:
    """A device that plays what it gets: when it has played the last frame, and how much it held right after each
    arrival (s)."""
    end, held = -math.inf, []
    for time in began:
        end = max(end, time) + frame
        held.append(end - time)
    return end, held


gaps = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.5), st.floats(0, 3.0)), min_size=1, max_size=60)


@given(
    gaps,
    st.sampled_from([20, 40, 60]),
    st.integers(1, 6),
    st.lists(st.floats(0, 0.3), min_size=60, max_size=60),
    st.floats(0, 1e6),
)
def test_a_device_never_holds_more_than_the_prebuffer_and_the_end_is_right(
    gaps: list[float], frame_ms: int, prebuffer: int, lags: list[float], start: float
) -> None:
    pacer, frame = Pacer(frame_ms, prebuffer_frames=prebuffer), frame_ms / 1000
    arrivals = [start + sum(gaps[: index + 1]) for index in range(len(gaps))]
    began = play(pacer, arrivals, lags=lags)
    end, held = device(began, frame)
    assert max(held) <= prebuffer * frame + 1e-6
    assert began == sorted(began)
    assert pacer.play_end == pytest.approx(end, abs=1e-6)
    assert pacer.played_ms(end) == pytest.approx(len(gaps) * frame_ms)
    assert pacer.played_ms(began[-1]) == pytest.approx(len(gaps) * frame_ms - held[-1] * 1000, abs=0.01)
    # What is counted as an underrun is a silence that could be heard, and the other way round.
    silences = [time - (before + left) for (before, time), left in zip(pairwise(began), held, strict=False)]
    assert (
        sum(silence > 0.011 for silence in silences) <= pacer.underruns <= sum(silence > 0.009 for silence in silences)
    )


@given(gaps, st.integers(1, 6))
def test_a_frame_is_never_held_back_while_the_device_is_dry(gaps: list[float], prebuffer: int) -> None:
    pacer = Pacer(60, prebuffer_frames=prebuffer)
    arrivals = [sum(gaps[: index + 1]) for index in range(len(gaps))]
    for arrival, time in zip(arrivals, play(pacer, arrivals), strict=True):
        assert time >= arrival
    pacer.restart()
    now = 0.0
    for arrival in arrivals:
        now = max(now, arrival)
        due = pacer.due(now)
        assert due <= max(now, pacer.play_end) + 1e-9, "the device would fall silent although there is sound"
        now = max(now, due)
        pacer.sent(now, now)


@given(st.lists(st.floats(0, 0.2), min_size=2, max_size=60), st.integers(1, 4))
def test_behind_a_blocked_send_frames_are_at_least_half_a_frame_apart(sends: list[float], prebuffer: int) -> None:
    began = play(Pacer(60, prebuffer_frames=prebuffer), [0.0] * len(sends), sends=sends)
    for index in range(prebuffer, len(began)):
        ended = began[index - 1] + sends[index - 1]
        held_back = 0.03 if sends[index - 1] > 0.03 else 0.0
        assert began[index] >= ended + held_back - 1e-6
