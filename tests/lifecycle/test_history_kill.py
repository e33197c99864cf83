"""A server that is killed in the middle of conversations loses no turn that its journal has acknowledged; a disk that
fails costs history and no conversation."""

from __future__ import annotations

import http.client
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.databases import write_lock
from tests.e2e.stage import SHORT, ask
from tests.lifecycle.child import Child, running
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def vendor(sounds: Sounds) -> Iterator[OpenAiVendor]:
    with OpenAiVendor(sounds=sounds, reply="Fine.", keep_alive=False) as made:
        assert isinstance(made, OpenAiVendor)
        made.stand(TTS, SHORT)
        made.stand(CHAT, Script(answer="Fine."))
        yield made


def measured(child: Child, name: str, **labels: str) -> float:
    """One sample of a scrape."""
    connection = http.client.HTTPConnection("127.0.0.1", child.http_port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def said(directory: Path) -> list[str]:
    """What stands in the store, in order."""
    database = sqlite3.connect(directory / "data/xiaozhi.sqlite")
    try:
        return [text for (text,) in database.execute("SELECT said FROM history_turn ORDER BY at")]
    finally:
        database.close()


def test_what_was_acknowledged_before_a_kill_is_there_once_after_it(tmp_path: Path, vendor: OpenAiVendor) -> None:
    """The store is locked while they talk, so that everything is in the journal only; then it is killed while the store
    takes it."""
    with running(tmp_path, vendor) as child:
        devices = [child.device() for _ in range(3)]
        with write_lock(tmp_path / "data/xiaozhi.sqlite", 0):
            for number in range(4):
                for index, device in enumerate(devices):
                    ask(device, f"question {index}.{number}")
            wait_for(lambda: measured(child, "xiaozhi_history_kept_total") >= 12, "acknowledgement")
            devices[0].detect("never answered")
            child.send(signal.SIGKILL)
            assert child.exit_code() == -signal.SIGKILL

        child.spawn()
        child.wait_ready(starts=2)
        wait_for(lambda: len(said(tmp_path)) >= 12, "the turns in the store")
        wait_for(lambda: measured(child, "xiaozhi_history_waiting", where="store") == 0, "the journal to be empty")
        known = said(tmp_path)
        assert sorted(known)[:12] == [f"question {index}.{number}" for index in range(3) for number in range(4)]
        assert len(known) == len(set(known))
        child.send(signal.SIGTERM)
        assert child.exit_code() == 0
        assert len(said(tmp_path)) == len(known)
        assert list((tmp_path / "data/history").iterdir()) == []
        assert "question" not in child.log_text() + child.complaints()


def test_a_kill_during_delivery_stores_nothing_twice(tmp_path: Path, vendor: OpenAiVendor) -> None:
    with running(tmp_path, vendor) as child:
        device = child.device()
        for number in range(5):
            ask(device, f"question {number}")
        wait_for(lambda: len(said(tmp_path)) >= 3, "some turns in the store")
        wait_for(lambda: measured(child, "xiaozhi_history_kept_total") >= 5, "acknowledgement")
        child.send(signal.SIGKILL)
        child.exit_code()

        child.spawn()
        child.wait_ready(starts=2)
        wait_for(lambda: len(said(tmp_path)) == 5, "all turns in the store")
        assert said(tmp_path) == [f"question {number}" for number in range(5)]


def test_a_journal_that_cannot_be_written_costs_history_and_no_conversation(
    tmp_path: Path, vendor: OpenAiVendor
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data/history").write_text("in the way", encoding="utf-8")
    with running(tmp_path, vendor) as child:
        device = child.device()
        for number in range(3):
            assert ask(device, f"question {number}").sentences == ["Fine"]
        wait_for(lambda: measured(child, "xiaozhi_history_failing", where="disk") == 1, "the alert")
        assert measured(child, "xiaozhi_history_waiting", where="disk") == 3

        (tmp_path / "data/history").unlink()
        wait_for(lambda: len(said(tmp_path)) == 3, "what had waited")
        assert measured(child, "xiaozhi_history_failing", where="disk") == 0
