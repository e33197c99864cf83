"""The database: its thread, its deadlines, its errors, and what becomes of work that its caller gave up."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from sqlalchemy import Connection, func, select

from tests.databases import opened, postgres_server, write_lock
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import Overloaded, SettingsError, StorageError, StorageTimeout, StorageUnavailable
from xiaozhi.runtime import tasks
from xiaozhi.storage import summaries
from xiaozhi.storage.database import DRIVER, Database, sqlite_url
from xiaozhi.storage.tables import memory_summary

NativeEvent = monkey.get_original("threading", "Event")


def keep(device: str, summary: str = "x") -> Any:
    """Work that adds a row."""
    return lambda connection: summaries.keep(connection, device, summary, 1.0)


def count(connection: Connection) -> int:
    """How many rows there are."""
    return int(connection.execute(select(func.count()).select_from(memory_summary)).scalar_one())


class Occupied:
    """Work that keeps the storage thread until it is let go, and then adds a row."""

    def __init__(self, device: str = "occupied") -> None:
        self.begun = NativeEvent()
        self.go = NativeEvent()
        self._device = device

    def __call__(self, connection: Connection) -> None:
        summaries.keep(connection, self._device, "x", 1.0)
        self.begun.set()
        assert self.go.wait(PATIENCE_S)

    def wait_begun(self) -> None:
        """Until the thread is at it."""
        wait_for(self.begun.is_set)


def test_what_work_returns_and_what_it_raises(database: Database) -> None:
    database.run(keep("a"))

    def fails(connection: Connection) -> None:
        keep("b")(connection)
        raise KeyError("mine")

    assert database.read(count) == 1
    with pytest.raises(KeyError, match="mine"):
        database.run(fails)
    assert database.read(count) == 1, "rolled back"


def test_a_statement_at_fault_is_never_retryable_and_its_values_are_not_told(database: Database) -> None:
    def twice(connection: Connection) -> None:
        row = {"device": "secret-device", "summary": "secret-text", "updated_at": 1.0}
        connection.execute(memory_summary.insert(), row)
        connection.execute(memory_summary.insert(), row)

    with pytest.raises(StorageError) as caught:
        database.run(twice)
    assert not caught.value.retryable
    assert "secret" not in str(caught.value) and "secret-text" not in str(caught.value.__cause__)
    assert database.read(count) == 0


def test_one_native_thread_whatever_the_load_and_no_hub_in_it(database: Database) -> None:
    def where(connection: Connection) -> tuple[int, object]:
        return monkey.get_original("threading", "get_ident")(), get_hub_if_exists()

    before = len(os.listdir("/proc/self/task"))
    seen = [job.get() for job in [gevent_spawn(database, where) for _ in range(50)]]
    assert len(os.listdir("/proc/self/task")) == before
    assert len(set(seen)) == 1
    ident, hub = seen[0]
    assert ident != threading.get_ident() and hub is None


def gevent_spawn(database: Database, work: Any) -> Any:
    """A greenlet that asks the database."""
    return tasks.spawn("test", database.run, work)


def test_context_variables_are_carried_over(database: Database) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    variable.set("here")
    assert database.run(lambda connection: variable.get()) == "here"


def test_a_deadline_frees_the_caller_and_nothing_is_committed(database: Database) -> None:
    work = Occupied()
    with pytest.raises(StorageTimeout) as caught:
        database.run(work, deadline=0.05)
    assert not caught.value.undecided
    work.go.set()
    assert database.read(count) == 0


def test_work_that_has_not_begun_by_its_deadline_never_begins(database: Database) -> None:
    first = Occupied()
    running = tasks.spawn("test", database.run, first)
    first.wait_begun()
    with pytest.raises(StorageTimeout):
        database.run(keep("late"), deadline=0.05)
    first.go.set()
    running.join()
    assert database.read(count) == 1


def test_the_work_of_a_killed_greenlet_is_rolled_back(database: Database) -> None:
    work = Occupied()
    greenlet = tasks.spawn("test", database.run, work)
    work.wait_begun()
    greenlet.kill()
    work.go.set()
    assert database.read(count) == 0


def test_a_full_queue_refuses_at_once(url: str) -> None:
    with opened(url, queue_size=2) as database:
        first = Occupied()
        greenlets = [tasks.spawn("test", database.run, first)]
        first.wait_begun()
        greenlets += [tasks.spawn("test", database.run, keep(f"d{number}")) for number in range(2)]
        gevent.sleep(0)
        assert database.waiting == 2
        with pytest.raises(Overloaded, match="storage"):
            database.run(keep("refused"))
        first.go.set()
        gevent.joinall(greenlets)
        assert database.read(count) == 3


def test_a_closed_database_says_so_and_what_waits_is_still_done(url: str, tmp_path: Path) -> None:
    database = Database(url)
    with pytest.raises(StorageUnavailable, match="closed"):
        database.run(count)
    database.start()
    first = Occupied()
    greenlets = [tasks.spawn("test", database.run, first)]
    first.wait_begun()
    greenlets.append(tasks.spawn("test", database.run, keep("waiting")))
    gevent.sleep(0)
    closing = tasks.spawn("test", database.close)
    gevent.sleep(0)
    first.go.set()
    gevent.joinall([*greenlets, closing])
    assert closing.value is True
    with pytest.raises(StorageUnavailable, match="closed"):
        database.run(count)
    assert database.close()
    with opened(url) as again:
        assert again.read(count) == 2


# --- SQLite ----------------------------------------------------------------------------------------------------------


def test_a_lock_held_by_another_process_is_waited_for_while_others_read(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        database.run(keep("before"))
        with write_lock(tmp_path / "xiaozhi.sqlite", 0):
            writer = tasks.spawn("test", database.run, keep("after"))
            gevent.sleep(0)
            for _ in range(5):
                assert database.read(count, deadline=5) == 1
            assert not writer.ready()
        writer.join()
        assert database.read(count) == 2


def test_a_lock_that_stays_is_an_error_that_may_pass(tmp_path: Path) -> None:
    with opened(tmp_path, busy_timeout=0.3) as database:
        with write_lock(tmp_path / "xiaozhi.sqlite", 0):
            with pytest.raises(StorageUnavailable, match="locked"):
                database.run(keep("a"))
        database.run(keep("a"))


def test_pragmas(tmp_path: Path) -> None:
    def pragma(name: str) -> Any:
        return lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    with opened(tmp_path) as database:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = {name: database.read(pragma(name)) for name in names}
    assert found == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 100}


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        database.run(keep("a"))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_full_disk_is_told_and_passes(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        pages = database.read(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar())
        limit = f"PRAGMA max_page_count = {pages}"
        database.read(lambda connection: connection.exec_driver_sql(limit).scalar())
        with pytest.raises(StorageUnavailable, match="full"):
            database.run(keep("big", "x" * 100_000))
        database.read(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 100000").scalar())
        database.run(keep("big", "x" * 100_000))
        assert database.read(count) == 1


def test_a_file_that_is_no_database_is_refused_at_start_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "xiaozhi.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says. " * 100)
    database = Database(sqlite_url(path))
    try:
        with pytest.raises(SettingsError, match="move the file away"):
            database.start()
    finally:
        database.close()


def test_a_file_damaged_while_it_runs_is_an_error_that_others_survive(tmp_path: Path) -> None:
    path = tmp_path / "xiaozhi.sqlite"
    with opened(tmp_path) as database:
        # More than SQLite keeps in its cache, and all of it in the file.
        database.run(lambda connection: [keep(f"d{n}", "x" * 50_000)(connection) for n in range(200)])
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.seek(40_000)
            file.write(b"\xff" * (path.stat().st_size - 40_000))
        with pytest.raises(StorageUnavailable, match="backup"):
            database.read(lambda connection: connection.execute(select(memory_summary)).all())
        assert database.run(lambda connection: 1) == 1


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database(sqlite_url(tmp_path / "file/xiaozhi.sqlite"))
    with pytest.raises(SettingsError, match=r"storage\.url"):
        database.start()
    database.close()


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def test_a_lost_connection_is_replaced(request: pytest.FixtureRequest) -> None:
    server = postgres_server(request.config)
    with opened(server.new_url()) as database:
        database.run(keep("a"))
        server.restart()
        assert database.read(count) == 1, "a connection that was lost while it had nothing to do"
        database.run(keep("b"))

        def cut(connection: Connection) -> None:
            summaries.keep(connection, "c", "x", 1.0)
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(StorageUnavailable):
            database.run(cut)
        assert database.read(count) == 2


def test_reading_work_may_not_write(request: pytest.FixtureRequest) -> None:
    with opened(postgres_server(request.config).new_url()) as database:
        with pytest.raises(StorageError):
            database.read(keep("a"))


def test_a_row_locked_by_another_is_not_waited_for_too_long(request: pytest.FixtureRequest) -> None:
    url = postgres_server(request.config).new_url()
    with opened(url) as holder, opened(url, busy_timeout=0.3) as database:
        holder.run(keep("a"))
        work = Occupied("a")
        holding = tasks.spawn("test", holder.run, work)
        work.wait_begun()
        with pytest.raises(StorageUnavailable, match="lock"):
            database.run(keep("a"))
        work.go.set()
        holding.join()
        database.run(keep("a"))


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    database = Database("postgresql://user:very-secret@127.0.0.1:1/name")
    try:
        with pytest.raises(SettingsError) as caught:
            database.start(patience=0.1)
    finally:
        database.close()
    assert "very-secret" not in str(caught.value) and "127.0.0.1" in str(caught.value)


def test_a_missing_driver_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(SettingsError) as caught:
        Database("postgresql://user@127.0.0.1/name").start()
    assert f"pip install '{DRIVER}'" in str(caught.value)


def test_the_driver_that_is_named_is_the_one_that_is_tested() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    assert DRIVER in (root / "requirements-postgres.in").read_text(encoding="utf-8")
    assert DRIVER in (root / "config/default.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "://"])
def test_a_url_that_means_nothing_is_told(url: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///"):
        Database(url).start()
