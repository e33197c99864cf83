"""What the console says of devices: one question per device, copies, and who may not be served from one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.console import MODELS, SECRET, SERVER_BASE, WORDS, BoundDevice, StrictConsole, refuses
from tests.waiting import wait_for
from xiaozhi.errors import ConsoleRefused, Overloaded, VendorError
from xiaozhi.management.client import ConsoleClient
from xiaozhi.management.last_good import LastGood
from xiaozhi.management.private_config import PrivateConfigs
from xiaozhi.management.translate import PrivateConfig

ANN, WRITTEN = "02:00:00:00:0c:01", "02:00:00:00:0C:01"


@pytest.fixture
def console() -> Iterator[StrictConsole]:
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        console.bound[WRITTEN] = BoundDevice({"prompt": "You are Ann."}, ["a|b"])
        yield console
        assert console.faults == []


def at_once(function: Callable[[], Any]) -> Any:
    return function()


class Desk:
    """What one process has."""

    def __init__(self, console: StrictConsole, folder: Path, offload: Callable[..., Any] = at_once, **patience: float):
        self.client = ConsoleClient(console.api_url, SECRET, timeout=5.0)
        self.copies = LastGood(folder)
        self.configs = PrivateConfigs(
            self.client, self.copies, selected=lambda: {"VAD": "V"}, offload=offload, **patience
        )

    def of(self) -> PrivateConfig:
        return self.configs.of(ANN, WRITTEN, "")

    def close(self) -> None:
        self.configs.close()
        self.client.close()


@pytest.fixture
def desk(console: StrictConsole, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(console, tmp_path)
    yield desk
    desk.close()


def test_the_id_is_asked_for_as_the_device_wrote_it(console: StrictConsole, desk: Desk) -> None:
    overlay = desk.of().overlay

    assert (overlay["prompt"], overlay["correct_words"]) == ("You are Ann.", ["a|b"])

    [asked] = [request.json() for request in console.requests if console.kind(request) == MODELS]
    assert asked == {"macAddress": WRITTEN, "clientId": WRITTEN, "selectedModule": {"VAD": "V"}}


def test_many_who_ask_at_once_are_one_question(console: StrictConsole, desk: Desk) -> None:
    console.stand(MODELS, Script(delay=0.2))

    asking = [gevent.spawn(desk.of) for _ in range(20)]
    configs = [each.get() for each in asking]

    assert console.counts[MODELS] == console.counts[WORDS] == 1
    assert len({id(config) for config in configs}) == 1


def test_each_connection_asks_anew_and_an_equal_answer_is_not_written_again(
    console: StrictConsole, desk: Desk, tmp_path: Path
) -> None:
    first = desk.of()
    [file] = (tmp_path / "console").iterdir()
    written = file.stat().st_mtime_ns

    assert desk.of() is first
    assert console.counts[MODELS] == 2
    assert file.stat().st_mtime_ns == written
    assert ANN not in file.name
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("trouble", [Script(status=503), Script(stall="before"), refuses(401), Script(garbage="json")])
def test_the_last_good_answer_of_an_earlier_process_counts(
    trouble: Script, console: StrictConsole, desk: Desk, tmp_path: Path
) -> None:
    good = desk.of().overlay
    console.stand(MODELS, trouble)
    later = Desk(console, tmp_path, patience_with_copy_s=0.1)
    try:
        assert later.of().overlay == good
    finally:
        later.close()


def test_an_answer_that_comes_too_late_counts_the_next_time(console: StrictConsole, tmp_path: Path) -> None:
    desk = Desk(console, tmp_path, patience_s=0.05)
    try:
        console.stand(MODELS, Script(delay=0.3))
        with pytest.raises(VendorError, match="slow"):
            desk.of()
        wait_for(lambda: desk.configs.known(ANN), "the late answer")
        console.stand(MODELS, Script(status=503))
        assert desk.of().overlay["prompt"] == "You are Ann."
    finally:
        desk.close()


@pytest.mark.parametrize("code", [10041, 10042, 10053])
def test_who_is_not_bound_any_more_has_no_copy(code: int, console: StrictConsole, desk: Desk, tmp_path: Path) -> None:
    desk.of()
    console.stand(MODELS, refuses(code))
    with pytest.raises(ConsoleRefused):
        desk.of()

    console.stand(MODELS, Script(status=503))
    with pytest.raises(VendorError):
        desk.of()
    assert list((tmp_path / "console").iterdir()) == []


@pytest.mark.parametrize("trouble", [Script(status=503), Script(garbage="html"), refuses(500), Script(stall="before")])
def test_pronunciations_are_not_worth_a_failure(trouble: Script, console: StrictConsole, desk: Desk) -> None:
    """Those that were known are kept."""
    desk.of()
    console.stand(WORDS, trouble)

    assert desk.of().overlay["correct_words"] == ["a|b"]


def test_a_device_id_of_the_console_itself_is_nobody(console: StrictConsole, desk: Desk, tmp_path: Path) -> None:
    console.stand(MODELS, Script(answer={"code": 0, "msg": "success", "data": SERVER_BASE}))

    assert desk.of().overlay == {}
    assert not (tmp_path / "console").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Overloaded("inference")])
def test_a_disk_that_fails_costs_the_copy_only(error: Exception, console: StrictConsole, tmp_path: Path) -> None:
    def fails(function: Callable[[], Any]) -> Any:
        raise error

    desk = Desk(console, tmp_path, fails)
    try:
        assert desk.of().overlay["prompt"] == "You are Ann."
    finally:
        desk.close()


def test_a_damaged_copy_is_none(tmp_path: Path) -> None:
    copies = LastGood(tmp_path)
    copies.write("a", {"agent": {}})
    [file] = (tmp_path / "console").iterdir()
    file.write_bytes(b"{")

    assert copies.read("a") is None
    copies.forget("a")
    copies.forget("a")
    assert copies.read("a") is None
