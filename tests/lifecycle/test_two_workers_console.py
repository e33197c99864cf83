"""Two servers as processes of their own under one management console: an order of the console reaches both, whichever
it was given to, and a device that comes to the other one goes on, with its own settings and its dialogue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from tests.databases import opened
from tests.e2e.stage import ask
from tests.lifecycle.child import Child, running
from tests.vendors.console import MODELS, REPORT, SECRET, TITLE, BoundDevice, StrictConsole
from tests.waiting import wait_for
from xiaozhi.storage import presences
from xiaozhi.storage.database import sqlite_url

pytestmark = pytest.mark.slow

ANN = "02:00:00:00:0C:01"


@pytest.fixture
def console() -> Iterator[StrictConsole]:
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        console.bound[ANN] = BoundDevice({"prompt": "You are Ann.", "summaryMemory": None})
        yield console
        assert console.faults == []


@pytest.fixture
def workers(tmp_path: Path, vendor: OpenAiVendor, console: StrictConsole) -> Iterator[tuple[Child, Child]]:
    """Two of them, ready."""
    settings = {
        "manager-api": {"url": console.api_url, "secret": SECRET, "retry_delay": 0},
        "server": {"secret": "", "drain_seconds": 2},
        "storage": {"url": sqlite_url(tmp_path / "shared.sqlite")},
    }
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            made.append(stack.enter_context(running(tmp_path / name, vendor, settings)))
        yield made[0], made[1]


def press(worker: Child, action: str) -> tuple[dict[str, Any], float]:
    """Press a button of the console's page: what ends its wait, and after how many seconds."""
    began = time.monotonic()
    device = SimulatedDevice(worker.url, device_id="5f0c9a3e-6d0b-4f57-8a70-2f6d9f1f0c11").connect()
    try:
        device.send_json({"type": "server", "action": action, "content": {"secret": SECRET}})
        answer = device.next_json("server").data
        while answer["status"] != "success":
            answer = device.next_json("server").data
        return answer, time.monotonic() - began
    finally:
        device.close()


def come(worker: Child) -> SimulatedDevice:
    """The device, connected to this worker."""
    device = SimulatedDevice(worker.url, device_id=ANN, client_id="ann").connect()
    device.hello()
    return device


def asked(vendor: OpenAiVendor) -> list[dict[str, Any]]:
    """The messages of the last question to the model."""
    bodies = [request.json() for request in vendor.requests if vendor.kind(request) == CHAT]
    return list(bodies[-1]["messages"])


def words_of_the_user(vendor: OpenAiVendor) -> list[str]:
    return [message["content"] for message in asked(vendor) if message["role"] == "user"]


def test_an_order_to_one_reaches_both(
    workers: tuple[Child, Child], vendor: OpenAiVendor, console: StrictConsole
) -> None:
    one, two = workers
    console.base["exit_commands"] = ["sink"]

    answer, _ = press(one, "update_config")

    assert (answer["status"], answer["content"]) == ("success", {"action": "update_config"})
    for worker in workers:
        wait_for(lambda worker=worker: len(worker.log("configuration reloaded")) == 1, "the reload")
        device = come(worker)
        device.detect("sink")
        assert device.wait_closed()[0] == 1000, "the new word for the end"

    before = [worker.process.pid for worker in workers if worker.process is not None]
    answer, _ = press(two, "restart")

    assert answer["content"] == {"action": "restart"}
    for worker in workers:
        worker.wait_ready(starts=2)
    assert [worker.process.pid for worker in workers if worker.process is not None] == before
    for worker in workers:
        device = come(worker)
        ask(device, "who are you")
        assert "You are Ann." in asked(vendor)[0]["content"]
        device.close()
        assert worker.starts == 2, "once"
        assert "Traceback" not in worker.complaints()


def test_the_page_never_hangs_while_the_console_stalls(
    workers: tuple[Child, Child], vendor: OpenAiVendor, console: StrictConsole
) -> None:
    """It waits for two minutes; an order that cannot be obeyed ends that much sooner, and both go on as they were."""
    console.stand("server-base", Script(status=503))

    for worker in workers:
        answer, seconds = press(worker, "update_config")
        assert answer["status"] == "success"
        assert seconds < 60

    device = come(workers[0])
    assert ask(device, "hello").sentences == ["Fine"]
    device.close()


def dialogue_is_kept(directory: Path) -> bool:
    """Whether what was said with the device stands in the database that both share."""
    with opened(sqlite_url(directory / "shared.sqlite")) as database:
        return bool(database.read(lambda connection: presences.dialogues_of(connection, [ANN.lower()], 0.0)))


def test_a_device_goes_on_at_the_other_worker_and_each_turn_is_told_once(
    tmp_path: Path, workers: tuple[Child, Child], vendor: OpenAiVendor, console: StrictConsole
) -> None:
    one, two = workers
    before = come(one)
    ask(before, "the first question")
    wait_for(lambda: len(console.reports) == 2, "the first turn to be told")
    wait_for(lambda: dialogue_is_kept(tmp_path), "the dialogue to be written")

    after = come(two)
    ask(after, "the second question")

    assert before.wait_closed() == (1000, "replaced")
    ask(after, "the third question")
    assert words_of_the_user(vendor) == ["the first question", "the second question", "the third question"]
    assert "You are Ann." in asked(vendor)[0]["content"]
    after.close()
    wait_for(lambda: console.counts.get(TITLE, 0) >= 2, "the ends of both sessions")

    told = [(report["chatType"], report["content"]) for report in console.reports]
    expected = [(1, f"the {which} question") for which in ("first", "second", "third")]
    assert [each for each in told if each[0] == 1] == expected
    assert [each for each in told if each[0] == 2] == [(2, "Fine.")] * 3
    assert console.counts[REPORT] == len(told), "nothing was told twice"
    assert console.counts[MODELS] == 2
    assert len({report["sessionId"] for report in console.reports}) == 2
