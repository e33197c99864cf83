"""Queries about what was said, for people who look through it: conversations by page, with search; timings to compare
with. Each function runs inside `Database.read`. Times are seconds since 1970, devices in their normal form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Text, cast, func, or_, select

from xiaozhi.storage.tables import history_session, history_turn
from xiaozhi.storage.turn_history import SessionRow, TurnRow

_SESSION, _TURN = history_session.c, history_turn.c
_COLUMNS = tuple(history_turn.c[name] for name in TurnRow.__slots__)


@dataclass(frozen=True, slots=True)
class WantedConversations:
    """Which conversations: of a device ("": any), begun in [since, until), in which `search` was said or answered.
    `before`: only those that come after this one, the last of the page before (when it began, its id)."""

    device: str = ""
    since: float = 0.0
    until: float | None = None
    search: str = ""
    before: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class KeptConversation:
    """One session, with how many turns are kept of it and one of them: the first, or the first that was found."""

    session: SessionRow
    turns: int
    shown: TurnRow | None


def conversations(connection: Connection, wanted: WantedConversations, limit: int) -> list[KeptConversation]:
    """Conversations, the newest first."""
    query = select(_SESSION.id, _SESSION.device, _SESSION.client, _SESSION.began_at, _SESSION.ended_at)
    query = query.where(_SESSION.began_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(_SESSION.began_at < wanted.until)
    if wanted.device:
        query = query.where(_SESSION.device == wanted.device)
    if wanted.before is not None:
        began_at, name = wanted.before
        later = (_SESSION.began_at < began_at) | ((_SESSION.began_at == began_at) & (_SESSION.id < name))
        query = query.where(later)
    if wanted.search:
        query = query.where(select(_TURN.turn).where(_TURN.session == _SESSION.id, _says(wanted.search)).exists())
    rows = connection.execute(query.order_by(_SESSION.began_at.desc(), _SESSION.id.desc()).limit(limit)).all()
    sessions = [SessionRow(*row) for row in rows]
    names = [session.id for session in sessions]
    counted = select(_TURN.session, func.count()).where(_TURN.session.in_(names)).group_by(_TURN.session)
    counts = {session: int(count) for session, count in connection.execute(counted)}
    shown = _first_turns(connection, names, wanted.search)
    return [KeptConversation(session, counts.get(session.id, 0), shown.get(session.id)) for session in sessions]


def session_of(connection: Connection, session: str) -> SessionRow | None:
    """One session."""
    query = select(_SESSION.id, _SESSION.device, _SESSION.client, _SESSION.began_at, _SESSION.ended_at)
    row = connection.execute(query.where(_SESSION.id == session)).first()
    return None if row is None else SessionRow(*row)


def turns_after(connection: Connection, session: str, after: int, limit: int) -> list[TurnRow]:
    """Turns of a session in order, from the one behind `after` on."""
    query = select(*_COLUMNS).where(_TURN.session == session, _TURN.turn > after).order_by(_TURN.turn).limit(limit)
    return [TurnRow(*row) for row in connection.execute(query)]


def devices(connection: Connection, limit: int) -> list[str]:
    """Devices of which something is kept, those that talked last first."""
    latest = func.max(_SESSION.began_at)
    query = select(_SESSION.device).group_by(_SESSION.device).order_by(latest.desc()).limit(limit)
    return list(connection.execute(query).scalars())


def timings(
    connection: Connection, device: str, since: float, until: float, limit: int, *, without: str = ""
) -> list[Mapping[str, int]]:
    """Timings of the latest turns of a device ("": any) in [since, until), those of the session `without` left out."""
    query = select(_TURN.timings).where(_TURN.at >= since, _TURN.at < until, _TURN.session != without)
    if device:
        query = query.where(_TURN.session.in_(select(_SESSION.id).where(_SESSION.device == device)))
    return list(connection.execute(query.order_by(_TURN.at.desc()).limit(limit)).scalars())


def pulse(connection: Connection) -> float:
    """When the latest turn was; 0 when there is none."""
    return float(connection.execute(select(func.max(_TURN.at))).scalar() or 0.0)


def _says(text: str) -> ColumnElement[bool]:
    """Whether a turn has this text in what was said or answered, whatever its case (of ASCII letters)."""
    answered = json.dumps(text)[1:-1]  # as it stands in the column
    spoken = cast(_TURN.spoken, Text)
    return or_(_TURN.said.icontains(text, autoescape=True), spoken.icontains(answered, autoescape=True))


def _first_turns(connection: Connection, sessions: list[str], search: str) -> dict[str, TurnRow]:
    first = select(_TURN.session, func.min(_TURN.turn).label("turn")).where(_TURN.session.in_(sessions))
    if search:
        first = first.where(_says(search))
    chosen = first.group_by(_TURN.session).subquery()
    query = select(*_COLUMNS).join(chosen, (chosen.c.session == _TURN.session) & (chosen.c.turn == _TURN.turn))
    return {row[0]: TurnRow(*row) for row in connection.execute(query)}
