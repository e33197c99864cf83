"""Queries about what was said: sessions, their turns, their sounds. Each function runs inside `Database.run` or
`Database.read`. Times are seconds since 1970, devices in their normal form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from xiaozhi.storage.tables import history_erasure, history_session, history_sound, history_turn, insert

_SESSION, _TURN, _SOUND = history_session.c, history_turn.c, history_sound.c


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session. `ended_at`: None while it goes on."""

    id: str
    device: str
    client: str
    began_at: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One turn. `spoken`, `tools`, `timings`: as `history.entries.HistoryEntry` has them, as JSON."""

    session: str
    turn: int
    at: float
    said: str
    spoken: Sequence[str]
    tools: Sequence[Mapping[str, Any]]
    outcome: str
    reason: str
    announcement: bool
    timings: Mapping[str, int]
    speaker: str


@dataclass(frozen=True, slots=True)
class HistoryTotals:
    """How much there is. `since`: the oldest turn; None when there is none."""

    sessions: int
    turns: int
    sounds: int
    sound_bytes: int
    since: float | None


def add(
    connection: Connection, session: SessionRow, turns: Sequence[TurnRow], sounds: Sequence[tuple[int, float, bytes]]
) -> int:
    """Add turns of one session, and sounds (turn, at, sound); how many turns were new. Those that are there stay as
    they are; those said before the history of the device or of the session was erased are left out."""
    erased_at = connection.execute(
        select(func.max(history_erasure.c.erased_at)).where(history_erasure.c.device.in_([session.device, session.id]))
    ).scalar()
    fresh = [turn for turn in turns if erased_at is None or turn.at > erased_at]
    if not fresh:
        return 0
    row = {"id": session.id, "device": session.device, "client": session.client, "began_at": session.began_at}
    connection.execute(insert(connection, history_session).on_conflict_do_nothing(), [row])
    rows = [{name: getattr(turn, name) for name in TurnRow.__slots__} for turn in fresh]
    added = connection.execute(insert(connection, history_turn).on_conflict_do_nothing(), rows).rowcount
    kept = {turn.turn for turn in fresh}
    sound_rows = [
        {"session": session.id, "turn": turn, "at": at, "sound": sound} for turn, at, sound in sounds if turn in kept
    ]
    if sound_rows:
        connection.execute(insert(connection, history_sound).on_conflict_do_nothing(), sound_rows)
    return added


def end(connection: Connection, session: str, ended_at: float) -> None:
    """A session is over."""
    connection.execute(update(history_session).where(_SESSION.id == session).values(ended_at=ended_at))


def sessions_of(connection: Connection, device: str) -> list[SessionRow]:
    """The sessions of a device, the oldest first."""
    rows = connection.execute(
        select(_SESSION.id, _SESSION.device, _SESSION.client, _SESSION.began_at, _SESSION.ended_at)
        .where(_SESSION.device == device)
        .order_by(_SESSION.began_at)
    )
    return [SessionRow(*row) for row in rows]


def newest_turns(connection: Connection, device: str, limit: int) -> list[TurnRow]:
    """The last turns of a device, the oldest of them first."""
    found = _turns().where(_TURN.session.in_(_sessions(_SESSION.device == device)))
    rows = connection.execute(found.order_by(_TURN.at.desc(), _TURN.turn.desc()).limit(limit)).all()
    return [TurnRow(*row) for row in reversed(rows)]


def turns_of(connection: Connection, session: str) -> list[TurnRow]:
    """The turns of a session in order."""
    return [TurnRow(*row) for row in connection.execute(_turns().where(_TURN.session == session).order_by(_TURN.turn))]


def sound_turns_of(connection: Connection, session: str) -> list[int]:
    """The turns of a session whose sound is kept, in order."""
    rows = connection.execute(select(_SOUND.turn).where(_SOUND.session == session).order_by(_SOUND.turn))
    return [turn for (turn,) in rows]


def sound_of(connection: Connection, session: str, turn: int) -> bytes | None:
    """The sound of a turn; None when it is not kept (any more)."""
    found = select(_SOUND.sound).where(_SOUND.session == session, _SOUND.turn == turn)
    sound: bytes | None = connection.execute(found).scalar()
    return sound


def erase(connection: Connection, device: str, now: float) -> tuple[int, int]:
    """Remove everything of a device, and take nothing more that was said before `now`; (turns, sounds) removed."""
    return _erase(connection, _SESSION.device == device, device, now)


def erase_session(connection: Connection, session: str, now: float) -> tuple[int, int]:
    """The same for one session."""
    return _erase(connection, _SESSION.id == session, session, now)


def _erase(connection: Connection, which: ColumnElement[bool], name: str, now: float) -> tuple[int, int]:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")  # overwritten, not only marked as free
    sessions = _sessions(which)
    sounds = connection.execute(delete(history_sound).where(_SOUND.session.in_(sessions))).rowcount
    turns = connection.execute(delete(history_turn).where(_TURN.session.in_(sessions))).rowcount
    connection.execute(delete(history_session).where(which))
    statement = insert(connection, history_erasure).values(device=name, erased_at=now)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[history_erasure.c.device], set_={"erased_at": statement.excluded.erased_at}
        )
    )
    return turns, sounds


def expire(connection: Connection, turns_before: float, sounds_before: float, limit: int) -> int:
    """Remove up to `limit` turns and as many sounds that are older than that, and sessions without turns; how many
    there were of the more numerous."""
    old_sounds = select(_SOUND.session, _SOUND.turn).where(_SOUND.at < max(sounds_before, turns_before)).limit(limit)
    sounds = connection.execute(
        delete(history_sound).where(tuple_(_SOUND.session, _SOUND.turn).in_(old_sounds))
    ).rowcount
    old_turns = select(_TURN.session, _TURN.turn).where(_TURN.at < turns_before).limit(limit)
    turns = connection.execute(delete(history_turn).where(tuple_(_TURN.session, _TURN.turn).in_(old_turns))).rowcount
    if turns:
        empty = ~select(_TURN.turn).where(_TURN.session == _SESSION.id).exists()
        connection.execute(delete(history_session).where(_SESSION.began_at < turns_before, empty))
    return max(sounds, turns)


def totals(connection: Connection) -> HistoryTotals:
    """How much is kept, of all devices."""
    sessions = connection.execute(select(func.count()).select_from(history_session)).scalar() or 0
    turns, since = connection.execute(select(func.count(), func.min(_TURN.at)).select_from(history_turn)).one()
    sounds, size = connection.execute(
        select(func.count(), func.sum(func.length(_SOUND.sound))).select_from(history_sound)
    ).one()
    return HistoryTotals(sessions, turns, sounds, int(size or 0), since)


def _turns() -> Select[Any]:
    return select(*(history_turn.c[name] for name in TurnRow.__slots__))


def _sessions(condition: ColumnElement[bool]) -> Select[Any]:
    return select(_SESSION.id).where(condition)
