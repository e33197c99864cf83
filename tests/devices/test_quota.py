"""The daily allowance of a device: counted in memory, kept across restarts and days, added up over workers."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.databases import opened, postgres_server, write_lock
from tests.waiting import wait_for
from xiaozhi.devices.quota import OutputQuota
from xiaozhi.storage import output_counts
from xiaozhi.storage.database import Database, sqlite_url

ROOT = Path(__file__).resolve().parent.parent.parent
MONDAY = datetime.date(2026, 11, 16)
TUESDAY = datetime.date(2026, 11, 17)


class Calendar:
    def __init__(self) -> None:
        self.day = MONDAY

    def __call__(self) -> datetime.date:
        return self.day


@contextmanager
def quota(database: Database, limit: int = 100, calendar: Calendar | None = None) -> Iterator[OutputQuota]:
    """In force; closed in the end."""
    made = OutputQuota(database, calendar or Calendar())
    made.adopt(limit)
    try:
        yield made
    finally:
        made.close()


def stored(database: Database, day: datetime.date = MONDAY) -> dict[str, int]:
    """What stands in the database."""
    return database.read(lambda connection: output_counts.changed_since(connection, day, 0.0))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as made:
        yield made


def test_without_a_limit_nothing_is_counted_or_asked(tmp_path: Path) -> None:
    closed = Database(sqlite_url(tmp_path / "never.sqlite"))
    with quota(closed, limit=0) as made:
        made.spend("a", 1_000_000)
        assert made.left("a") is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_spoken_is_taken_off_at_once_and_never_below_nothing(database: Database) -> None:
    with quota(database) as made:
        made.spend("a", 30)
        made.spend("a", 30)
        made.spend("b", 500)
        assert (made.left("a"), made.left("b"), made.left("c")) == (40, 0, 100)
        assert stored(database) == {}
        made.flush()
        assert stored(database) == {"a": 60, "b": 500}
        assert (made.left("a"), made.left("b"), made.left("c")) == (40, 0, 100)


def test_a_restart_remembers(database: Database) -> None:
    with quota(database) as first:
        first.spend("a", 60)
    with quota(database) as second:
        assert second.left("a") == 40


def test_a_new_day_is_a_new_allowance_and_old_days_are_forgotten(database: Database) -> None:
    calendar = Calendar()
    with quota(database, calendar=calendar) as made:
        made.spend("a", 100)
        calendar.day = TUESDAY
        assert made.left("a") == 100
        made.spend("a", 1)
        made.flush()
        assert stored(database, MONDAY) == {"a": 100}, "what was spoken before midnight belongs to that day"
        calendar.day = MONDAY
        made.sync()
        assert made.left("a") == 0
        calendar.day = MONDAY + datetime.timedelta(days=8)
        made.spend("a", 1)
        made.flush()
        assert stored(database, MONDAY) == {}
        assert stored(database, TUESDAY) == {"a": 1}


def test_workers_see_what_the_others_spent(tmp_path: Path) -> None:
    with opened(tmp_path) as one_database, opened(tmp_path) as other_database:
        with quota(one_database) as one, quota(other_database) as other:
            one.spend("a", 10)
            other.spend("a", 20)
            one.flush()
            assert (one.left("a"), other.left("a")) == (90, 80)
            other.flush()
            assert other.left("a") == 70, "the sum comes back with the writing"
            one.spend("a", 1)
            one.sync()
            assert one.left("a") == 69, "what is not written yet stays on top"


def test_a_device_may_have_a_limit_of_its_own(database: Database) -> None:
    with quota(database, limit=0) as made:
        made.spend("a", 30)
        assert made.used("a") is None, "nothing is counted"
        made.allow_own_limits()
        made.spend("a", 60)
        assert (made.used("a"), made.used("b")) == (60, 0)
        made.spend("b", 60)
        assert (made.left("a", 100), made.left("b", 50), made.left("a", 0), made.left("a")) == (40, 0, None, None)
        made.adopt(70)
        assert (made.left("a"), made.left("a", 100)) == (10, 40)
        made.flush()
        assert stored(database) == {"a": 60, "b": 60}, "nobody counted before there was a limit"


def test_a_locked_database_costs_the_hot_path_nothing_and_no_count(tmp_path: Path) -> None:
    with opened(tmp_path, busy_timeout=0.2) as database:
        with quota(database) as made:
            with write_lock(tmp_path / "xiaozhi.sqlite", 0):
                made.spend("a", 10)
                assert not made.flush()
                made.spend("a", 10)
                assert made.left("a") == 80
            made.flush()
            assert stored(database) == {"a": 20}


def test_a_database_locked_at_midnight_mixes_no_days(tmp_path: Path) -> None:
    calendar = Calendar()
    with opened(tmp_path, busy_timeout=0.2) as database:
        with quota(database, calendar=calendar) as made:
            with write_lock(tmp_path / "xiaozhi.sqlite", 0):
                made.spend("a", 100)
                assert made.left("a") == 0
                calendar.day = TUESDAY
                assert not made.flush()
                assert made.left("a") == 100
                made.spend("a", 5)
            made.flush()
            made.sync()
            assert (stored(database, MONDAY), stored(database, TUESDAY)) == ({"a": 100}, {"a": 5})
            assert made.left("a") == 95


def test_a_limit_whose_counts_cannot_be_read_is_not_taken(tmp_path: Path) -> None:
    closed = Database(sqlite_url(tmp_path / "never.sqlite"))
    made = OutputQuota(closed, Calendar())
    with pytest.raises(Exception, match="closed"):
        made.adopt(100)
    assert made.limit == 0 and made.left("a") is None
    made.close()


WORKER = """
from gevent import monkey; monkey.patch_all()
import datetime, sys
from xiaozhi.devices.quota import OutputQuota
from xiaozhi.storage.database import Database
database = Database(sys.argv[1])
database.start()
quota = OutputQuota(database, lambda: datetime.date(2026, 11, 16))
quota.adopt(10 ** 9)
for round in range(20):
    for device in range(25):
        quota.spend(f"d{device}", device + 1)
    assert quota.flush()
quota.close()
database.close()
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_processes_that_count_at_once_add_up(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = sqlite_url(tmp_path / "x.sqlite") if engine == "sqlite" else postgres_server(request.config).new_url()
    command = [sys.executable, "-c", WORKER, url]
    workers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    told = [worker.communicate(timeout=60)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    with opened(url) as database:
        assert stored(database) == {f"d{device}": 2 * 20 * (device + 1) for device in range(25)}


def test_a_reader_that_is_gone_is_replaced_and_with_it_the_writer(database: Database) -> None:
    with quota(database) as made:
        before = made.beat
        made.revive()
        assert made.beat >= before
        made.spend("a", 10)
        wait_for(lambda: stored(database) == {"a": 10}, "the writer")
