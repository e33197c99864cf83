"""Queries about the client id that each device is enrolled with. Each function runs inside `Database.run`."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from xiaozhi.storage.tables import enrolment, insert


def enrol(connection: Connection, device: str, client: str, now: float) -> str:
    """The client id of a device; it is `client` if there was none. `now`: seconds since 1970."""
    statement = insert(connection, enrolment).values(device=device, client=client, enrolled_at=now)
    connection.execute(statement.on_conflict_do_nothing(index_elements=[enrolment.c.device]))
    found = connection.execute(select(enrolment.c.client).where(enrolment.c.device == device)).scalar()
    return str(found or "")


def forget(connection: Connection, device: str) -> bool:
    """The next one that asks as this device is enrolled; False when none was."""
    return connection.execute(delete(enrolment).where(enrolment.c.device == device)).rowcount > 0
