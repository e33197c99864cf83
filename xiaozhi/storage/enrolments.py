"""Queries about the client id that each device is enrolled with, and about those who wait for an operator's approval.
Each function runs inside `Database.run`. Times: seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from xiaozhi.storage.tables import enrolment, insert, waiting_device


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The client id of a device, and why it was believed."""

    client: str
    how: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody waits for approval: the code that is shown to its owner, the challenge that it may answer."""

    device: str
    client: str
    code: str
    challenge: str
    address: str
    asked_at: float


def of(connection: Connection, device: str) -> Enrolled | None:
    """How a device is enrolled; None when it is not."""
    row = connection.execute(select(enrolment).where(enrolment.c.device == device)).first()
    return None if row is None else Enrolled(row.client, row.how)


def enrol(connection: Connection, device: str, client: str, now: float, *, how: str = "", address: str = "") -> str:
    """The client id of a device; it is `client` if there was none."""
    statement = insert(connection, enrolment).values(
        device=device, client=client, enrolled_at=now, how=how, address=address
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=[enrolment.c.device]))
    found = connection.execute(select(enrolment.c.client).where(enrolment.c.device == device)).scalar()
    return str(found or "")


def replace(connection: Connection, device: str, client: str, now: float, *, how: str, address: str) -> None:
    """The device is enrolled with this client id, whichever it was before."""
    forget(connection, device)
    enrol(connection, device, client, now, how=how, address=address)


def forget(connection: Connection, device: str) -> bool:
    """The next one that asks as this device is enrolled; False when none was."""
    return connection.execute(delete(enrolment).where(enrolment.c.device == device)).rowcount > 0


def wait(connection: Connection, new: Waiting, kept_since: float) -> Waiting:
    """`new` waits from now on, or has been waiting (then with its code of before); without a code when that of `new` is
    taken. Who has waited since before `kept_since` is forgotten."""
    connection.execute(delete(waiting_device).where(waiting_device.c.asked_at < kept_since))
    statement = insert(connection, waiting_device).values(
        device=new.device,
        client=new.client,
        code=new.code,
        challenge=new.challenge,
        address=new.address,
        asked_at=new.asked_at,
    )
    connection.execute(statement.on_conflict_do_nothing())
    here = (waiting_device.c.device == new.device) & (waiting_device.c.client == new.client)
    row = connection.execute(select(waiting_device).where(here)).first()
    if row is None:  # the code was taken
        return Waiting(new.device, new.client, "", "", new.address, new.asked_at)
    if row.address != new.address:
        connection.execute(update(waiting_device).where(here).values(address=new.address))
    return Waiting(row.device, row.client, row.code, row.challenge, new.address, row.asked_at)


def waiting(connection: Connection, *, code: str = "", device: str = "", client: str | None = None) -> list[Waiting]:
    """Those who wait under a code, or as a device (and client id)."""
    query = select(waiting_device)
    if code:
        query = query.where(waiting_device.c.code == code)
    if device:
        query = query.where(waiting_device.c.device == device)
    if client is not None:
        query = query.where(waiting_device.c.client == client)
    return [
        Waiting(row.device, row.client, row.code, row.challenge, row.address, row.asked_at)
        for row in connection.execute(query)
    ]


def count_waiting(connection: Connection, since: float = 0.0) -> int:
    """How many wait, and first asked after `since`."""
    here = waiting_device.c.asked_at >= since
    return connection.execute(select(func.count()).select_from(waiting_device).where(here)).scalar_one()


def stop_waiting(connection: Connection, device: str, client: str | None = None) -> None:
    """Nobody waits as this device any more; with `client`: this one does not."""
    statement = delete(waiting_device).where(waiting_device.c.device == device)
    if client is not None:
        statement = statement.where(waiting_device.c.client == client)
    connection.execute(statement)
