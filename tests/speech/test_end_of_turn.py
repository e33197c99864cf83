"""How much silence words and a model's probability ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.end_of_turn import SilenceBounds, evidence_of, silence_needed

BOUNDS = SilenceBounds(250, 1_500)
UNSURE = 0.9
"""The probability at which the model says nothing."""


@pytest.mark.parametrize(
    ("words", "needed"), [(0, 600), (1, 252), (0.8, 292), (-0.3, 1_007), (-0.8, 1_500), (-1, 1_500)]
)
def test_words_alone_move_the_silence(words: float, needed: float) -> None:
    assert silence_needed(600, BOUNDS, words) == pytest.approx(needed, abs=1)


@pytest.mark.parametrize(
    ("words", "probability", "low", "high"),
    [
        (0, UNSURE, 600, 600),
        (0, 0.99, 300, 320),  # a statement whose words show nothing
        (0, 0.01, 1_000, 1_200),
        (1, 0.99, 252, 252),
        (1, UNSURE, 380, 420),
        (1, 0.01, 600, 800),
        (0.8, 0.97, 300, 330),
        (-1, 0.99, 620, 720),
        (-1, 0.01, 1_500, 1_500),
    ],
)
def test_both_together_are_surer_than_either(words: float, probability: float, low: float, high: float) -> None:
    assert low - 0.5 <= silence_needed(600, BOUNDS, words, probability) <= high + 0.5


@pytest.mark.parametrize(
    ("plain", "words", "needed"), [(200, 1, 200), (200, -1, 1_122), (2_000, -1, 2_000), (2_000, 0, 2_000)]
)
def test_a_plain_silence_outside_of_the_bounds_is_not_moved_towards_them(
    plain: float, words: float, needed: float
) -> None:
    assert silence_needed(plain, BOUNDS, words) == pytest.approx(needed, abs=1)


@pytest.mark.parametrize(("plain", "needed"), [(300, 250), (600, 252), (1_000, 420), (2_000, 840)])
def test_who_set_a_long_silence_is_not_cut_short_to_the_bound(plain: float, needed: float) -> None:
    assert silence_needed(plain, BOUNDS, 1) == pytest.approx(needed)


@given(
    plain=st.floats(32, 10_000),
    words=st.floats(-1, 1),
    more=st.floats(0, 1),
    sound=st.none() | st.floats(0, 1),
    surer=st.floats(0, 1),
)
def test_the_surer_the_shorter(plain: float, words: float, more: float, sound: float | None, surer: float) -> None:
    needed = silence_needed(plain, BOUNDS, words, sound)
    assert min(plain, 250) - 1e-6 <= needed <= max(plain, 1_500)
    assert silence_needed(plain, BOUNDS, min(1.0, words + more), sound) <= needed + 1e-6
    if sound is not None:
        assert silence_needed(plain, BOUNDS, words, max(sound, surer)) <= needed + 1e-6


@pytest.mark.parametrize(
    ("probability", "low", "high"), [(UNSURE, 0, 0), (0, -2, -2), (1, 2, 2), (0.5, -0.6, -0.5), (0.95, 0.6, 0.7)]
)
def test_a_probability_becomes_evidence(probability: float, low: float, high: float) -> None:
    assert low - 1e-9 <= evidence_of(probability) <= high + 1e-9
