"""Windows and breakers, with the time in the test's hands."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.clock import SleepingClock
from tests.waiting import PATIENCE_S
from xiaozhi.errors import (
    CircuitOpen,
    Overloaded,
)
from xiaozhi.runtime.resilience import (
    Breaker,
    BreakerOptions,
    BreakerState,
    OnePerKey,
    Window,
)


@pytest.fixture
def clock() -> SleepingClock:
    return SleepingClock()


# --- window --------------------------------------------------------------------------------------------------------


def test_a_window_admits_so_many_and_queues_so_many_in_order() -> None:
    window = Window("llm", 2, queue_size=2)
    window.enter(1)
    window.enter(1)
    order: list[str] = []

    def wait(name: str) -> None:
        window.enter(5)
        order.append(name)

    first, second = gevent.spawn(wait, "first"), gevent.spawn(wait, "second")
    gevent.sleep(0)
    assert (window.active, window.waiting) == (2, 2)
    with pytest.raises(Overloaded):
        window.enter(5)
    window.leave()
    with pytest.raises(Overloaded):
        window.enter(0)  # the free place is promised
    window.leave()
    gevent.joinall([first, second], timeout=PATIENCE_S)
    assert order == ["first", "second"]
    assert (window.active, window.waiting, window.refused) == (2, 0, 2)


def test_waiting_has_a_deadline_and_a_kill_gives_the_place_in_the_queue_back() -> None:
    window = Window("tts", 1)
    assert window.enter(0) == 0.0
    with pytest.raises(Overloaded):
        window.enter(0.01)
    waiter = gevent.spawn(window.enter, 60)
    gevent.sleep(0)
    waiter.kill()
    assert window.waiting == 0
    window.leave()
    window.enter(0)


def test_no_queue_and_no_limit() -> None:
    window = Window("asr", 1, queue_size=0)
    window.enter(1)
    with pytest.raises(Overloaded):
        window.enter(1)
    unlimited = Window("asr", 0)
    for _ in range(100):
        unlimited.enter(0)
    assert unlimited.active == 100


def test_one_per_key() -> None:
    locks = OnePerKey("llm of a device")
    order: list[str] = []
    release = Event()

    def hold(name: str, key: str) -> None:
        with locks.hold(key, 5):
            order.append(name)
            release.wait(PATIENCE_S)

    holders = [
        gevent.spawn(hold, "a1", "a"),
        gevent.spawn(hold, "a2", "a"),
        gevent.spawn(hold, "b", "b"),
        gevent.spawn(hold, "none", ""),
    ]
    gevent.sleep(0)
    assert order == ["a1", "b", "none"]
    with pytest.raises(Overloaded), locks.hold("a", 0.01):
        pytest.fail("held twice")
    release.set()
    gevent.joinall(holders, timeout=PATIENCE_S)
    assert order[-1] == "a2"
    assert len(locks) == 0


# --- breaker -------------------------------------------------------------------------------------------------------


OPTIONS = BreakerOptions(error_rate=0.5, min_volume=4, window=30, open_for=10)


def _call(breaker: Breaker, ok: bool | None) -> None:
    breaker.record(breaker.admit(), ok)


def test_a_breaker_opens_on_the_rate_probes_and_closes(clock: SleepingClock) -> None:
    breaker = Breaker("acme", OPTIONS, clock=clock)
    changes: list[tuple[str, BreakerState]] = []
    breaker.listeners.append(lambda name, state: changes.append((name, state)))
    for ok in (True, True, True, False, False):
        _call(breaker, ok)
    assert breaker.state is BreakerState.CLOSED  # two of five
    _call(breaker, False)
    assert breaker.state is BreakerState.OPEN  # three of six
    with pytest.raises(CircuitOpen):
        breaker.admit()
    clock.now += 10
    probe = breaker.admit()
    with pytest.raises(CircuitOpen, match="probed"):
        breaker.admit()
    breaker.record(probe, False)
    with pytest.raises(CircuitOpen):
        breaker.admit()
    clock.now += 10
    _call(breaker, True)
    assert breaker.state is BreakerState.CLOSED
    _call(breaker, False)
    assert breaker.state is BreakerState.CLOSED  # the past is forgotten
    assert [state for _, state in changes] == [
        BreakerState.OPEN,
        BreakerState.HALF_OPEN,
        BreakerState.OPEN,
        BreakerState.HALF_OPEN,
        BreakerState.CLOSED,
    ]


def test_few_or_old_failures_do_not_open(clock: SleepingClock) -> None:
    breaker = Breaker("acme", OPTIONS, clock=clock)
    for _ in range(3):
        _call(breaker, False)
    assert breaker.state is BreakerState.CLOSED
    clock.now += 31
    for _ in range(3):
        _call(breaker, False)
    assert breaker.state is BreakerState.CLOSED


def test_a_cancelled_probe_lets_the_next_one_try_and_late_results_do_not_count(clock: SleepingClock) -> None:
    breaker = Breaker("acme", OPTIONS, clock=clock)
    late = breaker.admit()
    for _ in range(4):
        _call(breaker, False)
    clock.now += 10
    _call(breaker, None)
    breaker.record(late, True)
    assert breaker.state is BreakerState.HALF_OPEN
    _call(breaker, True)
    assert breaker.state is BreakerState.CLOSED


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0, 20))))
def test_a_breaker_always_comes_back(events: list[tuple[bool | None, float]]) -> None:
    clock = SleepingClock()
    breaker = Breaker("acme", OPTIONS, clock=clock)
    for ok, pause in events:
        clock.now += pause
        try:
            _call(breaker, ok)
        except CircuitOpen:
            pass
    clock.now += OPTIONS.open_for
    _call(breaker, True)
    assert breaker.state is BreakerState.CLOSED
