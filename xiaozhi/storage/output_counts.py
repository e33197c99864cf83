"""Queries about the characters a device was told on a day. Each function runs inside `Database.run` or
`Database.read`."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from itertools import islice

from sqlalchemy import Connection, delete, select

from xiaozhi.storage.tables import insert, output_count

_CHUNK = 500

Counts = dict[tuple[datetime.date, str], int]
"""(day, device) -> characters."""


def add(connection: Connection, counts: Mapping[tuple[datetime.date, str], int], now: float, kept_days: int) -> Counts:
    """Add to what stands there; the new totals. Days that are more than `kept_days` older are removed. `now`: seconds
    since 1970."""
    statement = insert(connection, output_count)
    statement = statement.on_conflict_do_update(
        index_elements=[output_count.c.day, output_count.c.device],
        set_={
            "characters": output_count.c.characters + statement.excluded.characters,
            "updated_at": statement.excluded.updated_at,
        },
    )
    # In one order everywhere, so that two workers never wait for each other's rows.
    keys = sorted(counts)
    if not keys:
        return {}
    connection.execute(
        statement,
        [{"day": day, "device": device, "characters": counts[day, device], "updated_at": now} for day, device in keys],
    )
    oldest = max(day for day, _ in keys) - datetime.timedelta(days=kept_days)
    connection.execute(delete(output_count).where(output_count.c.day < oldest))
    return _totals(connection, keys)


def changed_since(connection: Connection, day: datetime.date, since: float) -> dict[str, int]:
    """Device -> characters on `day`, of those that any worker counted for at or after `since`."""
    found = select(output_count.c.device, output_count.c.characters).where(
        output_count.c.day == day, output_count.c.updated_at >= since
    )
    return {row.device: row.characters for row in connection.execute(found)}


def at_least(
    connection: Connection, counts: Mapping[tuple[datetime.date, str], int], now: float, kept_days: int
) -> None:
    """Raise totals that are lower than these; the rest stays. May be repeated without harm."""
    totals = _totals(connection, sorted(counts))
    add(
        connection,
        {key: count - totals.get(key, 0) for key, count in counts.items() if count > totals.get(key, 0)},
        now,
        kept_days,
    )


def _totals(connection: Connection, keys: Iterable[tuple[datetime.date, str]]) -> Counts:
    totals: Counts = {}
    rest = iter(keys)
    while chunk := list(islice(rest, _CHUNK)):
        days, devices = {day for day, _ in chunk}, {device for _, device in chunk}
        found = select(output_count.c.day, output_count.c.device, output_count.c.characters).where(
            output_count.c.day.in_(days), output_count.c.device.in_(devices)
        )
        totals.update({(day, device): characters for day, device, characters in connection.execute(found)})
    return totals
