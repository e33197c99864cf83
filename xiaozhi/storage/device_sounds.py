"""Queries about sounds that devices were told to fetch. Each function runs inside `Database.run` or `Database.read`.
Times: seconds since 1970."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select, update

from xiaozhi.storage.tables import device_sound, insert

_columns = device_sound.c


def keep(
    connection: Connection,
    name: str,
    device: str,
    sound: bytes,
    *,
    now: float,
    expires_at: float,
    count: int,
    size: int,
) -> None:
    """Keep a sound; the oldest go when there are more than `count`, or more than `size` bytes of them together."""
    connection.execute(delete(device_sound).where(_columns.expires_at <= now))
    row = {"name": name, "device": device, "made_at": now, "expires_at": expires_at, "size": len(sound), "sound": sound}
    connection.execute(insert(connection, device_sound).values(**row))
    held = 0
    newest_first = select(_columns.name, _columns.size).order_by(_columns.made_at.desc(), _columns.name)
    for number, kept in enumerate(connection.execute(newest_first).all()):
        held += kept.size
        if number >= count or (held > size and kept.name != name):
            connection.execute(delete(device_sound).where(_columns.name == kept.name))


def of(connection: Connection, name: str, now: float) -> bytes | None:
    """A sound; None when there is none of this name (any more)."""
    query = select(_columns.sound).where(_columns.name == name, _columns.expires_at > now)
    found = connection.execute(query).scalar()
    return None if found is None else bytes(found)


def note_fetched(connection: Connection, name: str, now: float) -> None:
    """Its device has fetched it."""
    first = (_columns.name == name) & _columns.fetched_at.is_(None)
    connection.execute(update(device_sound).where(first).values(fetched_at=now))


def was_fetched(connection: Connection, name: str) -> bool:
    """Whether its device has fetched it."""
    query = (
        select(func.count()).select_from(device_sound).where(_columns.name == name, _columns.fetched_at.is_not(None))
    )
    return bool(connection.execute(query).scalar())
