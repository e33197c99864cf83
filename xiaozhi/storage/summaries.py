"""Queries about what the local memory knows of each device's user. Each function runs inside `Database.run` or
`Database.read`."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from xiaozhi.storage.tables import insert, memory_summary


def of(connection: Connection, device: str) -> str:
    """The summary of a device; "" when there is none."""
    found = connection.execute(select(memory_summary.c.summary).where(memory_summary.c.device == device)).scalar()
    return str(found or "")


def keep(connection: Connection, device: str, summary: str, now: float) -> None:
    """Put a summary in the place of the old one. `now`: seconds since 1970."""
    statement = insert(connection, memory_summary).values(device=device, summary=summary, updated_at=now)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[memory_summary.c.device],
            set_={"summary": statement.excluded.summary, "updated_at": statement.excluded.updated_at},
        )
    )


def add_unknown(connection: Connection, summaries: Mapping[str, str], now: float) -> int:
    """Keep the summaries of devices that have none; how many there were."""
    known = {device for (device,) in connection.execute(select(memory_summary.c.device))}
    rows = [
        {"device": device, "summary": summary, "updated_at": now}
        for device, summary in summaries.items()
        if summary and device not in known
    ]
    if rows:
        connection.execute(insert(connection, memory_summary).on_conflict_do_nothing(), rows)
    return len(rows)
