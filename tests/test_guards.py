"""The guards of tests/conftest.py must be able to fail a test, and must leave honest ones alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent import monkey
from gevent.event import Event
from gevent.threadpool import ThreadPool

from tests.guards import Block, Hold, HubWatch, Sample, Snapshot
from tests.waiting import wait_for

native_sleep = monkey.get_original("time", "sleep")
NativeSocket = monkey.get_original("socket", "socket")
allocate_native_lock = monkey.get_original("_thread", "allocate_lock")

HOLD_S = 0.4
"""How long the culprits of these tests keep the hub."""


def burn(seconds: float = HOLD_S) -> None:
    """Keep the processor, and therefore the hub, for `seconds` of this thread's own time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(500))


def sleep_natively() -> None:
    native_sleep(HOLD_S)  # sleep: it blocks the hub


def wait_for_a_native_lock() -> None:
    lock = allocate_native_lock()
    lock.acquire()
    lock.acquire(timeout=HOLD_S)


def read_from_a_native_socket() -> None:
    with NativeSocket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(HOLD_S)
        with contextlib.suppress(TimeoutError):
            silent.recv(1)


def wait_for_sqlite(path: Path) -> None:
    owner = sqlite3.connect(path, isolation_level=None)
    other = sqlite3.connect(path, isolation_level=None, timeout=HOLD_S)
    owner.execute("BEGIN IMMEDIATE")
    with contextlib.suppress(sqlite3.OperationalError):
        other.execute("BEGIN IMMEDIATE")
    owner.close()
    other.close()


@pytest.fixture
def watch() -> Iterator[HubWatch]:
    watch = HubWatch()
    watch.start()
    watch.reset()
    yield watch
    watch.stop()


@pytest.fixture
def busy_core() -> Iterator[None]:
    """This thread, and those it starts, share one core with three processes that never rest."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})
    busy = [subprocess.Popen([sys.executable, "-Sc", "while True: pass"]) for _ in range(3)]
    yield
    for process in busy:
        process.kill()
        process.wait()
    os.sched_setaffinity(0, usual)


def seen_by(watch: HubWatch, work: Callable[[], None]) -> list[Block]:
    """What the watch says when a greenlet does this."""
    greenlet = gevent.Greenlet(work)
    greenlet.name = "culprit"
    greenlet.start()
    greenlet.join()
    return watch.reset()


def wall_time_of(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


@pytest.mark.blocks_hub("that is what is tested")
class TestSees:
    @pytest.mark.parametrize(
        ("block", "place"),
        [
            (burn, "in burn"),
            (sleep_natively, "in sleep_natively"),
            (wait_for_a_native_lock, "in wait_for_a_native_lock"),
            (read_from_a_native_socket, "in read_from_a_native_socket"),
        ],
    )
    def test_a_greenlet_that_blocks_the_hub(self, watch: HubWatch, block: Callable[[], None], place: str) -> None:
        (seen,) = seen_by(watch, block)

        assert seen.greenlet == "culprit"
        assert seen.seconds >= 0.1
        assert place in seen.stack

    def test_a_wait_for_sqlite(self, watch: HubWatch, tmp_path: Path) -> None:
        (seen,) = seen_by(watch, lambda: wait_for_sqlite(tmp_path / "locked.db"))

        assert "in wait_for_sqlite" in seen.stack

    @pytest.mark.usefixtures("busy_core")
    @pytest.mark.parametrize("block", [burn, sleep_natively])
    def test_it_on_a_busy_machine_too(self, watch: HubWatch, block: Callable[[], None]) -> None:
        assert {seen.greenlet for seen in seen_by(watch, block)} == {"culprit"}

    def test_a_blocking_call_beside_a_busy_pool(self, watch: HubWatch) -> None:
        with busy_pool(hash_without_the_interpreter_lock):
            assert {seen.greenlet for seen in seen_by(watch, sleep_natively)} == {"culprit"}


class TestDoesNotSee:
    def test_the_test_itself_compute(self, watch: HubWatch) -> None:
        burn()

        assert watch.reset() == []

    def test_waiting(self, watch: HubWatch) -> None:
        gevent.spawn(time.sleep, 0.3).join()  # sleep: it is what is watched
        pool = ThreadPool(1)
        pool.apply(native_sleep, (0.3,))
        pool.kill()

        assert watch.reset() == []

    def test_many_short_pieces(self, watch: HubWatch) -> None:
        def work() -> None:
            for _ in range(30):
                burn(0.01)
                gevent.sleep(0)

        gevent.joinall([gevent.spawn(work), gevent.spawn(work)])

        assert watch.reset() == []

    @pytest.mark.usefixtures("busy_core")
    def test_a_machine_that_runs_something_else(self, watch: HubWatch) -> None:
        waits = []

        def work() -> None:
            for _ in range(5):
                waits.append(wall_time_of(lambda: burn(0.06)))
                gevent.sleep(0)

        assert seen_by(watch, work) == []
        assert max(waits) > 0.1, "the machine was not busy"

    def test_a_pool_thread_that_computes_without_the_interpreter_lock(self, watch: HubWatch) -> None:
        with busy_pool(hash_without_the_interpreter_lock):
            assert seen_by(watch, lambda: burn(0.06)) == []

    def test_pool_threads_that_have_the_interpreter_lock(self, watch: HubWatch) -> None:
        waits = []

        def work() -> None:
            for _ in range(5):
                waits.append(wall_time_of(lambda: burn(0.06)))
                gevent.sleep(0)

        with busy_pool(lambda: sum(range(10_000)), threads=3):
            assert seen_by(watch, work) == []
        assert max(waits) > 0.1, "the interpreter lock was free"


def hash_without_the_interpreter_lock() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 50_000)


@contextlib.contextmanager
def busy_pool(work: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Threads that do this over and over."""
    running = True

    def loop() -> None:
        while running:
            work()

    pool = ThreadPool(threads)
    tasks = [pool.spawn(loop) for _ in range(threads)]
    try:
        yield
    finally:
        running = False
        gevent.joinall(tasks)
        pool.kill()


class TestHold:
    """The rule itself, with looks that are made up."""

    FIRST = Sample(begun=10.0, ended=10.0, cpu=1.0, queued=1.0, others=1.0, asleep=False, parked=False)

    def at(self, seconds: float, **changes: float | bool) -> Sample:
        values = {"begun": 10 + seconds, "ended": 10 + seconds, "cpu": 1.0, "queued": 1.0, "others": 1.0}
        return Sample(**{**values, "asleep": False, "parked": False, **changes})  # type: ignore[arg-type]

    def test_processor_time_counts(self) -> None:
        assert Hold(self.FIRST).seconds(self.at(0.5, cpu=1.2)) == pytest.approx(0.2)

    def test_time_in_the_run_queue_does_not(self) -> None:
        hold = Hold(self.FIRST)
        assert hold.seconds(self.at(0.3)) == 0, "it may be waiting for a processor right now"
        assert hold.seconds(self.at(0.5, cpu=1.1, queued=1.4, asleep=True)) == pytest.approx(0.1)

    def test_sleep_counts(self) -> None:
        assert Hold(self.FIRST).seconds(self.at(0.5, asleep=True)) == pytest.approx(0.5)

    def test_sleep_may_be_a_wait_for_a_thread_that_has_the_interpreter_lock(self) -> None:
        assert Hold(self.FIRST).seconds(self.at(0.5, asleep=True, others=1.4)) == pytest.approx(0.1)

    def test_unless_it_is_a_call_of_another_kind(self) -> None:
        hold = Hold(self.at(0, asleep=True, parked=True))
        assert hold.seconds(self.at(0.2, asleep=True, parked=True, others=2.0)) == pytest.approx(0.2)
        assert hold.seconds(self.at(0.3, asleep=True, others=2.0)) == pytest.approx(0.3)
        assert hold.seconds(self.at(0.4, asleep=True, others=2.1)) == pytest.approx(0.3)

    def test_what_others_did_is_never_taken_off_twice(self) -> None:
        hold = Hold(self.FIRST)
        assert hold.seconds(self.at(0.1, asleep=True, others=3.0)) == 0
        assert hold.seconds(self.at(0.2, asleep=True, others=3.0)) == pytest.approx(0.1)


def test_a_watch_that_has_failed_says_so() -> None:
    def broken(first: Sample) -> Hold:
        raise ZeroDivisionError

    watch = HubWatch(broken)
    watch.start()
    try:
        with pytest.raises(RuntimeError, match="no longer watched"):
            wait_for(lambda: seen_by(watch, lambda: burn(0.05)))
    finally:
        watch.stop()


class TestLeaks:
    def test_a_greenlet_left_behind(self) -> None:
        before = Snapshot.take()
        never = Event()
        greenlet = gevent.spawn(never.wait)

        left = before.left()
        greenlet.kill()

        assert len(left) == 1
        assert left[0].startswith("greenlet")
        assert before.left() == []

    def test_a_socket_left_behind(self) -> None:
        before = Snapshot.take()
        left_open = socket.socket()

        left = before.left()
        left_open.close()

        assert len(left) == 1
        assert "socket" in left[0]
        assert before.left() == []

    def test_a_thread_left_behind(self) -> None:
        before = Snapshot.take()
        pool = ThreadPool(1)
        pool.spawn(lambda: None).get()

        left = before.left()
        pool.kill()

        assert left == ["1 more native thread(s)"]
        assert before.left_in_the_end() == []

    def test_what_stays_is_left_in_the_end(self) -> None:
        before = Snapshot.take()
        with socket.socket():
            assert len(before.left_in_the_end(within=0.05)) == 1

    def test_what_ends_by_itself_is_no_leak(self) -> None:
        before = Snapshot.take()
        threading.Thread(target=time.sleep, args=(0.05,)).start()  # sleep: it is what ends by itself

        assert before.left_in_the_end() == []
