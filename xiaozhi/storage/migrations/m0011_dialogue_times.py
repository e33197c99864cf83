"""Version 11: dialogues with two times, when something was said last and when the visit ended."""

from __future__ import annotations

from sqlalchemy import Connection, Double


def upgrade(connection: Connection) -> None:
    """Add the column; both times were one before."""
    connection.exec_driver_sql(f"ALTER TABLE dialogue ADD COLUMN kept_at {Double().compile(connection.dialect)}")
