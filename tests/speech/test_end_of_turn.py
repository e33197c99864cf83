"""How scores move a silence between its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.end_of_turn import SilenceBounds, score_of, silence_needed

BOUNDS = SilenceBounds(250, 1_500)


@pytest.mark.parametrize(
    ("score", "needed"),
    [(0, 600), (1, 252), (0.9, 252), (0.45, 426), (-0.3, 870), (-0.5, 1_050), (-1, 1_500), (-2, 1_500), (2, 252)],
)
def test_a_score_moves_the_silence(score: float, needed: float) -> None:
    assert silence_needed(600, BOUNDS, score) == pytest.approx(needed)


@pytest.mark.parametrize(
    ("plain", "score", "needed"), [(200, 1, 200), (200, -1, 1_500), (2_000, -1, 2_000), (2_000, 0, 2_000)]
)
def test_a_plain_silence_outside_of_the_bounds_is_not_moved_towards_them(
    plain: float, score: float, needed: float
) -> None:
    assert silence_needed(plain, BOUNDS, score) == needed


@pytest.mark.parametrize(("plain", "needed"), [(300, 250), (600, 252), (1_000, 420), (2_000, 840)])
def test_who_set_a_long_silence_is_not_cut_short_to_the_bound(plain: float, needed: float) -> None:
    assert silence_needed(plain, BOUNDS, 1) == pytest.approx(needed)


@given(plain=st.floats(32, 10_000), score=st.floats(-2, 2), more=st.floats(0, 2))
def test_the_surer_the_shorter(plain: float, score: float, more: float) -> None:
    needed, surer = silence_needed(plain, BOUNDS, score), silence_needed(plain, BOUNDS, score + more)
    assert surer <= needed + 1e-6
    assert min(plain, 250) - 1e-6 <= needed <= max(plain, 1_500)


@pytest.mark.parametrize(
    ("probability", "low", "high"),
    [(0.9, 0, 0), (0, -1, -1), (1, 1, 1), (0.05, -1, -1), (0.5, -0.5, -0.4), (0.95, 0.3, 0.4), (0.985, 0.9, 1)],
)
def test_a_probability_becomes_a_score(probability: float, low: float, high: float) -> None:
    assert low - 1e-9 <= score_of(probability) <= high + 1e-9
