"""Version 3: what was said and answered, by session and turn; its sound; which devices' history was erased."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

_metadata = MetaData()

_session = Table(
    "history_session",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("ended_at", Double),
)
Index("history_session_device", _session.c.device, _session.c.began_at)

_turn = Table(
    "history_turn",
    _metadata,
    Column("session", Text, primary_key=True),
    Column("turn", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("said", Text, nullable=False),
    Column("spoken", JSON, nullable=False),
    Column("tools", JSON, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("announcement", Boolean, nullable=False),
    Column("timings", JSON, nullable=False),
    Column("speaker", Text, nullable=False),
)
Index("history_turn_at", _turn.c.at)

_sound = Table(
    "history_sound",
    _metadata,
    Column("session", Text, primary_key=True),
    Column("turn", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("sound", LargeBinary, nullable=False),
)
Index("history_sound_at", _sound.c.at)

Table(
    "history_erasure",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("erased_at", Double, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the tables."""
    _metadata.create_all(connection, checkfirst=False)
