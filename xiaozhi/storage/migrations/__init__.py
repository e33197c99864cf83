"""Brings the tables of a database up to date, one numbered step after the other, in one transaction and under a lock.
 A step is a module here with `upgrade(connection)`, listed in `STEPS`. A step that was released is never changed: it
writes its tables out instead of importing those of today. There is no way down: a database that is newer than the code
is refused.
 Several workers of one machine may start at once. SQLite lets one of them write at a time (the transaction began with
BEGIN IMMEDIATE); for PostgreSQL an advisory lock does the same, and ends with the transaction.
 Why not Alembic: it would add two packages and 140 ms to every start (measured) for branches, downgrades and generated
scripts. Numbered steps in one line need none of it, and the lock, the refusal of newer databases and the start from
inside the package would be ours to write anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sqlalchemy import Column, Connection, Double, Integer, MetaData, Table, func, inspect, select

from xiaozhi.errors import XiaozhiError
from xiaozhi.storage.migrations import (
    m0001_quota_and_memories,
    m0002_enrolment,
    m0003_history,
    m0004_devices,
    m0005_orders,
    m0006_console,
    m0007_device_pages,
    m0008_messages,
    m0009_reminders,
    m0010_voices,
    m0011_dialogue_times,
)

Step = Callable[[Connection], None]

STEPS: Mapping[int, Step] = {
    1: m0001_quota_and_memories.upgrade,
    2: m0002_enrolment.upgrade,
    3: m0003_history.upgrade,
    4: m0004_devices.upgrade,
    5: m0005_orders.upgrade,
    6: m0006_console.upgrade,
    7: m0007_device_pages.upgrade,
    8: m0008_messages.upgrade,
    9: m0009_reminders.upgrade,
    10: m0010_voices.upgrade,
    11: m0011_dialogue_times.upgrade,
}
LATEST = max(STEPS)

_LOCK = 0x7869616F7A6869
"""Number of the advisory lock in PostgreSQL: any that nobody else uses."""

schema_version = Table(
    "schema_version",
    MetaData(),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", Double, nullable=False),
)
"""One row for each step that was taken. `applied_at`: seconds since 1970."""


class NewerDatabase(XiaozhiError):
    """The database was upgraded by a later version of the server."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"a database of version {known} or older, not {found}: start the newer server that upgraded it, or restore "
            "the backup from before"
        )


def version_of(connection: Connection, latest: int = LATEST) -> int:
    """The number of the last step taken; 0 for an empty database. Raises NewerDatabase."""
    if not inspect(connection).has_table(schema_version.name):
        return 0
    found = int(connection.execute(select(func.max(schema_version.c.version))).scalar() or 0)
    if found > latest:
        raise NewerDatabase(found, latest)
    return found


def upgrade(connection: Connection, steps: Mapping[int, Step] = STEPS) -> tuple[int, int]:
    """Take the steps that are missing, within the caller's transaction; (version found, version now). Raises
    NewerDatabase."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    found = version_of(connection, max(steps))
    schema_version.create(connection, checkfirst=True)
    missing = sorted(number for number in steps if number > found)
    for number in missing:
        steps[number](connection)
        connection.execute(schema_version.insert().values(version=number, applied_at=time.time()))
    return found, missing[-1] if missing else found
