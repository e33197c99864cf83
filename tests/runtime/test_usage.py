"""What a connection costs, and when it has to wait or to go."""

from __future__ import annotations

import time

import gevent
import pytest

from tests.fakes.clock import FakeClock
from xiaozhi.runtime import usage
from xiaozhi.runtime.batching import Batcher
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import spawn
from xiaozhi.runtime.usage import (
    BURST_BYTES,
    BURST_WORK_S,
    FORGIVE_S,
    LONGEST_PAUSE_S,
    PATIENCE_S,
    TURN_S,
    ConnectionUsage,
    UsageLimits,
)

LIMITS = UsageLimits(text_bytes_per_second=1000.0, work_per_second=0.1)


def made(limits: UsageLimits = LIMITS) -> tuple[ConnectionUsage, FakeClock]:
    clock = FakeClock()
    return ConnectionUsage(limits, clock), clock


@pytest.mark.parametrize("limits", [UsageLimits(0, 0), UsageLimits(1e9, 1e9)])
def test_within_the_limits_nobody_waits(limits: UsageLimits) -> None:
    used, clock = made(limits)
    for _ in range(1000):
        used.spend(0.1, 100_000)
        clock.advance(0.01)

    assert not used.overdrawn
    assert used.text_bytes == 100_000_000
    assert used.hub_s == pytest.approx(100)


def test_a_burst_is_free_and_what_is_beyond_it_is_waited_for() -> None:
    used, clock = made()
    used.spend(BURST_WORK_S, BURST_BYTES)
    assert not used.overdrawn

    used.spend(0.05, 1)

    assert used.overdrawn
    assert used.pause() == pytest.approx(0.5)
    clock.advance(0.5)
    assert used.pause() == pytest.approx(0.0)
    assert not used.overdrawn
    assert used.waited_s == pytest.approx(0.5)


def test_text_is_paid_for_by_its_bytes() -> None:
    used, _ = made()
    used.spend(0.0, BURST_BYTES + 600)

    assert used.pause() == pytest.approx(0.6)


def served(used: ConnectionUsage, clock: FakeClock, seconds: float, work_s: float, size: int) -> float:
    """A reader that handles messages of so much work as fast as it may; how long it lasts at most `seconds`."""
    began = clock()
    while clock() - began < seconds and not used.goes_on:
        clock.advance(max(work_s, 0.001))
        used.spend(work_s, size)
        while used.overdrawn and not used.goes_on:
            clock.advance(used.pause())
    return clock() - began


def test_who_goes_on_for_long_has_to_go_and_no_wait_is_long() -> None:
    used, clock = made()

    lasted = served(used, clock, 1000.0, 0.05, 0)

    assert used.goes_on
    assert PATIENCE_S < lasted < 4 * PATIENCE_S
    assert used.hub_s <= BURST_WORK_S + lasted * LIMITS.work_per_second + 0.05
    used.spend(100.0)
    assert used.pause() == LONGEST_PAUSE_S


def test_who_calms_down_is_forgiven() -> None:
    used, clock = made()
    for _ in range(10):
        served(used, clock, PATIENCE_S / 2, 0.05, 0)
        assert not used.goes_on
        clock.advance(FORGIVE_S + 3 * BURST_WORK_S / LIMITS.work_per_second)


def test_to_be_slowed_down_is_a_wait_of_its_own() -> None:
    used, clock = made(UsageLimits(0, 0))

    used.owe(1.5)

    assert used.overdrawn
    assert used.pause() == LONGEST_PAUSE_S
    clock.advance(LONGEST_PAUSE_S)
    assert used.pause() == pytest.approx(0.5)
    clock.advance(0.5)
    assert used.pause() == 0


def test_work_is_charged_to_whom_it_is_for() -> None:
    mine, theirs = ConnectionUsage(), ConnectionUsage()

    def visit(used: ConnectionUsage, text: str) -> None:
        usage.enter(used)
        usage.turn_begins()
        spawn("worker", work, text).join()

    def work(text: str) -> None:
        with usage.charged(text):
            until = time.thread_time() + 0.005
            while time.thread_time() < until:
                pass

    gevent.joinall([spawn("visit", visit, mine, "abc"), spawn("visit", visit, theirs, "说")], raise_error=True)

    assert usage.current() is None
    assert (mine.text_bytes, theirs.text_bytes) == (3, 3)
    assert (mine.turns, theirs.turns) == (1, 1)
    assert mine.hub_s >= TURN_S + 0.005 and theirs.hub_s >= TURN_S + 0.005
    with usage.charged("nobody's"):
        pass


def worked(items: list[float]) -> list[float]:
    """Keep a thread for 20 ms per item."""
    for _ in items:
        time.sleep(0.02)  # sleep: stands for a model
    return items


def test_pool_work_is_charged_too_and_a_batch_by_shares() -> None:
    pool = InferencePool(2)
    batcher: Batcher[float, float] = Batcher(worked, pool, kind="vad")
    mine, theirs = ConnectionUsage(), ConnectionUsage()

    def visit(used: ConnectionUsage) -> None:
        usage.enter(used)
        batcher.run(1.0)
        pool.run(time.sleep, 0.02, kind="asr", deadline=5.0)

    try:
        gevent.joinall([spawn("visit", visit, mine), spawn("visit", visit, theirs)], raise_error=True)
    finally:
        batcher.close()
        pool.close()

    for used in (mine, theirs):
        assert used.pool_s >= 0.02, "voice detection"
        assert used.model_s >= 0.02, "a local model"
        assert used.cpu_s == used.hub_s + used.pool_s
