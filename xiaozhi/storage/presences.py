"""Queries about workers, the connections that each of them serves, and dialogues to resume. Each function runs inside
`Database.run` or `Database.read`. Times: seconds since 1970."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select

from xiaozhi.storage.tables import dialogue, insert, presence, standing_presence, worker, worker_order

ORDER_S: Final = 3600.0
"""After that an order is forgotten."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection of a device to a worker."""

    visit: str
    device: str
    worker: str
    arrived_at: float


@dataclass(frozen=True, slots=True)
class WorkerSign:
    """The last sign of a worker. `websocket`: the address that leads to it, "" when it is not known."""

    worker: str
    websocket: str
    connections: int
    beat_at: float


def heartbeat(connection: Connection, name: str, websocket: str, connections: int, now: float) -> None:
    """A worker is alive. `websocket`: the address that leads to it, "" when it is not known."""
    statement = insert(connection, worker).values(
        worker=name, websocket=websocket, connections=connections, beat_at=now
    )
    changes = {key: statement.excluded[key] for key in ("websocket", "connections", "beat_at")}
    connection.execute(statement.on_conflict_do_update(index_elements=[worker.c.worker], set_=changes))


def tidy(connection: Connection, alive_since: float, said_since: float) -> None:
    """Forget workers that have given no sign since then, with their visits, and dialogues that are too old."""
    connection.execute(delete(worker).where(worker.c.beat_at < alive_since))
    for table in (presence, standing_presence):
        connection.execute(delete(table).where(table.c.worker.not_in(select(worker.c.worker))))
    connection.execute(delete(dialogue).where(~kept_since(said_since)))


def gone(connection: Connection, name: str) -> None:
    """A worker stops."""
    for table in (presence, standing_presence):
        connection.execute(delete(table).where(table.c.worker == name))
    connection.execute(delete(worker).where(worker.c.worker == name))


def order(connection: Connection, name: str, by: str, place: str, action: str, now: float) -> None:
    """Worker `by` was ordered to do something: the others of its place are to do the same. `name`: of this order."""
    connection.execute(delete(worker_order).where(worker_order.c.ordered_at < now - ORDER_S))
    connection.execute(
        insert(connection, worker_order).values(id=name, worker=by, place=place, action=action, ordered_at=now)
    )


def orders(connection: Connection, name: str, place: str) -> dict[str, str]:
    """Orders that other workers of this place than `name` have passed on: name -> action, the oldest first."""
    rows = connection.execute(
        select(worker_order.c.id, worker_order.c.action)
        .where(worker_order.c.place == place, worker_order.c.worker != name)
        .order_by(worker_order.c.ordered_at)
    )
    return {row.id: row.action for row in rows}


def keep(connection: Connection, visits: Mapping[str, Visit | None]) -> None:
    """Visits that have begun, and (None) those that have ended."""
    over = [name for name, visit in visits.items() if visit is None]
    begun = [
        {"visit": visit.visit, "device": visit.device, "worker": visit.worker, "arrived_at": visit.arrived_at}
        for visit in visits.values()
        if visit is not None
    ]
    if over:
        connection.execute(delete(presence).where(presence.c.visit.in_(over)))
    if begun:
        connection.execute(insert(connection, presence).on_conflict_do_nothing(), begun)


def of_devices_that_came_elsewhere(
    connection: Connection, name: str, mine: Collection[str], since: float, alive_since: float
) -> list[Visit]:
    """All visits, wherever they are, of those devices of `mine` that have come to another worker since then."""
    fresh = select(presence.c.device).where(presence.c.arrived_at >= since, presence.c.worker != name)
    moved = [device for device in connection.execute(fresh).scalars() if device in mine]
    if not moved:
        return []
    alive = select(worker.c.worker).where(worker.c.beat_at >= alive_since)
    rows = connection.execute(
        select(presence).where(presence.c.device.in_(moved), (presence.c.worker == name) | presence.c.worker.in_(alive))
    )
    return [Visit(row.visit, row.device, row.worker, row.arrived_at) for row in rows]


def keep_standing(connection: Connection, standing: Mapping[tuple[str, str], float | None]) -> None:
    """Standing connections that have begun, by device and worker, with the time; and (None) those that have ended."""
    for (device, name), since in sorted(standing.items()):
        mine = (standing_presence.c.device == device) & (standing_presence.c.worker == name)
        connection.execute(delete(standing_presence).where(mine))
        if since is not None:
            connection.execute(insert(connection, standing_presence).values(device=device, worker=name, since=since))


def in_conversation_elsewhere(connection: Connection, device: str, name: str, alive_since: float) -> bool:
    """Whether a device is connected to another worker than `name`."""
    alive = select(worker.c.worker).where(worker.c.beat_at >= alive_since)
    elsewhere = (presence.c.device == device) & (presence.c.worker != name) & presence.c.worker.in_(alive)
    return connection.execute(select(presence.c.visit).where(elsewhere).limit(1)).first() is not None


def came_elsewhere(connection: Connection, device: str, name: str, alive_since: float) -> bool:
    """Whether the standing connection of a device to `name` is an old one: it has come to another worker since."""
    alive = select(worker.c.worker).where(worker.c.beat_at >= alive_since)
    query = select(standing_presence).where(standing_presence.c.device == device, standing_presence.c.worker.in_(alive))
    since = {row.worker: row.since for row in connection.execute(query)}
    # One that is not written yet is the newest.
    return name in since and since[name] < max(since.values())


def reachable(connection: Connection, devices: Collection[str], alive_since: float) -> set[str]:
    """Those of these devices that are connected to a worker, or could be told something while they idle."""
    alive = select(worker.c.worker).where(worker.c.beat_at >= alive_since)
    found: set[str] = set()
    for table in (presence, standing_presence):
        query = select(table.c.device).where(table.c.device.in_(list(devices)), table.c.worker.in_(alive))
        found.update(connection.execute(query).scalars())
    return found


def load(connection: Connection, alive_since: float) -> dict[str, int]:
    """Devices connected by WebSocket address, workers behind one address together; addresses that are known only."""
    rows = connection.execute(
        select(worker.c.websocket, func.sum(worker.c.connections))
        .where(worker.c.beat_at >= alive_since, worker.c.websocket != "")
        .group_by(worker.c.websocket)
    )
    return {address: int(count) for address, count in rows}


def workers(connection: Connection, alive_since: float) -> list[WorkerSign]:
    """Those that have given a sign since then, by name."""
    rows = connection.execute(select(worker).where(worker.c.beat_at >= alive_since).order_by(worker.c.worker))
    return [WorkerSign(row.worker, row.websocket, row.connections, row.beat_at) for row in rows]


def kept_since(since: float) -> ColumnElement[bool]:
    """Whether a dialogue is kept from then on or later. A release before version 11 that runs beside this one changes
    `said_at` alone."""
    return or_(dialogue.c.said_at >= since, func.coalesce(dialogue.c.kept_at, 0.0) >= since)


def keep_dialogues(connection: Connection, dialogues: Mapping[tuple[str, str], tuple[bytes, float, float]]) -> None:
    """What was said last, by device id and client id: snapshot, when it was said, from when on it is kept."""
    if not dialogues:
        return
    statement = insert(connection, dialogue)
    changes = {key: statement.excluded[key] for key in ("snapshot", "said_at", "kept_at")}
    newer = statement.on_conflict_do_update(
        index_elements=[dialogue.c.device, dialogue.c.client],
        set_=changes,
        where=dialogue.c.said_at <= statement.excluded.said_at,
    )
    connection.execute(
        newer,
        [
            {"device": device, "client": client, "snapshot": snapshot, "said_at": said_at, "kept_at": kept}
            for (device, client), (snapshot, said_at, kept) in sorted(dialogues.items())
        ],
    )


def dialogues_of(
    connection: Connection, devices: Collection[str], since: float
) -> dict[tuple[str, str], tuple[bytes, float]]:
    """What was said last with these devices, as far as it is kept since then: snapshot, and when it was said."""
    rows = connection.execute(select(dialogue).where(dialogue.c.device.in_(list(devices)), kept_since(since)))
    return {(row.device, row.client): (bytes(row.snapshot), row.said_at) for row in rows}
