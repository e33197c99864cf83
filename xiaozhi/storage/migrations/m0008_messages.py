"""Version 8: messages for devices, the sounds that they fetch, and which worker can reach a device that idles."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Connection, Double, Index, Integer, LargeBinary, MetaData, Table, Text

_metadata = MetaData()

_message = Table(
    "device_message",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("key", Text),
    Column("kind", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("touched_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),
)
Index("device_message_key", _message.c.device, _message.c.key, unique=True)
Index("device_message_state", _message.c.state)
Index("device_message_touched_at", _message.c.touched_at)
Index("device_message_next_at", _message.c.next_at)

_sound = Table(
    "device_sound",
    _metadata,
    Column("name", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("fetched_at", Double),
    Column("size", Integer, nullable=False),
    Column("sound", LargeBinary, nullable=False),
)
Index("device_sound_expires_at", _sound.c.expires_at)

Table(
    "standing_presence",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("since", Double, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the tables."""
    _metadata.create_all(connection, checkfirst=False)
