"""Those who watch in this room see what they are there for."""

from __future__ import annotations

import gevent
import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from tests.e2e.stage import Stage
from tests.robustness.conftest import Talking, leftovers
from tests.robustness.logbook import SAID, SECRET, reading
from tests.robustness.witness import Mirror, Witness
from tests.waiting import wait_for
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import spawn
from xiaozhi.session.session import Session


def test_a_witness_complains_of_a_wrong_answer(stage: Stage, witness: Talking) -> None:
    with pytest.raises(AssertionError, match="not 'plugh"), witness():
        stage.vendor.script(CHAT, Script(answer="What another one was told."))


def test_a_witness_complains_of_messages_nobody_asked_for(witness: Talking) -> None:
    with pytest.raises(AssertionError, match="nobody asked for"), witness() as talker:
        talker.device.tell("ping")


def test_a_witness_complains_of_an_answer_that_does_not_end(stage: Stage, mirror: Mirror, words: Speech) -> None:
    mirror.when(CHAT, "number", Script(stall="before"))
    witness = Witness(stage.device(), words, patience=0.2)
    wait_for(lambda: witness.complaints, "a complaint")
    witness.kill()

    with pytest.raises(AssertionError, match="did not come"):
        witness.check()


def test_the_log_is_read() -> None:
    log = get_logger("test")
    for tell in (
        lambda: log.warning("event", name=f"I am {SAID}"),
        lambda: log.warning("event", path=f"/x?{SECRET}"),
        lambda: log.error("event", exc_info=ValueError("trace")),
        lambda: spawn("task", lambda: 1 / 0).join(),
        lambda: gevent.spawn(lambda: 1 / 0).join(),
    ):
        with reading() as book:
            tell()
        with pytest.raises(AssertionError):
            book.check()
    with reading() as book:
        log.info("event", text=f"I am {SAID}", secret=SECRET)
    book.check()
    assert book.lines["event"] == 1


def test_what_lives_on_is_found() -> None:
    kept = object.__new__(Session)

    assert leftovers() == {"Session": 1}
    del kept
