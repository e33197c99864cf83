"""Version 7: what owners call their devices, earlier settings of devices, the last picture of a device's screen."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Connection, Double, Index, Integer, LargeBinary, MetaData, Table, Text

_metadata = MetaData()

Table(
    "device_label",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("label", Text, nullable=False),
)

_version = Table(
    "settings_version",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("device", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("settings", JSON, nullable=False),
)
Index("settings_version_device", _version.c.device, _version.c.id)

Table(
    "device_picture",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("picture", LargeBinary, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the tables."""
    _metadata.create_all(connection, checkfirst=False)
