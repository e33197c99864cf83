"""Two servers as processes of their own that share a database, SQLite or PostgreSQL: a device that comes to the other
one goes on with its dialogue, and an operator on the terminal reaches both."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from tests.databases import opened, postgres_server
from tests.e2e.stage import ask
from tests.lifecycle.child import ROOT, Child, running
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.storage import presences
from xiaozhi.storage.database import sqlite_url

pytestmark = pytest.mark.slow

ANNA = "02:00:00:00:00:0a"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database for both."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "shared.sqlite")
    return postgres_server(request.config).new_url()


@pytest.fixture
def workers(tmp_path: Path, vendor: OpenAiVendor, url: str) -> Iterator[tuple[Child, Child]]:
    """Two of them, ready."""
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            made.append(stack.enter_context(running(tmp_path / name, vendor, {"storage": {"url": url}})))
        yield made[0], made[1]


def come(worker: Child, device_id: str = ANNA) -> SimulatedDevice:
    """The device, connected to this worker."""
    device = SimulatedDevice(worker.url, device_id=device_id).connect()
    device.hello()
    return device


def heard(vendor: OpenAiVendor) -> list[str]:
    """What the user has said, as the language model is told with the last question."""
    asked = [request.json() for request in vendor.requests if vendor.kind(request) == CHAT]
    return [message["content"] for message in asked[-1]["messages"] if message["role"] == "user"]


def command(worker: Child, *words: str) -> subprocess.CompletedProcess[str]:
    """`server.py devices ...`, with the configuration of this worker."""
    return subprocess.run(
        [sys.executable, str(ROOT / "server.py"), "--config", "settings.yaml", "devices", *words],
        cwd=worker.directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_device_goes_on_at_another_worker_and_leaves_the_first(
    workers: tuple[Child, Child], vendor: OpenAiVendor, url: str
) -> None:
    one, two = workers
    before = come(one)
    ask(before, "the first question")
    wait_for(lambda: _kept(url), "the first turn to be written")

    after = come(two)
    ask(after, "the second question")

    assert before.wait_closed() == (1000, "replaced")
    ask(after, "the third question")
    assert heard(vendor) == ["the first question", "the second question", "the third question"]
    assert after.closed is None
    after.close()


def _kept(url: str) -> bool:
    """Whether a dialogue stands in the database."""
    with opened(url) as database:
        found = database.read(lambda connection: presences.dialogues_of(connection, [ANNA], 0.0))
    return bool(found)


def owner_of(worker: Child) -> tuple[requests.Session, str]:
    """A browser on this machine, and where it asks."""
    browser, base = requests.Session(), f"http://127.0.0.1:{worker.http_port}/console/api/"
    csrf = browser.get(f"{base}session", timeout=PATIENCE_S).json()["csrf"]
    browser.headers["X-CSRF-Token"] = csrf
    return browser, base


def test_the_console_shows_the_devices_of_both_and_speaks_with_a_device_of_either(
    workers: tuple[Child, Child],
) -> None:
    one, two = workers
    device = come(two)
    (here, at_one), (there, at_two) = owner_of(one), owner_of(two)

    def online() -> bool:
        listed = here.get(f"{at_one}devices", timeout=PATIENCE_S).json()["devices"]
        return [(each["device"], each["online"]) for each in listed] == [(ANNA, True)]

    wait_for(online, "the device of the other worker to be shown")
    refused = here.get(f"{at_one}devices/{ANNA}/tools", timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["elsewhere"]) == (409, True)
    assert refused.headers["Connection"] == "close", "the next connection may come to the right one"
    spoken = here.post(f"{at_one}devices/{ANNA}/say", json={"text": "dinner is ready"}, timeout=PATIENCE_S)
    assert spoken.status_code == 200
    assert device.collect_answer().sentences == ["dinner is ready"]

    here.put(f"{at_one}devices/{ANNA}/label", json={"label": "Kitchen"}, timeout=PATIENCE_S)
    assert there.get(f"{at_two}devices/{ANNA}", timeout=PATIENCE_S).json()["label"] == "Kitchen"
    wait_for(lambda: "dinner is ready" in here.get(f"{at_one}history", timeout=PATIENCE_S).text, "what was said")
    device.close()


def test_a_worker_that_is_killed_loses_no_dialogue(
    workers: tuple[Child, Child], vendor: OpenAiVendor, url: str
) -> None:
    one, two = workers
    before = come(one)
    ask(before, "the first question")
    wait_for(lambda: _kept(url), "the first turn to be written")
    one.send(signal.SIGKILL)
    assert one.exit_code() == -signal.SIGKILL

    after = come(two)
    ask(after, "the second question")

    assert heard(vendor) == ["the first question", "the second question"]
    after.close()


def test_an_operator_reaches_both(workers: tuple[Child, Child], vendor: OpenAiVendor) -> None:
    one, two = workers
    device = come(two)
    wait_for(lambda: "online" in command(one, "list").stdout, "the device in the list")

    done = command(one, "set", ANNA, "prompt=You are a pirate.")
    assert done.returncode == 0, done.stderr
    ask(device, "who are you")
    assert "pirate" not in str(_last(vendor)), "this visit goes on as it began"
    device.close()
    again = come(two)
    ask(again, "who are you now")
    assert "You are a pirate." in str(_last(vendor))

    assert command(one, "revoke", ANNA).returncode == 0

    assert again.wait_closed() == (1008, "revoked")
    for worker in workers:
        wait_for(lambda worker=worker: _refused(worker), "the refusal")
    assert command(two, "approve", ANNA).returncode == 0
    wait_for(lambda: not _refused(one), "the approval")
    for worker in workers:
        assert "Traceback" not in worker.complaints()


def test_what_a_device_says_of_itself_at_its_start_is_shown(workers: tuple[Child, Child]) -> None:
    """Asked at one worker, shown by the command of the other; first and last seen, also when it asks again."""
    one, two = workers
    body = {
        "chip_model_name": "esp32s3", "minimum_free_heap_size": 8_318_916, "flash_size": 16_777_216,
        "language": "zh-CN",
        "board": {"type": "lichuang-dev", "name": "lichuang-dev", "ssid": "home", "rssi": -55, "ip": "192.168.1.11"},
        "application": {"name": "xiaozhi", "version": "1.9.2"}, "display": {"width": 320, "height": 240},
    }  # fmt: skip
    for version in ("1.9.2", "2.0.0"):
        body["application"] = {"name": "xiaozhi", "version": version}
        request = urllib.request.Request(
            f"http://127.0.0.1:{one.http_port}/xiaozhi/ota/",
            data=json.dumps(body).encode(),
            headers={"Device-Id": ANNA.upper(), "Client-Id": "anna", "User-Agent": f"lichuang-dev/{version}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            assert json.load(reply)["websocket"]["url"]
        wait_for(lambda version=version: version in command(two, "show", ANNA).stdout, "the report")

    shown = command(two, "show", ANNA).stdout
    for part in ("lichuang-dev", "2.0.0", "-55", "8318916", "zh-CN", "320x240", "esp32s3", "anna", "127.0.0.1"):
        assert part in shown, shown
    assert "first seen" in shown and "last seen" in shown
    table = command(one, "list").stdout
    assert "lichuang-dev" in table and "2.0.0" in table


def _last(vendor: OpenAiVendor) -> Any:
    return [request.json() for request in vendor.requests if vendor.kind(request) == CHAT][-1]["messages"]


def _refused(worker: Child) -> bool:
    try:
        SimulatedDevice(worker.url, device_id=ANNA).connect().close()
    except Exception as error:
        if "401" not in str(error):
            raise
        return True
    return False
