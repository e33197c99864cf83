"""The last hour by minutes: what is read when a minute ends, what is put in, and what is forgotten."""

from __future__ import annotations

import random
import statistics

import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.runtime.last_hour import BUCKETS, MINUTES, LastHour

WALL = 1_000_000.0


class Process:
    """What an hour is read from."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.devices = 0
        self.ended = 0
        self.hour = LastHour(clock=self.clock, wall=lambda: WALL + self.clock())
        self.hour.devices = lambda: self.devices
        self.hour.turns = lambda: self.ended

    def pass_minutes(self, count: float = 1) -> None:
        self.clock.advance(60 * count)
        self.hour.tick(0.0)


@pytest.fixture
def process() -> Process:
    return Process()


def test_a_minute_is_what_it_was_when_it_ended(process: Process) -> None:
    process.devices, process.ended = 3, 2
    process.hour.answered(0.5)
    process.hour.tick(0.004)
    process.hour.tick(0.001)
    process.pass_minutes()
    process.devices, process.ended = 5, 3

    first, now = process.hour.minutes()

    assert (first.devices, first.turns, first.worst_lag_s) == (3, 2, 0.004)
    assert first.p50_s == first.p95_s == pytest.approx(0.5, rel=0.02)
    assert (now.devices, now.turns, now.p50_s, now.p95_s) == (5, 1, None, None)
    assert now.began - first.began == 60


def test_quantiles_are_right_within_two_per_cent(process: Process) -> None:
    drawn = random.Random(7)
    waits = [drawn.lognormvariate(-0.4, 0.5) for _ in range(5_000)]
    for number, wait in enumerate(waits):
        process.hour.answered(wait)
        if number % 500 == 499:
            process.pass_minutes()

    count, (p50, p95) = process.hour.waited(0.5, 0.95)

    exact = statistics.quantiles(waits, n=100)
    assert count == 5_000
    assert p50 == pytest.approx(exact[49], rel=0.025)
    assert p95 == pytest.approx(exact[94], rel=0.025)


@pytest.mark.parametrize("wait", [-1.0, 0.0, 0.01, 59.0, 3_600.0])
def test_no_wait_is_too_short_or_too_long_to_count(process: Process, wait: float) -> None:
    process.hour.answered(wait)

    assert process.hour.waited(1.0)[0] == 1
    assert BUCKETS == 222  # 10 ms to a minute


def test_nobody_was_answered(process: Process) -> None:
    process.pass_minutes()

    assert process.hour.waited(0.5, 0.95) == (0, [None, None])


def test_what_is_older_than_an_hour_is_forgotten(process: Process) -> None:
    process.hour.answered(0.5)
    for _ in range(MINUTES - 1):
        process.pass_minutes()
    assert process.hour.waited(0.5)[0] == 1
    assert len(process.hour.minutes()) == MINUTES

    process.pass_minutes()

    assert process.hour.waited(0.5)[0] == 0
    assert len(process.hour.minutes()) == MINUTES


def test_a_process_that_stood_still_has_a_gap(process: Process) -> None:
    process.hour.answered(0.5)
    process.pass_minutes(10)
    first, now = process.hour.minutes()
    assert now.began - first.began == 600

    process.pass_minutes(90)

    assert len(process.hour.minutes()) == 1
    assert process.hour.waited(0.5) == (0, [None])


def test_turns_a_minute_are_those_of_the_last_five(process: Process) -> None:
    for _ in range(30):
        process.ended += 4
        process.pass_minutes()
    assert process.hour.turns_per_minute() == pytest.approx(4, rel=0.01)
    for _ in range(5):
        process.pass_minutes()
    assert process.hour.turns_per_minute() == 0

    process.ended += 2
    process.clock.advance(30)

    assert process.hour.turns_per_minute() == pytest.approx(2 / 3.5, rel=0.01)


def test_the_first_seconds_are_no_rate_of_thousands(process: Process) -> None:
    process.clock.advance(1)
    process.ended = 2

    assert process.hour.turns_per_minute() == 2
