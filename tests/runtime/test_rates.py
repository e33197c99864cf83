"""So many a minute of one kind from one sender, and not one more."""

from __future__ import annotations

import threading

import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.errors import TooOften
from xiaozhi.runtime.rates import MAX_COUNTS, Rates


def refused(rates: Rates, per_minute: int, *who: str) -> float:
    """Ask; seconds to wait, 0 when it was within the limit."""
    try:
        rates.ask(per_minute, "OTA", *who)
    except TooOften as error:
        assert error.what == "OTA"
        return error.retry_after
    return 0.0


def test_the_limit_is_reached_waited_for_and_free_again() -> None:
    clock = FakeClock()
    rates = Rates(clock=clock)
    assert [refused(rates, 3, "a") for _ in range(3)] == [0, 0, 0]
    clock.advance(20)

    assert refused(rates, 3, "a") == 40
    assert refused(rates, 3, "b") == 0
    assert refused(rates, 3, "a", "b") == 0

    clock.advance(40)
    assert [refused(rates, 3, "a") for _ in range(4)] == [0, 0, 0, 60]


def test_refusals_do_not_prolong_the_wait() -> None:
    clock = FakeClock()
    rates = Rates(clock=clock)
    for _ in range(60):
        refused(rates, 1, "a")
        clock.advance(1)

    assert refused(rates, 1, "a") == 0


def test_no_limit_is_no_limit() -> None:
    rates = Rates(clock=FakeClock())

    assert {refused(rates, 0, "a") for _ in range(1_000)} == {0}


@pytest.mark.blocks_hub("a table is filled")
def test_the_table_is_bounded_and_needs_no_thread() -> None:
    before = threading.active_count()
    rates = Rates(clock=FakeClock())
    for number in range(MAX_COUNTS + 1):
        refused(rates, 1, str(number))

    assert refused(rates, 1, "0") == 0, "forgotten"
    assert refused(rates, 1, str(MAX_COUNTS)) > 0
    assert threading.active_count() == before
