"""Version 6: the console's password, and what was changed by it."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Connection, Double, Integer, MetaData, Table, Text

_metadata = MetaData()

Table(
    "console_password",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("made_at", Double, nullable=False),
)

Table(
    "console_change",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("details", JSON, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the tables."""
    _metadata.create_all(connection, checkfirst=False)
