"""Queries about messages for devices. Each function runs inside `Database.run` or `Database.read`. Times: seconds since
1970.

A message is claimed by one worker for the time of a lease, which it renews while it delivers it; when the worker dies,
the lease ends and the message waits again. A worker that lost its lease changes nothing: every change asks for its
owner. States are those of `devices/messages.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from xiaozhi.storage import presences
from xiaozhi.storage.tables import device_message, insert

WAITING = "waiting"
OPEN = (WAITING, "speaking")
"""States that are not final."""
_columns = device_message.c


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One row. `body`: what only its sender and who delivers it look at."""

    id: str
    device: str
    kind: str
    body: Mapping[str, Any]
    created_at: float
    due_at: float
    expires_at: float
    key: str = ""
    state: str = WAITING
    reason: str = ""
    owner: str = ""


_KEPT = tuple(field.name for field in fields(StoredMessage))


def keep(
    connection: Connection,
    messages: Sequence[StoredMessage],
    *,
    per_device: int,
    total: int,
    alive_since: float,
    here: Collection[str],
    away: str,
) -> list[tuple[StoredMessage | None, bool]]:
    """(each as it is kept, whether it is new): of two with one key and device the first; None: too many wait, for this
    device or for all. `here`: devices that this worker reaches. `away`: the reason of those that none
    reaches."""
    waiting = select(func.count()).select_from(device_message).where(_columns.state.in_(OPEN))
    room = total - int(connection.execute(waiting).scalar() or 0)
    reachable = presences.reachable(connection, {message.device for message in messages}, alive_since) | set(here)
    kept: list[tuple[StoredMessage | None, bool]] = []
    for new in messages:
        known = _with_key(connection, new)
        if known is not None:
            kept.append((known, False))
            continue
        mine = int(connection.execute(waiting.where(_columns.device == new.device)).scalar() or 0)
        if room <= 0 or mine >= per_device:
            kept.append((None, False))
            continue
        room -= 1
        made = replace(new, state=WAITING, owner="", reason="" if new.device in reachable else away)
        values = {**{name: getattr(made, name) for name in _KEPT}, "key": new.key or None}
        # With PostgreSQL another worker may keep one of the same key in this moment.
        statement = insert(connection, device_message).values(
            **values, touched_at=new.created_at, next_at=new.expires_at
        )
        fresh = bool(connection.execute(statement.on_conflict_do_nothing()).rowcount)
        kept.append((made if fresh else _with_key(connection, new), fresh))
    return kept


def _with_key(connection: Connection, message: StoredMessage) -> StoredMessage | None:
    if not message.key:
        return None
    same = select(device_message).where(_columns.device == message.device, _columns.key == message.key)
    row = connection.execute(same).first()
    return None if row is None else _stored(row)


def of(connection: Connection, ids: Collection[str]) -> dict[str, StoredMessage]:
    """These messages, as far as they are kept."""
    query = select(device_message).where(_columns.id.in_(list(ids)))
    return {row.id: _stored(row) for row in connection.execute(query)}


def page(connection: Connection, *, device: str, only_open: bool, limit: int) -> list[StoredMessage]:
    """Messages, the newest first. `device`: "" for those of all."""
    query = select(device_message).order_by(_columns.created_at.desc(), _columns.id).limit(limit)
    if device:
        query = query.where(_columns.device == device)
    if only_open:
        query = query.where(_columns.state.in_(OPEN))
    return [_stored(row) for row in connection.execute(query)]


def waiting_for(connection: Connection, device: str, limit: int) -> list[StoredMessage]:
    """Messages of a device that nobody is at, those first that are due first."""
    query = (
        select(device_message)
        .where(_columns.device == device, _columns.state == WAITING, _columns.owner == "")
        .order_by(_columns.due_at, _columns.created_at, _columns.id)
        .limit(limit)
    )
    return [_stored(row) for row in connection.execute(query)]


def claim(connection: Connection, id: str, owner: str, until: float, reason: str) -> bool:
    """Whether `owner` is at it now, until then; False: somebody else is, or it has settled."""
    values = {"owner": owner, "next_at": until, "reason": reason}
    return bool(connection.execute(update(device_message).where(_free(id)).values(values)).rowcount)


def renew(connection: Connection, id: str, owner: str, until: float, state: str, reason: str) -> bool:
    """`owner` is still at it; False: it has lost it."""
    values = {"next_at": until, "state": state, "reason": reason}
    return bool(connection.execute(update(device_message).where(_mine(id, owner)).values(values)).rowcount)


def settle(
    connection: Connection, id: str, owner: str, state: str, reason: str, *, now: float, forget_at: float
) -> bool:
    """It is done with; False: `owner` had lost it."""
    values = {"owner": "", "state": state, "reason": reason, "touched_at": now, "next_at": forget_at}
    return bool(connection.execute(update(device_message).where(_mine(id, owner)).values(values)).rowcount)


def cancel(connection: Connection, id: str, state: str, *, now: float, forget_at: float) -> StoredMessage | None:
    """Settle a message that waits and that nobody is at; None: there is no such one."""
    row = connection.execute(select(device_message).where(_free(id))).first()
    values = {"state": state, "reason": "", "touched_at": now, "next_at": forget_at}
    if row is None or not connection.execute(update(device_message).where(_free(id)).values(values)).rowcount:
        return None
    return _stored(row)


def put_back(connection: Connection, id: str, owner: str, reason: str, now: float) -> None:
    """It could not be delivered now: anybody may try."""
    values = {"owner": "", "state": WAITING, "reason": reason, "touched_at": now, "next_at": _columns.expires_at}
    connection.execute(update(device_message).where(_mine(id, owner)).values(values))


def explain(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Why messages wait, by id."""
    for id, reason in reasons.items():
        connection.execute(update(device_message).where(_free(id)).values(reason=reason))


def let_go(connection: Connection, owner: str, now: float) -> None:
    """`owner` stops: what it is at waits again."""
    values = {"owner": "", "state": WAITING, "touched_at": now, "next_at": _columns.expires_at}
    connection.execute(update(device_message).where(_columns.owner == owner).values(values))


@dataclass(frozen=True, slots=True)
class MessageLook:
    """What a look has found. `any_waits`: some message waits. `touched`: devices of which a message was touched lately,
    with the latest time. `overdue`: `tend` has something to do. `states`: of messages that were asked for, by id."""

    any_waits: bool
    touched: Mapping[str, float]
    overdue: bool
    states: Mapping[str, str]


def look(connection: Connection, since: float, now: float, ids: Collection[str]) -> MessageLook:
    """`since`: touched lately means since then. `ids`: messages whose states are asked for."""
    waits = _columns.state == WAITING
    any_waits = connection.execute(select(_columns.id).where(waits).limit(1)).first() is not None
    touched: dict[str, float] = {}
    if any_waits:
        latest = select(_columns.device, func.max(_columns.touched_at)).where(_columns.touched_at >= since, waits)
        touched = {device: float(at) for device, at in connection.execute(latest.group_by(_columns.device))}
    overdue = connection.execute(select(_columns.id).where(_columns.next_at <= now).limit(1)).first()
    states: dict[str, str] = {}
    if ids:
        asked = select(_columns.id, _columns.state).where(_columns.id.in_(list(ids)))
        states = {row.id: row.state for row in connection.execute(asked)}
    return MessageLook(any_waits, touched, overdue is not None, states)


def tend(connection: Connection, now: float, *, forget_at: float, expired: str) -> list[StoredMessage]:
    """Messages whose owner has died wait again, those past their time expire (returned), those settled long ago are
    forgotten."""
    overdue = _columns.next_at <= now
    connection.execute(delete(device_message).where(overdue, _columns.state.not_in(OPEN)))
    lapsed = update(device_message).where(overdue, _columns.owner != "", _columns.expires_at > now)
    connection.execute(
        lapsed.values(
            owner="", state=WAITING, reason="the worker at it has gone", touched_at=now, next_at=_columns.expires_at
        )
    )
    late = connection.execute(select(device_message).where(overdue, _columns.state.in_(OPEN))).all()
    for row in late:
        reason = f"{expired}: {row.reason}" if row.reason else expired
        connection.execute(
            update(device_message)
            .where(_columns.id == row.id)
            .values(owner="", state="expired", reason=reason, touched_at=now, next_at=forget_at)
        )
    return [_stored(row) for row in late]


def _free(id: str) -> Any:
    return (_columns.id == id) & (_columns.state == WAITING) & (_columns.owner == "")


def _mine(id: str, owner: str) -> Any:
    return (_columns.id == id) & (_columns.owner == owner) & _columns.state.in_(OPEN)


def _stored(row: Row[Any]) -> StoredMessage:
    return StoredMessage(
        row.id,
        row.device,
        row.kind,
        row.body,
        row.created_at,
        row.due_at,
        row.expires_at,
        row.key or "",
        row.state,
        row.reason,
        row.owner,
    )
