"""Version 5: orders that workers pass on to each other."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Double, MetaData, Table, Text

_metadata = MetaData()

Table(
    "worker_order",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("ordered_at", Double, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the table."""
    _metadata.create_all(connection, checkfirst=False)
