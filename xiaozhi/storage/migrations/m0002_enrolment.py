"""Version 2: which client id each device is enrolled with."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Double, MetaData, Table, Text

_metadata = MetaData()

Table(
    "enrolment",
    _metadata,
    Column("device", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("enrolled_at", Double, nullable=False),
)


def upgrade(connection: Connection) -> None:
    """Create the table."""
    _metadata.create_all(connection, checkfirst=False)
