"""The settings of the server: asked for with patience, remembered, never empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.console import BASE, PRIVATE_KEY, SECRET, StrictConsole, refuses
from xiaozhi.errors import SettingsError, VendorError
from xiaozhi.management.client import ConsoleClient
from xiaozhi.management.last_good import SERVER, LastGood
from xiaozhi.management.server_base import ServerBase


@pytest.fixture
def console() -> Iterator[StrictConsole]:
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        yield console


class Start:
    """One start of a server; keeps what is said and how long it pauses."""

    def __init__(self, console: StrictConsole, folder: Path, secret: str = SECRET) -> None:
        self.client = ConsoleClient(console.api_url, secret, timeout=5.0)
        self.base = ServerBase(self.client, LastGood(folder))
        self.said: list[str] = []
        self.pauses: list[float] = []

    def run(self, attempts: int = 4) -> None:
        self.base.at_start(
            attempts=attempts,
            longest_pause_s=1.0,
            say=self.said.append,
            sleep=self.pauses.append,
            patience_with_copy_s=1.0,
        )


@pytest.fixture
def start(console: StrictConsole, tmp_path: Path) -> Iterator[Callable[..., Start]]:
    made: list[Start] = []

    def make(secret: str = SECRET) -> Start:
        made.append(Start(console, tmp_path, secret))
        return made[-1]

    yield make
    for each in made:
        each.client.close()


def test_it_asks_until_it_is_answered(console: StrictConsole, start: Callable[..., Start]) -> None:
    console.script(BASE, *[Script(status=503)] * 4)
    one = start()

    one.run()

    assert one.base.tree["selected_module"] == {"VAD": "VAD_SileroVAD", "ASR": "ASR_FunASR"}
    assert one.base.stale == ""
    assert one.pauses == [0.5, 1.0]
    assert ["asking again" in text for text in one.said] == [True, True]


@pytest.mark.parametrize(
    ("trouble", "key"),
    [
        (refuses(401), "manager-api.secret"),
        (refuses(10183), "the console"),
        (refuses(404), "manager-api.url"),
        (Script(status=502), "manager-api.url"),
        (Script(garbage="html"), "manager-api.url"),
        (Script(answer={"code": 0, "data": {}}), "manager-api.url"),
    ],
    ids=str,
)
def test_without_an_answer_and_a_copy_there_is_no_start(
    trouble: Script, key: str, console: StrictConsole, start: Callable[..., Start]
) -> None:
    console.stand(BASE, trouble)
    one = start()

    with pytest.raises(SettingsError) as refused:
        one.run(attempts=2)

    assert [fault.key for fault in refused.value.faults] == [key]
    assert SECRET not in str(refused.value)
    assert one.base.tree == {}


@pytest.mark.parametrize("trouble", [refuses(401), Script(status=502), Script(stall="before"), Script(garbage="json")])
def test_the_copy_of_an_earlier_start_counts(
    trouble: Script, console: StrictConsole, start: Callable[..., Start], tmp_path: Path
) -> None:
    first, second = start(), start()
    first.run()
    console.stand(BASE, trouble)

    second.run()

    assert second.base.tree == first.base.tree
    assert second.base.stale
    assert second.pauses == []
    kept = (tmp_path / "console" / f"{SERVER}.json").read_bytes()
    assert PRIVATE_KEY.encode() not in kept
    assert SECRET.encode() not in kept


def test_a_refresh_tells_whether_something_has_changed(console: StrictConsole, start: Callable[..., Start]) -> None:
    one = start()
    one.run()
    offloaded: list[Any] = []

    assert not one.base.refresh(lambda function: offloaded.append(function()))
    console.base["tts_timeout"] = 3
    assert one.base.refresh(lambda function: offloaded.append(function()))
    assert one.base.tree["tts_timeout"] == 3
    assert len(offloaded) == 1
    before = one.base.tree
    console.stand(BASE, Script(status=503))
    with pytest.raises(VendorError):
        one.base.refresh(lambda function: function())
    assert one.base.tree is before
    assert one.base.stale
    console.stand(BASE, refuses(401))
    with pytest.raises(SettingsError):
        one.base.refresh(lambda function: function())
