"""Version 10: voices of people."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Double, LargeBinary, MetaData, Table, Text

_metadata = MetaData()

Table(
    "voice",
    _metadata,
    Column("owner", Text, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("consent", Text, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the table."""
    _metadata.create_all(connection, checkfirst=False)
