"""Queries about timers, alarms and reminders. Each function runs inside `Database.run` or `Database.read`. Times:
seconds since 1970.

One that is due is taken by one worker for the time of a lease; when the worker dies, the lease ends and any worker may
take it. A worker that lost its lease changes nothing: what it writes then asks for its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from xiaozhi.storage.tables import reminder

_columns = reminder.c


@dataclass(frozen=True, slots=True, kw_only=True)
class ReminderRow:
    """One row, see `tables.reminder`."""

    id: str
    device: str
    person: str
    kind: str
    text: str
    language: str
    created_at: float
    due_at: float
    rule: str = ""
    start: str = ""
    rang_at: float | None = None
    again: int = 0
    look_at: float | None
    worker: str = ""


def _rows(connection: Connection, *conditions: ColumnElement[bool]) -> list[ReminderRow]:
    query = select(reminder).where(*conditions).order_by(_columns.due_at, _columns.id)
    return [ReminderRow(**row) for row in connection.execute(query).mappings()]


def _waits() -> ColumnElement[bool]:
    """It is still to come: not over, and not one that rings and does not repeat."""
    return and_(_columns.look_at.is_not(None), or_(_columns.rang_at.is_(None), _columns.rule != ""))


def add(connection: Connection, row: ReminderRow, most: int) -> bool:
    """Keep a new one; False when its device has `most` already."""
    count = select(func.count()).where(_columns.device == row.device, _waits())
    if (connection.execute(count).scalar() or 0) >= most:
        return False
    connection.execute(reminder.insert().values(asdict(row)))
    return True


def of_device(connection: Connection, device: str, person: str | None = None) -> list[ReminderRow]:
    """Those that are still to come, the next one first. `person`: only his."""
    mine = [_columns.person == person] if person is not None else []
    return _rows(connection, _columns.device == device, _waits(), *mine)


def rang_last(connection: Connection, device: str, person: str, since: float) -> ReminderRow | None:
    """The one that was heard last, not before `since`."""
    rows = _rows(connection, _columns.device == device, _columns.person == person, _columns.rang_at >= since)
    return max(rows, key=lambda row: row.rang_at or 0.0, default=None)


def replace(connection: Connection, row: ReminderRow) -> None:
    """Put it in the place of the one with its id, whoever is at that; nothing where it was erased meanwhile."""
    connection.execute(update(reminder).where(_columns.id == row.id).values(asdict(row)))


def erase(connection: Connection, device: str, ids: Sequence[str] | None = None) -> int:
    """Forget some of a device, or everything that is kept of it; how many there were."""
    some = [_columns.id.in_(list(ids))] if ids is not None else []
    return connection.execute(delete(reminder).where(_columns.device == device, *some)).rowcount


# --- for the scheduler ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a look at all of them shows. `next_at`: when there is something to do; None: never. `ringing`: those that
    will be repeated unless their users speak."""

    next_at: float | None
    ringing: Sequence[ReminderRow]


def outlook(connection: Connection, soon: float) -> Outlook:
    """See Outlook. `soon`: until then what rings is repeated. Reads what the index on `look_at` gives, however many
    there are."""
    next_at = connection.execute(select(func.min(_columns.look_at))).scalar()
    return Outlook(next_at, _rows(connection, _columns.look_at <= soon, _columns.again > 0))


def waiting(connection: Connection) -> int:
    """How many are still to come, of all devices. Reads them all."""
    return connection.execute(select(func.count()).where(_waits())).scalar() or 0


def free_stuck(connection: Connection, now: float, stuck_after: float) -> None:
    """A lease that ends after `stuck_after` is longer than any: the clock was set back, and it does not count. Reads
    all that wait."""
    stuck = _columns.worker != "", _columns.look_at > stuck_after
    connection.execute(update(reminder).where(*stuck).values(worker="", look_at=now))


def claim(
    connection: Connection, worker: str, now: float, until: float, *, limit: int, kept_since: float
) -> list[ReminderRow]:
    """Take up to `limit` that are due, the longest due first; they are `worker`'s until `until`. What was over before
    `kept_since` is forgotten."""
    connection.execute(delete(reminder).where(_columns.look_at.is_(None), _columns.rang_at < kept_since))
    query = select(_columns.id).where(_columns.look_at <= now).order_by(_columns.look_at).limit(limit)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)  # SQLite lets one write at a time
    ids = list(connection.execute(query).scalars())
    connection.execute(update(reminder).where(_columns.id.in_(ids)).values(worker=worker, look_at=until))
    return _rows(connection, _columns.id.in_(ids))


def settle(connection: Connection, row: ReminderRow, after: ReminderRow) -> bool:
    """Put `after` in the place of `row`, and nobody is at it any more; False: somebody else is, or its user has changed
    it meanwhile."""
    same = (_columns.id == row.id, _columns.worker == row.worker, _columns.look_at == row.look_at)
    values = {**asdict(after), "worker": ""}
    return connection.execute(update(reminder).where(*same).values(values)).rowcount == 1


def repeating(connection: Connection) -> list[ReminderRow]:
    """All that follow a rule and wait."""
    return _rows(connection, _columns.rule != "", _columns.look_at.is_not(None))
