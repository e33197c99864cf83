"""Killed tasks: what they leave behind."""

from __future__ import annotations

import gc
import weakref

import gevent
from gevent.event import Event

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
