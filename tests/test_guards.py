"""The guards of tests/conftest.py must be able to fail a test, and must leave honest ones alone."""

from __future__ import annotations

import socket
import threading
import time

import gevent
import pytest
from gevent import monkey
from gevent.event import Event
from gevent.threadpool import ThreadPool

from tests.guards import HubWatch, Snapshot

native_sleep = monkey.get_original("time", "sleep")


def burn(seconds: float) -> None:
    """Keep the processor, and therefore the hub, for `seconds` of this thread's own time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(500))


@pytest.fixture
def watch():
    watch = HubWatch()
    watch.start()
    gevent.sleep(0.2)  # what the monitor has yet to say about the test before belongs to that one
    watch.reset()
    yield watch
    watch.stop()


@pytest.mark.blocks_hub("that is what is tested")
@pytest.mark.parametrize("block", [burn, native_sleep])
def test_names_a_greenlet_that_blocks_the_hub(watch, block):
    blocks = []
    for _ in range(20):  # a machine that starves the monitor makes it miss some
        greenlet = gevent.Greenlet(block, 0.4)
        greenlet.name = "culprit"
        greenlet.start()
        greenlet.join()
        blocks = watch.reset()
        if blocks:
            break

    assert {one.greenlet for one in blocks} == {"culprit"}
    assert blocks[0].seconds >= 0.1
    assert block is native_sleep or "in burn" in blocks[0].stack


def test_the_test_itself_may_compute(watch):
    burn(0.4)

    assert watch.reset() == []


def test_waiting_is_not_blocking(watch):
    gevent.spawn(time.sleep, 0.3).join()
    pool = ThreadPool(1)
    pool.apply(native_sleep, (0.3,))
    pool.kill()

    assert watch.reset() == []


def test_many_short_pieces_are_not_one_block(watch):
    def work():
        for _ in range(30):
            burn(0.01)
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(work), gevent.spawn(work)])

    assert watch.reset() == []


def test_sees_a_greenlet_left_behind():
    before = Snapshot.take()
    never = Event()
    greenlet = gevent.spawn(never.wait)

    left = before.wait_until_restored(seconds=0.05)
    greenlet.kill()

    assert len(left) == 1 and left[0].startswith("greenlet")
    assert before.wait_until_restored(seconds=1.0) == []


def test_sees_a_socket_left_behind():
    before = Snapshot.take()
    left_open = socket.socket()

    left = before.wait_until_restored(seconds=0.05)
    left_open.close()

    assert len(left) == 1 and "socket" in left[0]
    assert before.wait_until_restored(seconds=1.0) == []


def test_sees_a_thread_left_behind():
    before = Snapshot.take()
    pool = ThreadPool(1)
    pool.spawn(lambda: None).get()

    left = before.wait_until_restored(seconds=0.05)
    pool.kill()

    assert left == ["1 more native thread(s)"]
    assert before.wait_until_restored(seconds=2.0) == []


def test_what_ends_by_itself_is_no_leak():
    before = Snapshot.take()
    threading.Thread(target=time.sleep, args=(0.05,)).start()

    assert before.wait_until_restored(seconds=2.0) == []
