"""When something is said while a tool works, and that nothing of it is left."""

from __future__ import annotations

import gevent
from gevent.event import Event

from tests.waiting import PATIENCE_S
from xiaozhi.errors import VendorUnavailable
from xiaozhi.session.turns.tool_filler import meanwhile


def test_it_is_said_after_its_time_and_only_then() -> None:
    said = Event()

    with meanwhile(0.01, said.set):
        assert said.wait(timeout=PATIENCE_S)

    too_late = Event()
    with meanwhile(0.02, too_late.set):
        pass
    with meanwhile(0, too_late.set):
        pass
    assert not too_late.wait(timeout=0.1)


def test_a_voice_that_fails_is_the_turns_affair() -> None:
    tried = Event()

    def say() -> None:
        tried.set()
        raise VendorUnavailable("voice", "gone")

    with meanwhile(0.001, say):
        assert tried.wait(timeout=PATIENCE_S)


def test_a_kill_in_between_leaves_nothing() -> None:
    def work() -> None:
        with meanwhile(60.0, lambda: None):
            Event().wait()

    worker = gevent.spawn(work)
    gevent.sleep(0)
    worker.kill()
