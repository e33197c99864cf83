"""Queries about the console: the hash of its password, and what was changed by it. Each function runs inside
`Database.run`. Times: seconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from xiaozhi.storage.tables import console_change, console_password, insert

_THE_ONE = 1


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `who`: "local" or "owner"."""

    at: float
    who: str
    address: str
    what: str
    details: Mapping[str, Any]


def password_hash(connection: Connection) -> str:
    """The hash in force, "" before the first."""
    return str(connection.execute(select(console_password.c.hash)).scalar() or "")


def set_first_password(connection: Connection, hashed: str, now: float) -> bool:
    """Keep it unless there is one; whether it was kept. Of several workers that start at once the first one decides."""
    statement = insert(connection, console_password).values(id=_THE_ONE, hash=hashed, made_at=now)
    kept = connection.execute(statement.on_conflict_do_nothing(index_elements=[console_password.c.id]))
    return kept.rowcount > 0


def change_password(connection: Connection, hashed: str, now: float) -> None:
    """Replace it."""
    if not set_first_password(connection, hashed, now):
        connection.execute(update(console_password).values(hash=hashed, made_at=now))


def note(connection: Connection, entry: AuditEntry, kept: int) -> None:
    """Write a change down; of all, the latest `kept` stay."""
    connection.execute(
        console_change.insert().values(
            at=entry.at, who=entry.who, address=entry.address, what=entry.what, details=dict(entry.details)
        )
    )
    newest = connection.execute(select(func.max(console_change.c.id))).scalar() or 0
    connection.execute(delete(console_change).where(console_change.c.id <= newest - kept))


def latest(connection: Connection, count: int) -> list[AuditEntry]:
    """The latest changes, newest first."""
    rows = connection.execute(select(console_change).order_by(console_change.c.id.desc()).limit(count))
    return [AuditEntry(row.at, row.who, row.address, row.what, row.details) for row in rows]
