"""The fixed pool: admission, deadlines, shares, permits that follow the thread, contextvars, closing, and a constant
number of threads.

Pool functions here block on native locks (`_thread.allocate_lock` from before the patch): the test decides when a
thread ends."""

from __future__ import annotations

import contextvars
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import monkey
from gevent.event import Event

from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import Overloaded, VendorTimeout
from xiaozhi.runtime.inference import InferenceClosed, InferencePool, PerWorker

_native_lock = monkey.get_original("_thread", "allocate_lock")
_native_ident = monkey.get_original("_thread", "get_ident")

LONG = PATIENCE_S
"""A deadline that is only reached when the test fails."""


class Gate:
    """A pool function that reports that it runs and ends when told. `entered` counts."""

    def __init__(self) -> None:
        self._lock = _native_lock()
        self._lock.acquire()
        self.entered = 0

    def __call__(self) -> str:
        self.entered += 1
        self._lock.acquire()
        self._lock.release()
        return "through"

    def open(self) -> None:
        self._lock.release()


@pytest.fixture
def pool() -> Iterator[InferencePool]:
    made = InferencePool(workers=2, queue_size=2)
    made.start()
    yield made
    assert made.close(), "a test left a function running"


def test_result_and_exception_come_back(pool: InferencePool) -> None:
    assert pool.run(lambda a, b: a + b, 2, 3, kind="asr", deadline=LONG) == 5
    with pytest.raises(ZeroDivisionError):
        pool.run(lambda: 1 / 0, deadline=LONG)
    assert pool.counts["asr"].done == 1 and pool.counts["other"].done == 1
    assert pool.active == 0 and pool.queued == 0


def test_runs_on_a_native_thread_with_the_callers_context(pool: InferencePool) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("turn 7")
    ident, value = pool.run(lambda: (_native_ident(), variable.get()), deadline=LONG)
    assert value == "turn 7"
    assert ident != _native_ident()


def test_exit_of_a_pool_function_is_an_error_of_the_call_only(pool: InferencePool) -> None:
    with pytest.raises(RuntimeError, match="SystemExit"):
        pool.run(sys.exit, 3, deadline=LONG)
    assert pool.run(lambda: "alive", deadline=LONG) == "alive"


def test_start_makes_all_threads_and_nothing_adds_any() -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads()
    pool = InferencePool(workers=3, name="crunch")
    pool.start()
    wait_for(lambda: threads() == before + 3)
    names = {Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")}
    assert {"crunch-0", "crunch-1", "crunch-2"} <= names
    greenlets = [
        gevent.spawn(pool.run, sum, range(1000), kind=kind, deadline=LONG)
        for kind in ("vad", "asr", "tts", "other") * 25
    ]
    gevent.joinall(greenlets, raise_error=True)
    assert threads() == before + 3
    assert pool.close()
    wait_for(lambda: threads() == before)


def test_it_is_known_how_long_ago_work_of_a_class_came(pool: InferencePool) -> None:
    assert pool.seconds_since("vad") == math.inf
    pool.run(int, kind="vad", deadline=PATIENCE_S)
    since = pool.seconds_since("vad")
    assert 0 <= since <= pool.seconds_since("vad") < math.inf
    assert pool.seconds_since("tts") == math.inf


def test_full_queue_refuses(pool: InferencePool) -> None:
    gate = Gate()
    busy = [gevent.spawn(pool.run, gate, kind="vad", deadline=LONG) for _ in range(4)]  # two run, two wait
    wait_for(lambda: gate.entered == 2 and pool.queued == 2)
    with pytest.raises(Overloaded):
        pool.run(lambda: 1, kind="vad", deadline=LONG)
    assert pool.counts["vad"].refused == 1
    gate.open()
    assert [greenlet.get(timeout=PATIENCE_S) for greenlet in busy] == ["through"] * 4


def test_deadline_frees_the_caller_and_the_permit_returns_with_the_thread(pool: InferencePool) -> None:
    gate = Gate()
    with pytest.raises(VendorTimeout):
        pool.run(gate, kind="vad", deadline=0.02)
    assert pool.active == 1, "the thread still runs, so its permit is still out"
    assert pool.counts["vad"].late == 1
    gate.open()
    wait_for(lambda: pool.active == 0)


def test_late_job_that_waits_never_runs_and_leaves_its_place(pool: InferencePool) -> None:
    gate, ran = Gate(), list[int]()
    busy = [gevent.spawn(pool.run, gate, kind="vad", deadline=LONG) for _ in range(2)]
    wait_for(lambda: gate.entered == 2)
    for _ in range(5):  # more than the queue holds: each gives its place back
        with pytest.raises(VendorTimeout):
            pool.run(ran.append, 1, kind="vad", deadline=0.005)
    assert pool.queued == 0 and pool.counts["vad"].queued == 0
    gate.open()
    gevent.joinall(busy, raise_error=True)
    assert pool.run(lambda: "next", kind="vad", deadline=LONG) == "next"
    assert ran == []


def test_killed_caller_withdraws_its_waiting_job(pool: InferencePool) -> None:
    gate, ran = Gate(), list[int]()
    busy = [gevent.spawn(pool.run, gate, kind="vad", deadline=LONG) for _ in range(2)]
    waiting = gevent.spawn(pool.run, ran.append, 1, kind="vad", deadline=LONG)
    wait_for(lambda: pool.queued == 1)
    waiting.kill()
    assert pool.queued == 0
    gate.open()
    gevent.joinall(busy, raise_error=True)
    assert ran == []


def test_a_timeout_of_the_caller_stays_the_callers(pool: InferencePool) -> None:
    gate = Gate()
    mine = gevent.Timeout(0.01)
    with pytest.raises(gevent.Timeout) as caught, mine:
        pool.run(gate, kind="vad", deadline=LONG)
    assert caught.value is mine
    gate.open()


def test_slow_classes_together_leave_a_thread_to_the_quick_ones(pool: InferencePool) -> None:
    gate = Gate()
    slow = [gevent.spawn(pool.run, gate, kind=kind, deadline=LONG) for kind in ("asr", "tts")]
    wait_for(lambda: gate.entered == 1 and pool.queued == 1)
    assert pool.run(lambda: "heard", kind="vad", deadline=LONG) == "heard"
    assert pool.run(lambda: "encoded", kind="codec", deadline=LONG) == "encoded"
    assert gate.entered == 1
    gate.open()
    assert [greenlet.get(timeout=PATIENCE_S) for greenlet in slow] == ["through", "through"]


def test_share_of_a_class_and_a_pool_of_one() -> None:
    pool = InferencePool(workers=3, shares={"codec": 1}, reserved=0)
    gate = Gate()
    two = [gevent.spawn(pool.run, gate, kind="codec", deadline=LONG) for _ in range(2)]
    wait_for(lambda: gate.entered == 1)
    assert pool.active == 1 and pool.queued == 1
    gate.open()
    gevent.joinall(two, raise_error=True)
    assert pool.close()
    single = InferencePool(workers=1)
    assert single.run(lambda: "slow work is possible", kind="asr", deadline=LONG)
    assert single.close()


def test_classes_take_turns(pool: InferencePool) -> None:
    # One thread is held, so that the other serves the queue in order.
    pool.queue_size = 10
    gate, blocker, order = Gate(), Gate(), list[str]()
    holders = [gevent.spawn(pool.run, g, kind="vad", deadline=LONG) for g in (gate, blocker)]
    wait_for(lambda: gate.entered + blocker.entered == 2)
    queued = [gevent.spawn(pool.run, order.append, f"codec {n}", kind="codec", deadline=LONG) for n in range(3)]
    gevent.sleep(0)
    queued += [gevent.spawn(pool.run, order.append, f"vad {n}", kind="vad", deadline=LONG) for n in range(3)]
    wait_for(lambda: pool.queued == 6)
    blocker.open()
    gevent.joinall(queued, raise_error=True)
    kinds = [name.split()[0] for name in order]
    assert kinds in (["codec", "vad"] * 3, ["vad", "codec"] * 3)
    assert [name for name in order if name.startswith("vad")] == ["vad 0", "vad 1", "vad 2"]
    gate.open()
    gevent.joinall(holders, raise_error=True)


def test_submit_delivers_once_in_the_hub(pool: InferencePool) -> None:
    seen: list[tuple[object, object, bool]] = []
    done = Event()

    def deliver(value: object, error: Exception | None) -> None:
        seen.append((value, error, gevent.getcurrent() is gevent.get_hub()))
        done.set()

    pool.submit(lambda: 42, kind="vad", deliver=deliver)
    assert done.wait(timeout=PATIENCE_S)
    assert seen == [(42, None, True)]


def test_close_fails_what_waits_and_tells_whether_threads_are_left() -> None:
    pool = InferencePool(workers=1, queue_size=4)
    gate = Gate()
    running = gevent.spawn(pool.run, gate, kind="vad", deadline=LONG)
    wait_for(lambda: gate.entered == 1)
    waiting = gevent.spawn(pool.run, lambda: 1, kind="vad", deadline=LONG)
    wait_for(lambda: pool.queued == 1)
    assert pool.close(timeout=0.02) is False
    with pytest.raises(InferenceClosed):
        waiting.get(timeout=PATIENCE_S)
    with pytest.raises(InferenceClosed):
        pool.run(lambda: 1, deadline=LONG)
    gate.open()
    assert running.get(timeout=PATIENCE_S) == "through"
    assert pool.close() and pool.close()


def test_per_worker_objects_are_made_once_per_thread(pool: InferencePool) -> None:
    made: list[int] = []

    def make() -> int:
        made.append(_native_ident())
        return len(made)

    each = PerWorker(make)
    gate = Gate()
    both = [gevent.spawn(pool.run, lambda: (each.get(), gate()), kind="vad", deadline=LONG) for _ in range(2)]
    wait_for(lambda: gate.entered == 2)
    gate.open()
    gevent.joinall(both, raise_error=True)
    for _ in range(10):
        pool.run(each.get, kind="vad", deadline=LONG)
    assert len(made) == 2 and len(set(made)) == 2
