"""How much the database keeps of people, for the privacy ledger. Runs inside `Database.read`."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from xiaozhi.storage.tables import (
    device,
    device_picture,
    device_settings,
    dialogue,
    enrolment,
    history_sound,
    history_turn,
    memory_summary,
    output_count,
    pending_memory,
    settings_version,
    voice,
    waiting_device,
)

_TABLES = (
    history_turn,
    history_sound,
    memory_summary,
    pending_memory,
    dialogue,
    output_count,
    enrolment,
    waiting_device,
    device,
    device_settings,
    settings_version,
    device_picture,
    voice,
)


def rows_by_table(connection: Connection) -> Mapping[str, int]:
    """Table -> how many rows it has."""
    return {table.name: connection.execute(select(func.count()).select_from(table)).scalar() or 0 for table in _TABLES}
