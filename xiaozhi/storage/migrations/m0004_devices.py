"""Version 4: devices, their settings and standing, who waits for approval, who is connected where, dialogues."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
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

Table(
    "waiting_device",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("challenge", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("asked_at", Double, nullable=False),
)

Table(
    "device",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("report", JSON, nullable=False),
)

Table(
    "device_settings",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("settings", JSON, nullable=False),
    Column("changed_at", Double, nullable=False),
)

_standing = Table(
    "device_standing",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("revoked", Integer, nullable=False),
    Column("tokens_from", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
)
Index("device_standing_changed_at", _standing.c.changed_at)

Table(
    "worker",
    _metadata,
    Column("worker", Text, primary_key=True),
    Column("websocket", Text, nullable=False),
    Column("connections", Integer, nullable=False),
    Column("beat_at", Double, nullable=False),
)

_presence = Table(
    "presence",
    _metadata,
    Column("visit", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("arrived_at", Double, nullable=False),
)
Index("presence_device", _presence.c.device)
Index("presence_arrived_at", _presence.c.arrived_at)

Table(
    "dialogue",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    Column("snapshot", LargeBinary, nullable=False),
    Column("said_at", Double, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the tables, and the new columns of the enrolment."""
    for column in ("how", "address"):
        connection.exec_driver_sql(f"ALTER TABLE enrolment ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
    _metadata.create_all(connection, checkfirst=False)
