"""Version 1: what was spoken per device and day, summaries of memories, visits whose memory is not saved yet, files
taken over."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Connection, Date, Double, Index, Integer, MetaData, Table, Text

_metadata = MetaData()

Table(
    "output_count",
    _metadata,
    Column("day", Date, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("characters", BigInteger, nullable=False),
    Column("updated_at", Double, nullable=False),
)

Table(
    "memory_summary",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("summary", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
)

_pending = Table(
    "pending_memory",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("said", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("owner", Text, nullable=False),
)
Index("pending_memory_due_at", _pending.c.due_at)

Table(
    "imported_file",
    _metadata,
    Column("name", Text, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("modified_ns", BigInteger, primary_key=True),
    Column("imported_at", Double, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the first tables."""
    _metadata.create_all(connection, checkfirst=False)
