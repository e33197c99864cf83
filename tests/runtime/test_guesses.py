"""Guessing gets slower and slower, for the guesser only."""

from __future__ import annotations

import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.errors import LockedOut
from xiaozhi.runtime.guesses import FIRST_WAIT_S, FORGOTTEN_AFTER_S, FREE, LONGEST_WAIT_S, MAX_KNOWN, Guesses


def locked(guesses: Guesses, who: str = "a", door: str = "admin") -> float:
    """Seconds to wait; 0: none."""
    try:
        guesses.refuse_guesser(door, who)
    except LockedOut as error:
        return error.retry_after
    return 0.0


def test_a_few_are_free_then_each_costs_twice_as_much() -> None:
    clock = FakeClock()
    guesses = Guesses(clock=clock)
    for _ in range(FREE):
        guesses.add("admin", "a")
        assert not locked(guesses)
    waits = []
    for _ in range(12):
        guesses.add("admin", "a")
        waits.append(locked(guesses))
        clock.advance(waits[-1])
        assert not locked(guesses)
    assert waits[:4] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S, 8 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S
    assert guesses.wrong["admin"] == FREE + 12
    assert guesses.locked_out["admin"] == 12
    assert not locked(guesses, "b") and not locked(guesses, door="vision_token")


def test_how_many_can_be_tried_in_a_day() -> None:
    clock = FakeClock()
    guesses = Guesses(clock=clock)
    tried, end = 0, clock() + 86_400
    while clock() < end:
        wait = locked(guesses)
        if wait:
            clock.advance(wait)
        else:
            guesses.add("admin", "a")
            tried += 1
    assert tried < 310


def test_the_right_one_and_a_quiet_hour_are_a_new_beginning() -> None:
    clock = FakeClock()
    guesses = Guesses(clock=clock)
    quiet = FORGOTTEN_AFTER_S + LONGEST_WAIT_S + 1
    for forgiven in (lambda: guesses.forgive("admin", "a"), lambda: clock.advance(quiet)):
        for _ in range(FREE + 20):
            guesses.add("admin", "a")
        assert locked(guesses)
        forgiven()
        guesses.add("admin", "a")
        assert not locked(guesses)


@pytest.mark.blocks_hub("a table is filled")
def test_the_table_is_bounded() -> None:
    guesses = Guesses(clock=FakeClock())
    for number in range(MAX_KNOWN + 10):
        for _ in range(FREE + 1):
            guesses.add("admin", str(number))
    assert not locked(guesses, "0")
    assert locked(guesses, str(MAX_KNOWN + 9))
