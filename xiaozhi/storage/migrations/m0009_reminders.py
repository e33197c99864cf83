"""Version 9: timers, alarms and reminders."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Double, Index, Integer, MetaData, Table, Text

_metadata = MetaData()

_reminder = Table(
    "reminder",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("rule", Text, nullable=False),
    Column("start", Text, nullable=False),
    Column("rang_at", Double),
    Column("again", Integer, nullable=False),
    Column("look_at", Double),
    Column("worker", Text, nullable=False),
)
Index("reminder_look_at", _reminder.c.look_at)
Index("reminder_device", _reminder.c.device)


def upgrade(connection: Connection) -> None:
    """Create the table."""
    _metadata.create_all(connection, checkfirst=False)
