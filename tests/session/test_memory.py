"""Saving memories: for every visit, off the hot path, never lost, whatever fails: vendor, store, worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event
from sqlalchemy import func, select

from tests.databases import opened, write_lock
from tests.fakes.clock import FakeClock
from tests.fakes.thinking import FakeMemory
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import Message
from xiaozhi.errors import Overloaded, VendorBusy, VendorRejected, VendorUnavailable
from xiaozhi.providers.contracts.memory import MemoryTraits
from xiaozhi.session import memory as memory_module
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.storage.database import Database
from xiaozhi.storage.earlier_files import import_earlier_files
from xiaozhi.storage.tables import pending_memory

ROOT = Path(__file__).resolve().parent.parent.parent
VISIT = [Message("user", "hi"), Message("assistant", "ho")]


class SlowMemory(FakeMemory):
    """Saves when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = Event()
        self.asked = 0

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        self.asked += 1
        self.go.wait(PATIENCE_S)
        super().save(device_id, messages, session_id)


class Refusing(FakeMemory):
    """Fails with each of the errors, then works."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        super().save(device_id, messages, session_id)


class Forgetful(FakeMemory):
    traits = MemoryTraits(offline=True, remembers=False)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path, busy_timeout=0.2) as made:
        yield made


@contextmanager
def writing(database: Database, memory: FakeMemory | None = None, **options: Any) -> Iterator[MemoryWriter]:
    """Started; stopped in the end, if the test has not done it."""
    writer = MemoryWriter(database, **options)
    writer.start(lambda: memory or FakeMemory())
    try:
        yield writer
    finally:
        writer.flush(0)


def rows(database: Database) -> list[tuple[str, str, int, float]]:
    """(device, owner, attempts, due_at) of the visits in the store."""
    columns = pending_memory.c
    found = select(columns.device, columns.owner, columns.attempts, columns.due_at).order_by(columns.device)
    return [tuple(row) for row in database.read(lambda connection: connection.execute(found).all())]


def devices(memory: FakeMemory) -> list[str]:
    """Whose visits were saved."""
    return sorted(device for device, _, _ in memory.saved)


def test_saved_in_the_background_and_flushed(database: Database) -> None:
    memory = SlowMemory()
    with writing(database) as writer:
        for number in range(10):
            writer.save(memory, f"dev{number}", VISIT, "s")
        assert memory.saved == [] and writer.waiting == 10
        memory.go.set()
        assert writer.flush(5)
    assert devices(memory) == sorted(f"dev{number}" for number in range(10))
    assert (writer.saved, writer.waiting) == (10, 0)
    assert rows(database) == []


def test_a_visit_is_a_row_before_its_saving_begins(database: Database) -> None:
    memory = SlowMemory()
    with writing(database, workers=1) as writer:
        writer.save(memory, "a", VISIT, "s")
        writer.save(memory, "b", VISIT, "s")
        wait_for(lambda: memory.asked == 1, "the first saving")
        assert [device for device, owner, _, _ in rows(database) if owner] == ["a", "b"]
        memory.go.set()
        assert writer.flush(5)


def test_what_cannot_be_saved_in_time_is_saved_by_the_next_process(database: Database) -> None:
    stuck, healthy = SlowMemory(), FakeMemory()
    with writing(database, workers=1) as writer:
        writer.save(stuck, "a", VISIT, "s1")
        writer.save(stuck, "b", VISIT, "s2")
        assert not writer.flush(0.05)
    assert stuck.saved == []
    assert [(device, owner) for device, owner, _, _ in rows(database)] == [("a", ""), ("b", "")]
    with writing(database, healthy) as following:
        assert following.flush(5)
    assert {(device, session) for device, _, session in healthy.saved} == {("a", "s1"), ("b", "s2")}
    assert healthy.saved[0][1] == VISIT
    assert rows(database) == []


def test_a_backlog_is_worked_off_and_what_there_is_no_room_for_waits_in_the_store(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "MAX_WAITING", 3)
    stuck, healthy = SlowMemory(), FakeMemory()
    with writing(database, stuck, workers=1) as writer:
        for number in range(3):
            writer.save(stuck, f"early{number}", VISIT, "s")
        wait_for(lambda: len(rows(database)) == 3, "the first rows")
        for number in range(3):
            writer.save(stuck, f"late{number}", VISIT, "s")
        wait_for(lambda: len(rows(database)) == 6, "all rows")
        assert [owner != "" for _, owner, _, _ in rows(database)] == [True] * 3 + [False] * 3
        assert writer.lost == 0
    with writing(database, healthy) as following:
        wait_for(lambda: len(healthy.saved) == 6, "everything to be saved")
        assert following.flush(5)
    assert rows(database) == []


def test_two_workers_share_what_was_left(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        with writing(one, workers=1) as stuck:
            for number in range(20):
                stuck.save(SlowMemory(), f"{number:02}", VISIT, "s")
            assert not stuck.flush(0.05)
        first, second = FakeMemory(), FakeMemory()
        with writing(one, first), writing(other, second):
            wait_for(lambda: len(first.saved) + len(second.saved) >= 20, "everything to be saved")
        assert sorted(devices(first) + devices(second)) == [f"{number:02}" for number in range(20)]


@pytest.mark.parametrize(
    "error,pause",
    [(VendorUnavailable("m", "down"), 15.0), (VendorBusy("m", "later", after=300.0), 300.0), (Overloaded("m"), 15.0)],
)
def test_a_passing_failure_is_tried_again_while_running(database: Database, error: Exception, pause: float) -> None:
    memory, clock = Refusing(error), FakeClock()
    with writing(database, memory, clock=clock, lease_s=0.04) as writer:
        writer.save(memory, "a", VISIT, "s")
        put_back = ("a", "", 1, clock.now + pause)
        wait_for(lambda: rows(database) == [put_back], "the row to be put back")
        assert writer.failed == 1 and memory.saved == []
        clock.now += pause
        wait_for(lambda: devices(memory) == ["a"], "the second try")
        assert writer.flush(5)
    assert rows(database) == []


def test_the_pause_grows_with_every_failure(database: Database) -> None:
    memory, clock = Refusing(*[VendorUnavailable("m", "down")] * 12), FakeClock()
    pauses = []
    with writing(database, memory, clock=clock, lease_s=0.04) as writer:
        writer.save(memory, "a", VISIT, "s")
        for attempt in range(1, 13):
            wait_for(lambda attempt=attempt: [row[2] for row in rows(database)] == [attempt])
            due_at = rows(database)[0][3]
            pauses.append(due_at - clock.now)
            clock.now = due_at
        wait_for(lambda: devices(memory) == ["a"], "the saving")
    assert pauses[:4] == [15.0, 30.0, 60.0, 120.0] and max(pauses) == 3_600.0


def test_a_rejection_is_final_and_a_bug_is_not(database: Database) -> None:
    with writing(database) as writer:
        writer.save(Refusing(VendorRejected("m", "no")), "rejected", VISIT, "s1")
        writer.save(Refusing(KeyError("bug")), "bug", VISIT, "s2")
        wait_for(lambda: writer.waiting == 0, "both")
        assert writer.failed == 2
        wait_for(lambda: [row[:3] for row in rows(database)] == [("bug", "", 1)], "the rejected one to go")


def test_a_lease_is_renewed_while_a_worker_is_at_it(tmp_path: Path) -> None:
    memory, thief, clock = SlowMemory(), FakeMemory(), FakeClock()
    with opened(tmp_path) as one, opened(tmp_path) as other:
        with writing(one, memory, clock=clock, lease_s=0.4) as writer, writing(other, thief, clock=clock, lease_s=0.4):
            writer.save(memory, "a", VISIT, "s")
            wait_for(lambda: memory.asked == 1, "the saving")
            for _ in range(3):
                clock.now += 0.3
                wait_for(lambda: rows(one)[0][3] > clock.now + 0.3, "the renewal")
            memory.go.set()
            wait_for(lambda: rows(one) == [], "the end")
        assert devices(memory) == ["a"] and thief.saved == []


def test_a_keeper_that_is_gone_is_replaced(database: Database) -> None:
    memory = FakeMemory()
    with writing(database, memory) as writer:
        before = writer.beat
        writer.revive()
        writer.save(memory, "a", VISIT, "s")
        wait_for(lambda: devices(memory) == ["a"] and rows(database) == [], "the saving")
        assert writer.beat > before


def test_nothing_to_save_is_not_saved(database: Database) -> None:
    memory, forgetful = FakeMemory(), Forgetful()
    with writing(database) as writer:
        writer.save(memory, "a", [], "s")
        writer.save(memory, "a", [Message("system", "x"), Message("tool", "y"), Message("user", "")], "s")
        writer.save(forgetful, "a", VISIT, "s")
        assert writer.waiting == 0 and writer.flush(1)
    assert memory.saved == forgetful.saved == []


def test_a_memory_that_remembers_nothing_leaves_the_rows_of_another(database: Database) -> None:
    with writing(database, workers=1) as writer:
        writer.save(SlowMemory(), "a", VISIT, "s")
        assert not writer.flush(0.05)
    with writing(database, Forgetful()) as following:
        assert following.waiting == 0 and following.flush(1)
    assert [device for device, *_ in rows(database)] == ["a"]


# --- the store fails -------------------------------------------------------------------------------------------------


def test_visits_are_saved_from_memory_while_the_store_is_locked(tmp_path: Path, database: Database) -> None:
    memory = FakeMemory()
    with writing(database, memory) as writer:
        with write_lock(tmp_path / "xiaozhi.sqlite", 0):
            writer.save(memory, "a", VISIT, "s")
            wait_for(lambda: devices(memory) == ["a"], "the saving without a row")
        assert writer.flush(5)
    assert (writer.saved, writer.lost) == (1, 0)
    assert rows(database) == []


def test_what_fails_at_the_vendor_too_becomes_a_row_when_the_store_is_back(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "STORE_PAUSE_S", 0.01)
    memory = Refusing(VendorUnavailable("m", "down"))
    with writing(database, memory) as writer:
        with write_lock(tmp_path / "xiaozhi.sqlite", 0):
            writer.save(memory, "a", VISIT, "s")
            wait_for(lambda: writer.failed == 1, "the vendor's failure")
            assert writer.waiting == 1
        wait_for(lambda: [row[:3] for row in rows(database)] == [("a", "", 1)], "the row")
        assert writer.waiting == 0
        assert writer.flush(1)


def test_memory_is_bounded_while_the_store_is_closed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MAX_WAITING", 5)
    stuck = SlowMemory()
    with writing(database) as writer:
        database.close()
        for number in range(30):
            writer.save(stuck, f"{number:02}", VISIT, "s")
        wait_for(lambda: stuck.asked == memory_module.WORKERS, "the workers")
        assert writer.waiting <= 10 and writer.lost >= 20
        stuck.go.set()
        writer.flush(5)
    assert writer.saved + writer.lost == 30


def test_done_but_not_removed_is_removed_later_and_not_saved_again(tmp_path: Path, database: Database) -> None:
    memory = SlowMemory()
    with writing(database, memory, lease_s=0.08) as writer:
        writer.save(memory, "a", VISIT, "s")
        wait_for(lambda: memory.asked == 1, "the saving")
        with write_lock(tmp_path / "xiaozhi.sqlite", 0):
            memory.go.set()
            wait_for(lambda: writer.saved == 1, "the end of it")
            wait_for(lambda: writer.waiting == 0, "nothing in memory")
        wait_for(lambda: rows(database) == [], "the row to go")
    assert devices(memory) == ["a"]


# --- visits under way ------------------------------------------------------------------------------------------------


def told(database: Database) -> list[tuple[str, list[Any]]]:
    """(device, what was said) of the visits in the store."""
    columns = pending_memory.c
    found = select(columns.device, columns.said).order_by(columns.device)
    return [(device, said) for device, said in database.read(lambda connection: connection.execute(found).all())]


def test_a_visit_under_way_is_a_row_that_grows_and_goes_when_it_was_saved(database: Database) -> None:
    memory = SlowMemory()
    with writing(database, memory, note_s=0.01) as writer:
        writer.note(memory, "a", VISIT[:1], "s")
        wait_for(lambda: told(database) == [("a", [["user", "hi"]])], "the row")
        writer.note(memory, "a", VISIT, "s")
        wait_for(lambda: told(database) == [("a", [["user", "hi"], ["assistant", "ho"]])], "the longer row")
        assert writer.waiting == 0 and memory.asked == 0

        writer.save(memory, "a", [*VISIT, Message("user", "bye")], "s")
        wait_for(lambda: memory.asked == 1, "the saving")
        assert [len(said) for _, said in told(database)] == [3], "the same row"
        memory.go.set()
        assert writer.flush(5)
    assert [(device, len(said)) for device, said, _ in memory.saved] == [("a", 3)]
    assert rows(database) == []


def test_a_note_that_comes_too_late_brings_nothing_back(database: Database) -> None:
    memory = FakeMemory()
    with writing(database, memory, note_s=0.05) as writer:
        writer.note(memory, "a", VISIT, "s1")
        writer.save(memory, "a", VISIT, "s1")
        writer.note(memory, "b", VISIT, "s2")
        wait_for(lambda: [device for device, _ in told(database)] == ["b"], "the note of the other one")
        assert writer.saved == 1
        writer.save(memory, "b", VISIT, "s2")
        assert writer.flush(5)
    assert devices(memory) == ["a", "b"] and rows(database) == []


def test_nobody_takes_a_visit_that_is_under_way(tmp_path: Path, database: Database) -> None:
    other = FakeMemory()
    with (
        opened(tmp_path) as second,
        writing(second, other, lease_s=0.2),
        writing(database, FakeMemory(), note_s=0.0, lease_s=0.2) as writer,
    ):
        writer.note(FakeMemory(), "a", VISIT, "s")
        wait_for(lambda: told(database), "the row")
        [(_, owner, _, due_at)] = rows(database)
        wait_for(lambda: rows(database)[0][3] > due_at + 0.4, "its lease to be renewed twice")
        assert rows(database)[0][1] == owner and other.saved == []
        writer.save(FakeMemory(), "a", VISIT, "s")
        assert writer.flush(5)


def test_a_vendor_that_refuses_a_visit_leaves_no_row_of_it(tmp_path: Path, database: Database) -> None:
    memory = Refusing(VendorRejected("acme"))
    with writing(database, memory, note_s=0.0) as writer:
        writer.note(memory, "a", VISIT, "s")
        wait_for(lambda: told(database), "the row")
        with write_lock(tmp_path / "xiaozhi.sqlite", 0):
            writer.save(memory, "a", VISIT, "s")
            wait_for(lambda: writer.failed == 1, "the refusal")
        wait_for(lambda: rows(database) == [], "the row to go")


@pytest.mark.parametrize("jump", [25 * 3_600.0, -48 * 3_600.0, -20 * 365 * 86_400.0])
def test_a_clock_that_jumps_costs_no_visit(database: Database, jump: float) -> None:
    memory, clock = FakeMemory(), FakeClock()
    clock.now = 1_750_000_000.0
    with writing(database, memory, clock=clock, note_s=0.0) as writer:
        writer.note(memory, "a", VISIT, "s1")
        wait_for(lambda: told(database), "the row")
        clock.now += jump
        writer.save(memory, "a", VISIT, "s1")
        writer.save(memory, "b", VISIT, "s2")
        assert writer.flush(5)
    assert devices(memory) == ["a", "b"] and rows(database) == []


# --- kill -9 ---------------------------------------------------------------------------------------------------------

WORKER = """
from gevent import monkey; monkey.patch_all()
import gevent, os, sys
from xiaozhi.chat import Message
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.storage.database import Database
from tests.fakes.thinking import FakeMemory

class Stuck(FakeMemory):
    def save(self, device_id, messages, session_id):
        print(device_id, flush=True)
        gevent.sleep(1000)

database = Database(sys.argv[1])
database.start()
writer = MemoryWriter(database, lease_s=1.0, note_s=0.0)
writer.start(Stuck)
for number in range(4):
    writer.note(Stuck(), f"open{number}", [Message("user", "hi"), Message("assistant", "ho")], f"o{number}")
gevent.sleep(0.5)
for number in range(8):
    writer.save(Stuck(), f"dev{number}", [Message("user", "hi"), Message("assistant", "ho")], f"s{number}")
gevent.sleep(1000)
"""


def test_kill_9_loses_neither_visits_that_wait_nor_those_under_way(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        url = f"sqlite:///{tmp_path / 'xiaozhi.sqlite'}"
        worker = subprocess.Popen([sys.executable, "-c", WORKER, url], cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert worker.stdout is not None and worker.stdout.readline().startswith(b"dev")
            os.kill(worker.pid, signal.SIGKILL)
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()  # type: ignore[union-attr]
        memory = FakeMemory()
        with writing(database, memory, lease_s=1.0):
            wait_for(lambda: len(memory.saved) >= 12, "the lease to end and the visits to be saved")
        assert devices(memory) == [f"dev{number}" for number in range(8)] + [f"open{number}" for number in range(4)]
        assert database.read(lambda c: c.execute(select(func.count()).select_from(pending_memory)).scalar()) == 0


def test_the_files_of_earlier_versions_are_saved(tmp_path: Path, database: Database) -> None:
    line = json.dumps({"device": "a", "session": "s", "said": [["user", "hi\u2028"]]}, ensure_ascii=False)
    (tmp_path / "pending-memories.jsonl").write_text(line + "\n", encoding="utf-8")
    import_earlier_files(database, tmp_path)
    memory = FakeMemory()
    with writing(database, memory) as writer:
        assert writer.flush(5)
    assert memory.saved == [("a", [Message("user", "hi\u2028")], "s")]
