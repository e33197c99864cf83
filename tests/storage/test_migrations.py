"""Migrations: from nothing, from an older version, several starts at once, a database that is newer than the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select

from tests.databases import opened
from xiaozhi.errors import SettingsError
from xiaozhi.storage import migrations
from xiaozhi.storage.database import Database
from xiaozhi.storage.migrations import LATEST, STEPS, NewerDatabase, schema_version
from xiaozhi.storage.tables import metadata

ROOT = Path(__file__).resolve().parent.parent.parent

Shape = dict[str, tuple[list[tuple[str, str, bool]], list[str], list[list[str | None]]]]


def shape(connection: Connection) -> Shape:
    """Columns (name, type, nullable), primary key and indexes of every table."""
    found = inspect(connection)
    return {
        name: (
            [(column["name"], str(column["type"]), bool(column["nullable"])) for column in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            [index["column_names"] for index in found.get_indexes(name)],
        )
        for name in found.get_table_names()
        if name != schema_version.name
    }


def versions(connection: Connection) -> list[int]:
    """The steps that were taken, in order."""
    return list(connection.execute(select(schema_version.c.version).order_by(schema_version.c.version)).scalars())


def test_from_nothing_to_today(url: str) -> None:
    database = Database(url)
    assert database.start() == (0, LATEST)
    assert database.read(versions) == sorted(STEPS)
    migrated = database.read(shape)

    database.run(lambda connection: metadata.drop_all(connection))
    database.run(lambda connection: metadata.create_all(connection))
    assert database.read(shape) == migrated, "tables.py and the migrations tell the same"
    database.close()


def test_a_second_start_changes_nothing(url: str) -> None:
    with opened(url):
        pass
    database = Database(url)
    assert database.start() == (LATEST, LATEST)
    database.close()


def test_from_an_older_version_only_what_is_missing(database: Database) -> None:
    def add_table(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE later (x INTEGER)")

    steps = {**STEPS, LATEST + 1: add_table}
    assert database.run(lambda connection: migrations.upgrade(connection, steps)) == (LATEST, LATEST + 1)
    assert database.run(lambda connection: migrations.upgrade(connection, steps)) == (LATEST + 1, LATEST + 1)
    assert "later" in database.read(shape)


def test_a_step_that_fails_leaves_the_database_as_it_was(database: Database) -> None:
    def half(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (x INTEGER)")
        raise RuntimeError("the step is broken")

    with pytest.raises(RuntimeError, match="broken"):
        database.run(lambda connection: migrations.upgrade(connection, {**STEPS, LATEST + 1: half}))
    assert "half" not in database.read(shape)
    assert database.read(versions) == sorted(STEPS)


def test_a_database_newer_than_the_code_is_refused(url: str) -> None:
    with opened(url) as database:
        database.run(
            lambda connection: connection.execute(schema_version.insert().values(version=LATEST + 1, applied_at=1.0))
        )
        with pytest.raises(NewerDatabase):
            database.run(migrations.upgrade)
    newer = Database(url)
    with pytest.raises(SettingsError, match=f"version {LATEST} or older, not {LATEST + 1}.*start the newer server"):
        newer.start()
    newer.close()


START = """
from gevent import monkey; monkey.patch_all()
import sys
from xiaozhi.storage.database import Database
database = Database(sys.argv[1])
print(*database.start())
database.close()
"""


def test_workers_that_start_at_once(url: str) -> None:
    command = [sys.executable, "-c", START, url]
    workers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    told = [worker.communicate(timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, told
    said = [out.decode().splitlines()[-1].split() for out, _ in told]  # behind log lines of a slow start
    found = sorted(words[0] for words in said)
    assert found.count("0") >= 1 and {words[1] for words in said} == {str(LATEST)}
    with opened(url) as database:
        assert database.read(versions) == sorted(STEPS)
