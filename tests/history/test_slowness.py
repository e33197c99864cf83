"""Why a turn was slow, from its timings and what is usual."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.history.entries import ToolUse
from xiaozhi.history.slowness import ENOUGH, GOOD, SHARES, SLOW_MS, Cause, explain, usual_times
from xiaozhi.session.turn_record import SHARES as MEASURED

USUAL = {"silence": 400, "recognition": 200, "model": 300, "first_sentence": 100, "voice": 200}


def turn(**shares: int) -> dict[str, int]:
    return {**dict.fromkeys(SHARES, 0), **USUAL, **shares, "ended": 9_999}


OWN = usual_times([turn() for _ in range(ENOUGH)])


def test_the_shares_are_those_that_are_measured() -> None:
    assert SHARES == MEASURED
    assert set(GOOD) == set(SHARES)


def test_usual_is_what_the_device_took_or_all_devices_or_what_is_good() -> None:
    few, many = [turn()] * (ENOUGH - 1), [turn(model=900)] * ENOUGH
    odd = [{"ended": 5}, {}] * ENOUGH

    assert usual_times([*few, turn(model=5000)]).shares["model"] == 300, "one slow turn changes no median"
    assert (usual_times(few, many).basis, usual_times(few, many).shares["model"]) == ("server", 900)
    assert usual_times(few + odd, odd).basis == "good"
    assert usual_times(many, few).basis == "device"


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ({}, "usual"),
        ({"model": 350}, "usual"),
        ({"silence": 100, "model": 100}, "quick"),
        ({"model": 1_000}, "slow"),
        ({"model": 550}, "usual"),
    ],
)
def test_slow_is_much_more_than_usual(shares: dict[str, int], verdict: str) -> None:
    assert explain(turn(**shares), [], OWN).verdict == verdict


@pytest.mark.parametrize("share", SHARES)
def test_what_took_longer_than_usual_is_named(share: str) -> None:
    usual = turn().get(share, 0)

    found = explain(turn(**{share: usual + 2_000}), [], OWN)

    assert found.verdict == "slow"
    assert found.causes == (Cause(share, usual + 2_000, usual),)
    assert (found.total, found.usual, found.basis) == (3_200, 1_200, "device")


def test_the_longest_comes_first_and_trifles_are_left_out() -> None:
    found = explain(turn(model=1_300, recognition=2_200, voice=260, encode=140), [], OWN)

    assert [cause.what for cause in found.causes] == ["recognition", "model"]


def test_a_tool_is_not_blamed_on_the_first_sentence() -> None:
    weather = ToolUse("get_weather", {}, "done", "rain", 1_800)
    skipped = ToolUse("get_news", {}, "skipped")

    found = explain(turn(first_sentence=2_000), [weather, skipped], OWN)

    assert found.causes == (Cause("tool", 1_800, names=("get_weather",)),)
    quick = explain(turn(model=2_000), [ToolUse("get_time", {}, "done", "", 3)], OWN)
    assert [cause.what for cause in quick.causes] == ["model"]


def test_a_tool_that_runs_behind_the_first_sound_is_not_to_blame() -> None:
    found = explain(turn(voice=2_000), [ToolUse("play_music", {}, "done", "", 5_000)], OWN)

    assert [cause.what for cause in found.causes] == ["voice"]


def test_always_slow_is_slow_all_the_same() -> None:
    usual = usual_times([turn(model=SLOW_MS)] * ENOUGH)

    found = explain(turn(model=SLOW_MS), [], usual)

    assert found.verdict == "slow"
    assert found.causes == (Cause("model", SLOW_MS, SLOW_MS),)


@pytest.mark.parametrize("timings", [{}, {"ended": 800}])
def test_without_a_sound_there_is_nothing_to_explain(timings: dict[str, Any]) -> None:
    assert explain(timings, [], OWN).verdict == "silent"
