"""Killed tasks: what they leave behind, what they may not break; ends that nobody catches."""

from __future__ import annotations

import gc
import weakref

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.waiting import PATIENCE_S
from xiaozhi.runtime import tasks as runtime_tasks
from xiaozhi.runtime.tasks import Tasks


class Worker:
    """Holds the greenlet that runs one of its methods, as a playback or a listener does."""

    def __init__(self, tasks: Tasks) -> None:
        self._never = Event()
        self.greenlet = tasks.spawn("work", self._work)

    def _work(self) -> None:
        self._never.wait(60)


def test_a_killed_greenlet_does_not_keep_whoever_holds_it() -> None:
    """The traceback of the kill would: greenlet, its value, the traceback, a frame, the worker, the greenlet."""
    tasks = Tasks()
    worker = Worker(tasks)
    gevent.sleep(0)
    gone = weakref.ref(worker)
    gc.disable()
    try:
        assert tasks.kill()
        assert isinstance(worker.greenlet.value, gevent.GreenletExit)
        del worker
        gevent.sleep(0)
        assert gone() is None
    finally:
        gc.enable()


def stubborn(may_end: Event) -> None:
    """Does not let itself be killed before it may end."""
    while not may_end.is_set():
        try:
            may_end.wait(60)
        except gevent.GreenletExit:
            continue


def test_a_task_that_does_not_end_is_told_and_raises_nothing() -> None:
    """`gevent.killall` would raise a Timeout, which is no Exception."""
    tasks, may_end = Tasks(), Event()
    greenlet = tasks.spawn("stubborn", stubborn, may_end)
    tasks.spawn("meek", Event().wait, 60)
    gevent.sleep(0)
    try:
        assert tasks.kill(timeout=0.01) is False
        assert tasks.kill(timeout=0) is False
        assert runtime_tasks.end(greenlet, 0.01) is False
        assert len(tasks) == 1
    finally:
        may_end.set()
    assert tasks.join(PATIENCE_S) and tasks.kill(timeout=0.01) is True
    assert runtime_tasks.end(greenlet, 0.01) is True


@pytest.mark.parametrize("error", [SystemExit(3), gevent.Timeout(1), RuntimeError("a bug")])
def test_no_task_ends_the_process(error: BaseException) -> None:
    """gevent raises a SystemExit of any greenlet again in the main one."""

    def leave() -> None:
        raise error

    failed = runtime_tasks.census.failed
    with capture_logs() as lines:
        greenlet = runtime_tasks.spawn("library", leave)
        greenlet.join(PATIENCE_S)
        gevent.sleep(0)
    assert greenlet.dead and runtime_tasks.census.failed == failed + 1
    assert [line["event"] for line in lines] == ["task failed"]
