"""Queries about visits whose memory is not saved yet. Each function runs inside `Database.run` or `Database.read`.
 A visit is taken by one worker for the time of a lease, which it renews while it is at work; when the worker dies, the
lease ends and any worker may take the visit. A worker that lost its lease changes nothing: every change asks for its
owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from xiaozhi.storage.tables import insert, pending_memory

_columns = pending_memory.c

Said = tuple[tuple[str, str], ...]
"""(role, content) in order."""


@dataclass(frozen=True, slots=True)
class PendingVisit:
    """One row. `attempts`: how often saving has failed."""

    id: str
    device: str
    session: str
    said: Said
    created_at: float
    attempts: int = 0


def accept(
    connection: Connection,
    mine: Sequence[PendingVisit],
    owner: str,
    until: float,
    others: Sequence[tuple[PendingVisit, float]] = (),
) -> None:
    """Add visits that `owner` is at until `until`, and others with the time when they are due. A row that is `owner`'s
    already is replaced; one of somebody else stays as it is."""
    rows = [_row(visit, owner, until) for visit in mine] + [_row(visit, "", due_at) for visit, due_at in others]
    if not rows:
        return
    new = insert(connection, pending_memory)
    changes = {name: new.excluded[name] for name in ("said", "attempts", "due_at", "owner")}
    mine_only = new.on_conflict_do_update(index_elements=[_columns.id], set_=changes, where=_columns.owner == owner)
    connection.execute(mine_only, rows)


def any_due(connection: Connection, now: float) -> bool:
    """Whether a worker may take one."""
    return connection.execute(select(_columns.id).where(_columns.due_at <= now).limit(1)).first() is not None


def claim(
    connection: Connection, owner: str, now: float, until: float, *, limit: int, kept_since: float
) -> tuple[list[PendingVisit], int]:
    """Take up to `limit` visits that are due, the oldest first; they are `owner`'s until `until`.

    Those that nobody could save since `kept_since` are given up: the second value is their number."""
    given_up = connection.execute(delete(pending_memory).where(_columns.created_at < kept_since)).rowcount
    due = select(_columns.id).where(_columns.due_at <= now).order_by(_columns.created_at).limit(limit)
    if connection.dialect.name == "postgresql":
        due = due.with_for_update(skip_locked=True)  # SQLite lets one write at a time
    ids = [id for (id,) in connection.execute(due)]
    rows = connection.execute(select(pending_memory).where(_columns.id.in_(ids)).order_by(_columns.created_at)).all()
    connection.execute(update(pending_memory).where(_columns.id.in_(ids)).values(owner=owner, due_at=until))
    return [
        PendingVisit(
            row.id,
            row.device,
            row.session,
            tuple((role, content) for role, content in row.said),
            row.created_at,
            row.attempts,
        )
        for row in rows
    ], given_up


def tend(connection: Connection, owner: str, held: Sequence[str], until: float, finished: Sequence[str]) -> None:
    """`owner` is still at work with the visits `held`, and done with those `finished`."""
    connection.execute(
        update(pending_memory).where(_columns.id.in_(held), _columns.owner == owner).values(due_at=until)
    )
    remove(connection, owner, finished)


def remove(connection: Connection, owner: str, ids: Sequence[str]) -> None:
    """`owner` is done with these visits."""
    connection.execute(delete(pending_memory).where(_columns.id.in_(ids), _columns.owner == owner))


def put_back(connection: Connection, owner: str, id: str, attempts: int, due_at: float) -> None:
    """Saving has failed; anybody may try again from `due_at` on."""
    connection.execute(
        update(pending_memory)
        .where(_columns.id == id, _columns.owner == owner)
        .values(owner="", attempts=attempts, due_at=due_at)
    )


def let_go(
    connection: Connection, owner: str, loose: Sequence[PendingVisit], finished: Sequence[str], now: float
) -> None:
    """`owner` stops: what it holds, `loose` visits that are no rows yet included, is due at once for anybody."""
    accept(connection, (), owner, now, [(visit, now) for visit in loose])
    remove(connection, owner, finished)
    connection.execute(update(pending_memory).where(_columns.owner == owner).values(owner="", due_at=now))


def _row(visit: PendingVisit, owner: str, due_at: float) -> dict[str, Any]:
    return {
        "id": visit.id,
        "device": visit.device,
        "session": visit.session,
        "said": [list(line) for line in visit.said],
        "created_at": visit.created_at,
        "attempts": visit.attempts,
        "due_at": due_at,
        "owner": owner,
    }
