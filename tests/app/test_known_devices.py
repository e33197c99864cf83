"""Which of several addresses a device is told, by what the servers that share the database say of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.databases import opened
from tests.devices.test_presence import FakeConnections
from tests.fakes.clock import FakeClock
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.devices.presence import ALIVE_S
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.settings import load
from xiaozhi.storage import presences
from xiaozhi.storage.database import Database

ONE, TWO, THREE = (f"wss://{name}.example/xiaozhi/v1/" for name in ("one", "two", "three"))
ALL = (ONE, TWO, THREE)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def clock() -> FakeClock:
    made = FakeClock()
    made.advance(1_000_000)
    return made


def told(
    database: Database, clock: FakeClock, devices: Mapping[str, int], asked: int, choice: str = "least"
) -> Counter[str]:
    """How many of `asked` devices are told which address, where so many are connected by address."""
    server = {"websocket_choice": choice, "websocket": ";".join(ALL)}
    settings = load(environ={}, overrides={"server": server}).settings
    known = KnownDevices(settings, database, "a-secret-of-some-length", Guesses(), clock=clock)
    for address, count in devices.items():
        beat = partial(presences.heartbeat, name=f"of {address}", websocket=address, connections=count, now=clock())
        database.run(beat)
    known.presence.start(FakeConnections(1))  # type: ignore[arg-type]
    try:
        return Counter(known.address_for_a_device(ALL) for _ in range(asked))
    finally:
        known.presence.close(5)


def test_the_one_with_the_fewest_devices_is_told_and_a_crowd_is_spread(database: Database, clock: FakeClock) -> None:
    """They all ask before any of them has connected."""
    assert told(database, clock, {ONE: 10, TWO: 4, THREE: 7}, 1) == {TWO: 1}
    assert told(database, clock, {ONE: 10, TWO: 4, THREE: 7}, 9 + 3) == {TWO: 7, THREE: 4, ONE: 1}


def test_an_address_that_nobody_serves_is_not_told(database: Database, clock: FakeClock) -> None:
    """A server that was stopped, or has given no sign for long."""
    assert told(database, clock, {ONE: 10, TWO: 12}, 2) == {ONE: 2}
    clock.advance(ALIVE_S + 1)
    assert told(database, clock, {THREE: 500}, 2) == {THREE: 2}


def test_without_a_sign_of_anybody_any_is_told(database: Database, clock: FakeClock) -> None:
    assert set(told(database, clock, {}, 200)) == set(ALL)


def test_at_random_means_whatever_the_load(database: Database, clock: FakeClock) -> None:
    assert set(told(database, clock, {ONE: 500, TWO: 0}, 200, choice="random")) == set(ALL)
