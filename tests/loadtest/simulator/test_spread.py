"""Distributions: quantiles against sorted lists, merging, and the way between processes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.simulator.spread import BIN_MS, Spread

DURATIONS = st.lists(st.floats(0, 5_000), min_size=1, max_size=60)


@given(DURATIONS, st.floats(0, 1))
def test_a_quantile_is_the_nearest_rank_to_the_width_of_a_bin(values: list[float], share: float) -> None:
    rank = max(1, math.ceil(share * len(values) - 1e-9))
    found = Spread(values).quantile(share)

    assert found is not None
    assert abs(found - sorted(values)[rank - 1]) <= BIN_MS / 2 + 1e-6


@given(DURATIONS, DURATIONS)
def test_merging_counts_everything_of_both(one: list[float], two: list[float]) -> None:
    merged, whole = Spread(one), Spread(one + two)
    merged.merge(Spread(two))

    assert merged.pairs() == whole.pairs()
    assert (merged.count, merged.largest) == (whole.count, whole.largest)
    assert merged.total == pytest.approx(whole.total)


@given(DURATIONS)
def test_what_another_process_gets_has_the_same_quantiles(values: list[float]) -> None:
    spread = Spread(values)
    copy = Spread.from_pairs(spread.pairs())

    assert [copy.quantile(share) for share in (0, 0.5, 0.99, 1)] == [
        spread.quantile(share) for share in (0, 0.5, 0.99, 1)
    ]


def test_the_share_over_a_limit_does_not_count_the_limit_itself():
    spread = Spread([60.0, 65.0, 65.1, 90.0])

    assert spread.share_over(65) == 0.5
    assert spread.share_over(1000) == 0


def test_nothing_has_no_quantile():
    spread = Spread()

    assert (spread.quantile(0.5), spread.share_over(1), spread.mean) == (None, None, None)


def test_negative_durations_count_as_nothing():
    assert Spread([-0.3]).quantile(1) == 0


def test_bars_of_a_histogram_hold_everything_and_the_last_one_the_rest():
    bars = Spread([1, 19.9, 20, 39, 400, 700]).histogram(20, most_ms=100)

    assert bars == [(0, 2), (20, 2), (100, 2)]
