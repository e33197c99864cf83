"""Guessing gets slow, for the guesser only."""

from __future__ import annotations

import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.errors import LockedOut
from xiaozhi.runtime.guesses import FREE, FREE_IN_AN_HOUR, Guesses
from xiaozhi.runtime.rates import MAX_COUNTS, Rates


def locked(guesses: Guesses, who: str = "a", door: str = "admin") -> float:
    """Seconds to wait; 0: none."""
    try:
        guesses.refuse_guesser(door, who)
    except LockedOut as error:
        return error.retry_after
    return 0.0


def test_a_few_are_free_then_a_minute_then_an_hour() -> None:
    clock = FakeClock()
    guesses = Guesses(Rates(clock=clock))
    for _ in range(FREE):
        assert not locked(guesses)
        guesses.add("admin", "a")
    assert locked(guesses) == 60
    assert not locked(guesses, "b") and not locked(guesses, door="vision_token")

    clock.advance(60)
    for _ in range(FREE_IN_AN_HOUR - FREE):
        assert not locked(guesses)
        guesses.add("admin", "a")

    assert locked(guesses) == 3600 - 60
    assert guesses.wrong["admin"] == FREE_IN_AN_HOUR
    assert guesses.locked_out["admin"] == 2


def test_how_many_can_be_tried_in_a_day() -> None:
    clock = FakeClock()
    guesses = Guesses(Rates(clock=clock))
    tried, end = 0, clock() + 86_400
    while clock() < end:
        wait = locked(guesses)
        if wait:
            clock.advance(wait)
        else:
            guesses.add("admin", "a")
            tried += 1
    assert tried == 24 * FREE_IN_AN_HOUR


def test_the_right_one_and_a_quiet_hour_are_a_new_beginning() -> None:
    clock = FakeClock()
    guesses = Guesses(Rates(clock=clock))
    for forgiven in (lambda: guesses.forgive("admin", "a"), lambda: clock.advance(3600)):
        for _ in range(FREE_IN_AN_HOUR):
            guesses.add("admin", "a")
        assert locked(guesses)
        forgiven()
        guesses.add("admin", "a")
        assert not locked(guesses)


@pytest.mark.blocks_hub("a table is filled")
def test_the_table_is_bounded() -> None:
    guesses = Guesses(Rates(clock=FakeClock()))
    for number in range(MAX_COUNTS // 2 + 10):
        for _ in range(FREE):
            guesses.add("admin", str(number))
    assert not locked(guesses, "0")
    assert locked(guesses, str(MAX_COUNTS // 2 + 9))
