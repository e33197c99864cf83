"""Queries about the voices of people. Each function runs inside `Database.run` or `Database.read`. `owner`: the name
under which the user of a device is remembered. Times: seconds since 1970."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, true

from xiaozhi.speech.voice_likeness import KnownVoice, VoiceSample
from xiaozhi.storage.tables import insert, voice


@dataclass(frozen=True, slots=True)
class KeptVoice:
    """A person's voice with what is told of it."""

    owner: str
    known: KnownVoice
    made_at: float
    consent: str


def of(connection: Connection, owner: str) -> list[KnownVoice]:
    """The people of this user, in the order of their names."""
    query = select(voice).where(voice.c.owner == owner).order_by(voice.c.person)
    return [
        KnownVoice(row.name, VoiceSample(row.model, bytes(row.vector), row.seconds))
        for row in connection.execute(query)
    ]


def everyone(connection: Connection) -> Sequence[KeptVoice]:
    """The people of all users."""
    return _kept(connection, true())


def of_device(connection: Connection, device: str) -> list[KeptVoice]:
    """The people of all who used a device."""
    return _kept(connection, _used(device))


def _kept(connection: Connection, condition: ColumnElement[bool]) -> list[KeptVoice]:
    return [
        KeptVoice(
            row.owner,
            KnownVoice(row.name, VoiceSample(row.model, bytes(row.vector), row.seconds)),
            row.made_at,
            row.consent,
        )
        for row in connection.execute(select(voice).where(condition).order_by(voice.c.owner, voice.c.person))
    ]


def _used(device: str) -> ColumnElement[bool]:
    return or_(voice.c.owner == device, voice.c.owner.startswith(f"{device}@", autoescape=True))


def keep(connection: Connection, kept: KeptVoice, most: int) -> bool:
    """Put a voice in the place of the one of this name; False when the user has `most` others."""
    person = _folded(kept.known.name)
    others = select(func.count()).where(voice.c.owner == kept.owner, voice.c.person != person)
    if (connection.execute(others).scalar() or 0) >= most:
        return False
    sample = kept.known.sample
    row = {
        "owner": kept.owner,
        "person": person,
        "name": kept.known.name,
        "model": sample.model,
        "vector": sample.vector,
        "seconds": sample.seconds,
        "made_at": kept.made_at,
        "consent": kept.consent,
    }
    statement = insert(connection, voice).values(**row)
    changes = {name: statement.excluded[name] for name in row if name not in ("owner", "person")}
    connection.execute(statement.on_conflict_do_update(index_elements=[voice.c.owner, voice.c.person], set_=changes))
    return True


def erase(connection: Connection, owner: str, name: str = "") -> list[str]:
    """Erase a person's voice, or with "" all of this user; the names that are gone."""
    here = voice.c.owner == owner
    if name:
        here &= voice.c.person == _folded(name)
    gone = list(connection.execute(select(voice.c.name).where(here).order_by(voice.c.person)).scalars())
    connection.execute(delete(voice).where(here))
    return gone


def erase_device(connection: Connection, device: str) -> int:
    """Erase the voices of everybody who used a device; how many there were."""
    return connection.execute(delete(voice).where(_used(device))).rowcount


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
