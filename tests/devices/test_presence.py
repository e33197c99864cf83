"""Several workers and one database: who comes elsewhere leaves here, and operators' decisions reach everybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.databases import opened
from tests.fakes.clock import FakeClock
from xiaozhi.devices.dialogues import ResumeStore
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.devices.presence import ALIVE_S, HEARTBEAT_S, Presence
from xiaozhi.errors import StorageUnavailable
from xiaozhi.storage.database import Database

ANNA, BEN = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


class FakeLive:
    """One connection."""

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


class FakeConnections:
    """The connections of a worker."""

    def __init__(self, per_device: int) -> None:
        self.per_device = per_device
        self.lives: dict[int, tuple[str, FakeLive]] = {}
        self.replaced: list[int] = []

    def __len__(self) -> int:
        return len(self.lives)

    def replace(self, number: int) -> None:
        self.replaced.append(number)

    def of_device(self, device: str) -> list[FakeLive]:
        return [live for name, live in self.lives.values() if name == device]


class Worker:
    """One process's part of it."""

    def __init__(self, database: Database, clock: FakeClock, websocket: str = "", per_device: int = 1) -> None:
        self.connections = FakeConnections(per_device)
        self.notes = DeviceNotes(database, clock=clock)
        self.resume = ResumeStore(notes=self.notes, today=clock)
        self.presence = Presence(
            database, self.notes, websocket=websocket, said_for=120, on_dialogue=self.resume.learn, clock=clock
        )
        self.obeyed: list[str] = []
        self.orders = {action: partial(self.obeyed.append, action) for action in ("restart", "update_config")}
        self._number = 0

    def join(self, device: str) -> int:
        self._number += 1
        self.connections.lives[self._number] = device, FakeLive()
        self.presence.joined(self._number, device)
        return self._number

    def leave(self, number: int) -> None:
        del self.connections.lives[number]
        self.presence.left(number)

    def write(self) -> None:
        assert self.notes.flush()


@contextmanager
def at_work(*workers: Worker) -> Iterator[None]:
    for worker in workers:
        worker.presence.start(worker.connections, worker.orders)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for worker in workers:
            worker.presence.close(5)


@pytest.fixture
def clock() -> FakeClock:
    made = FakeClock()
    made.advance(1_000_000)
    return made


def test_who_comes_to_another_worker_leaves_the_first(database: Database, clock: FakeClock) -> None:
    here, there = Worker(database, clock), Worker(database, clock)
    with at_work(here, there):
        old, ben = here.join(ANNA), here.join(BEN)
        here.write()
        clock.advance(1)
        there.join(ANNA)
        there.write()

        here.presence.look()
        there.presence.look()

        assert here.connections.replaced == [old]
        assert there.connections.replaced == []
        here.leave(old)
        clock.advance(1)
        there.join(BEN)
        there.write()
        here.leave(ben)
        here.presence.look()
        assert here.connections.replaced == [old], "who has left already need not be closed"


def test_a_device_may_have_several_connections_wherever_they_are(database: Database, clock: FakeClock) -> None:
    here, there = Worker(database, clock, per_device=2), Worker(database, clock, per_device=2)
    with at_work(here, there):
        oldest = here.join(ANNA)
        clock.advance(1)
        there.join(ANNA)
        here.write(), there.write()
        here.presence.look()
        assert here.connections.replaced == []
        clock.advance(1)
        there.join(ANNA)
        there.write()
        here.presence.look(), there.presence.look()
        assert (here.connections.replaced, there.connections.replaced) == ([oldest], [])


def test_a_worker_that_was_killed_drives_nobody_out(database: Database, clock: FakeClock) -> None:
    here, dead = Worker(database, clock, per_device=2), Worker(database, clock, per_device=2)
    with at_work(here, dead):
        mine = here.join(ANNA)
        clock.advance(1)
        dead.join(ANNA), dead.join(ANNA)
        here.write(), dead.write()
        directory = DeviceDirectory(database, DeviceNotes(database), clock=clock)
        assert set(directory.of(ANNA).workers) == {here.presence.worker, dead.presence.worker}
        clock.advance(ALIVE_S + HEARTBEAT_S)
        here.presence.look()
        assert here.connections.replaced == []
        assert directory.of(ANNA).workers == (here.presence.worker,), "nobody is listed at a worker that is gone"
        here.leave(mine)


def test_an_operator_revokes_at_once_and_for_all(database: Database, clock: FakeClock) -> None:
    here, there = Worker(database, clock), Worker(database, clock)
    directory = DeviceDirectory(database, DeviceNotes(database), clock=clock)
    with at_work(here, there):
        number = here.join(ANNA)
        other = here.join(BEN)

        directory.revoke(ANNA.upper())
        here.presence.look(), there.presence.look()

        assert here.connections.lives[number][1].closed == [(1008, "revoked")]
        assert here.connections.lives[other][1].closed == []
        assert there.presence.standing(ANNA).revoked
        clock.advance(3600)
        directory.approve(ANNA)
        there.presence.look()
        assert not there.presence.standing(ANNA).revoked
    late = Worker(database, clock)
    directory.revoke(BEN)
    with at_work(late):
        assert late.presence.standing(BEN).revoked, "known from the start"


def test_what_was_said_last_follows_the_device(database: Database, clock: FakeClock) -> None:
    """The worker that it left hands in the last words a moment after it has come."""
    here, there = Worker(database, clock), Worker(database, clock)
    with at_work(here, there):
        here.join(ANNA)
        here.resume.save(ANNA, "c", b"one turn")
        here.write()
        there.join(ANNA)
        there.write()
        clock.advance(0.5)
        here.resume.put(ANNA, "c", b"one turn and a half")
        here.write()
        there.presence.look()
        assert there.resume.take(ANNA, "c") == b"one turn and a half"
        assert there.resume.take(ANNA, "other") is None


def test_an_order_to_one_worker_is_obeyed_once_by_all_behind_its_address(database: Database, clock: FakeClock) -> None:
    """Not by itself, which has done it; not by servers that have addresses of their own; and not by who starts
    later."""
    one, two = Worker(database, clock), Worker(database, clock)
    elsewhere = Worker(database, clock, websocket="ws://10.0.0.6:8000/xiaozhi/v1/")
    with at_work(one, two, elsewhere):
        one.presence.pass_on("update_config")
        one.presence.pass_on("explode")
        later = Worker(database, clock)
        with at_work(later):
            for worker in (one, two, elsewhere, later) * 2:
                worker.presence.look()
            clock.advance(1)
            two.presence.pass_on("restart")
            for worker in (one, two, elsewhere, later) * 2:
                worker.presence.look()

            assert (one.obeyed, two.obeyed) == (["restart"], ["update_config"])
            assert (elsewhere.obeyed, later.obeyed) == ([], ["restart"])


def test_the_load_of_each_address(database: Database, clock: FakeClock) -> None:
    busy, idle, unknown = (Worker(database, clock, address) for address in ("ws://busy/", "ws://idle/", ""))
    busy.join(ANNA), busy.join(BEN), unknown.join(ANNA)
    with at_work(busy, unknown, idle):
        assert idle.presence.load == {"ws://busy/": 2, "ws://idle/": 0}
        clock.advance(ALIVE_S + 1)
        idle.presence.look()
        assert idle.presence.load == {"ws://idle/": 0}, "nobody is sent to a worker that gives no sign"
        busy.presence.look()
    assert "ws://idle/" not in Worker(database, clock, "ws://new/").presence.load


def test_a_database_that_fails_stops_nobody(url: str, clock: FakeClock) -> None:
    with opened(url) as database:
        worker = Worker(database, clock)
        worker.presence.start(worker.connections)  # type: ignore[arg-type]
        worker.join(ANNA)
    worker.presence.look()
    worker.presence.look()
    worker.presence.close(0.1)
    assert worker.connections.replaced == []


def test_a_worker_that_was_taken_for_gone_says_again_whom_it_serves(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Worker(database, clock), Worker(database, clock)
    directory = DeviceDirectory(database, DeviceNotes(database), clock=clock)
    with at_work(here, there):
        here.join(ANNA)
        here.presence.stands(BEN, True)
        here.write()
        assert directory.of(BEN).reached_by == (here.presence.worker,)

        def fail(*args: object, **more: object) -> None:
            raise StorageUnavailable("the database is gone")

        with monkeypatch.context() as outage:
            outage.setattr(database, "read", fail)
            here.presence.look()
        clock.advance(ALIVE_S + HEARTBEAT_S)
        there.presence.look()
        here.presence.look()
        here.write()

        assert directory.of(ANNA).workers == directory.of(BEN).reached_by == (here.presence.worker,)
        here.presence.stands(BEN, False)
        here.write()
        assert directory.page("", 9, 0)[1] == 1, "nobody knows Ben any more"
