"""Live data for the prompt: fetched in the background, never waited for, a broken source costs its own lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import ToolError, VendorUnavailable
from xiaozhi.session.link import Identity
from xiaozhi.session.turns.context import (
    FRESH_S,
    KEPT_S,
    MAX_FETCHES,
    MAX_LINE_CHARS,
    MAX_LINES,
    LiveContext,
    LiveData,
)

DEVICE = Identity(device_id="d")


class Source:
    """Gives `lines`, or raises them; counts how often it was asked."""

    def __init__(self, lines: Sequence[str] | Exception | Callable[[], Sequence[str]]) -> None:
        self.lines = lines
        self.asked: list[str] = []

    def __call__(self, identity: Identity) -> Sequence[str]:
        self.asked.append(identity.device_id)
        if isinstance(self.lines, Exception):
            raise self.lines
        return self.lines() if callable(self.lines) else self.lines


def lines_of(context: LiveContext, identity: Identity) -> Sequence[str]:
    return context.data(identity).lines


def fetched(context: LiveContext, identity: Identity = DEVICE) -> Sequence[str]:
    """What is known once the background has done its work."""
    context.prefetch(identity)
    wait_for(lambda: lines_of(context, identity))
    return lines_of(context, identity)


def test_what_is_known_is_there_for_the_next_question() -> None:
    source = Source(["stock: 12", "door: open"])
    context = LiveContext([source])

    assert lines_of(context, DEVICE) == (), "nobody waits for it"

    assert fetched(context) == ("stock: 12", "door: open")
    assert source.asked == ["d"]


def test_without_sources_nothing_is_done() -> None:
    context = LiveContext(())
    context.prefetch(DEVICE)

    assert lines_of(context, DEVICE) == ()


def test_data_is_fetched_anew_when_it_is_not_fresh() -> None:
    clock = FakeClock()
    source = Source(["one"])
    context = LiveContext([source], clock=clock)
    fetched(context)

    clock.advance(FRESH_S)
    context.prefetch(DEVICE)
    assert len(source.asked) == 1
    clock.advance(1)
    source.lines = ["two"]
    assert lines_of(context, DEVICE) == ("one",), "old data is better than a wait"

    wait_for(lambda: lines_of(context, DEVICE) == ("two",))
    assert len(source.asked) == 2


def test_old_data_is_worse_than_none() -> None:
    clock = FakeClock()
    source = Source(["one"])
    context = LiveContext([source], clock=clock)
    fetched(context)

    clock.advance(KEPT_S + 1)

    assert lines_of(context, DEVICE) == ()
    wait_for(lambda: len(source.asked) == 2)


@pytest.mark.parametrize("error", [VendorUnavailable("context"), ValueError("no header value")])
def test_a_broken_source_costs_its_own_lines(error: Exception) -> None:
    with capture_logs() as logged:
        assert fetched(LiveContext([Source(error), Source(["kept"])])) == ("kept",)

    assert [entry["event"] for entry in logged] == ["context source failed"]


def test_a_source_that_hangs_is_given_up() -> None:
    never = Event()
    slow = Source(lambda: never.wait(PATIENCE_S) and [])

    assert fetched(LiveContext([slow, Source(["kept"])], deadline=0.01)) == ("kept",)


def test_lines_are_bounded() -> None:
    lines = fetched(LiveContext([Source(["x" * (MAX_LINE_CHARS + 1)] * (MAX_LINES + 1))]))

    assert len(lines) == MAX_LINES
    assert {len(line) for line in lines} == {MAX_LINE_CHARS}


@contextmanager
def held() -> Iterator[Source]:
    """A source that waits until the block ends."""
    gate = Event()

    def lines() -> list[str]:
        gate.wait(PATIENCE_S)
        return ["late"]

    yield Source(lines)
    gate.set()
    gevent.sleep(0)


def test_a_device_is_fetched_for_once_at_a_time() -> None:
    with held() as source:
        context = LiveContext([source])
        for _ in range(3):
            context.prefetch(DEVICE)
        wait_for(lambda: source.asked)
        gevent.sleep(0)
        assert source.asked == ["d"]
    assert fetched(context) == ("late",)


def test_not_too_many_are_fetched_for_at_once() -> None:
    with held() as source:
        context = LiveContext([source])
        for number in range(MAX_FETCHES + 5):
            context.prefetch(Identity(device_id=str(number)))
        wait_for(lambda: len(source.asked) >= MAX_FETCHES)
        gevent.sleep(0)
        assert len(source.asked) == MAX_FETCHES
    wait_for(lambda: lines_of(context, Identity(device_id="0")))


def test_a_fault_of_a_source_of_ours_costs_its_own_lines() -> None:
    assert fetched(LiveContext([Source(ZeroDivisionError("oops")), Source(["kept"])])) == ("kept",)


def test_where_the_device_is() -> None:
    context = LiveContext((), surroundings=lambda address: (f"Berlin {address}", "rain"))
    context.prefetch(Identity(device_id="d", peer_ip="203.0.113.7"))
    wait_for(lambda: context.data(DEVICE).place)

    assert context.data(DEVICE) == LiveData((), "Berlin 203.0.113.7", "rain")


def test_a_place_that_is_not_known_costs_nothing_else() -> None:
    def nowhere(address: str) -> tuple[str, str]:
        raise ToolError("no such place")

    assert fetched(LiveContext([Source(["kept"])], surroundings=nowhere)) == ("kept",)


def test_the_first_question_waits_for_what_is_on_its_way() -> None:
    gate = Event()

    def lines() -> list[str]:
        gate.wait(PATIENCE_S)
        return ["there"]

    context = LiveContext([Source(lines)])
    context.prefetch(DEVICE)
    waiting = gevent.spawn(context.await_first, DEVICE, PATIENCE_S)
    gevent.sleep(0)
    assert not waiting.dead
    gate.set()
    waiting.get(timeout=PATIENCE_S)

    assert lines_of(context, DEVICE) == ("there",)


def test_a_question_does_not_wait_for_long_or_again() -> None:
    clock = FakeClock()
    with held() as source:
        context = LiveContext([source], clock=clock)
        context.await_first(DEVICE, 0.01)
        assert lines_of(context, DEVICE) == ()
    fetched(context)
    clock.advance(FRESH_S + 1)
    never = Event()
    source.lines = lambda: never.wait(PATIENCE_S) and []

    context.await_first(DEVICE, PATIENCE_S)

    assert lines_of(context, DEVICE) == ("late",)
