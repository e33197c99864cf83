"""Queries about devices: what they said of themselves, their own settings, whether an operator has revoked them. Each
function runs inside `Database.run` or `Database.read`. Times: seconds since 1970."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Subquery, Table, Text, cast, delete, func, or_, select, true, union

from xiaozhi.storage.presences import kept_since
from xiaozhi.storage.tables import (
    console_change,
    device,
    device_label,
    device_message,
    device_picture,
    device_settings,
    device_sound,
    device_standing,
    dialogue,
    enrolment,
    insert,
    memory_summary,
    pending_memory,
    presence,
    reminder,
    settings_version,
    standing_presence,
    waiting_device,
    worker,
)

Report = Mapping[str, Any]
"""What a device said of itself, see `devices/report.py`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an operator has decided about a device. Tokens issued before `tokens_from` are void."""

    revoked: bool = False
    tokens_from: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """What has to be known of a device that comes."""

    settings: Mapping[str, Any] | None = None
    client: str = ""
    """The client id that the device is enrolled with; "": it is not."""
    report: Report | None = None
    dialogue: tuple[bytes, float] | None = None
    """Snapshot, and when it was made."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """Everything that is kept of one device, for operators."""

    device: str
    first_seen: float | None = None
    last_seen: float | None = None
    report: Report | None = None
    settings: Mapping[str, Any] | None = None
    client: str = ""
    how: str = ""
    enrolled_at: float | None = None
    enrolled_from: str = ""
    standing: Standing = Standing()
    workers: tuple[str, ...] = ()
    """Workers that it is connected to."""
    reached_by: tuple[str, ...] = ()
    """Workers that can tell it something while nobody talks with it."""
    waiting: tuple[tuple[str, str, str, float], ...] = ()
    """(code, client id, address, since when) of those who wait for approval as this device."""
    label: str = ""
    """What its owner calls it."""


@dataclass(frozen=True, slots=True)
class SettingsVersion:
    """A device's own settings as they were until `who` changed them at `at`."""

    id: int
    at: float
    who: str
    settings: Mapping[str, Any]


def note(connection: Connection, reports: Mapping[str, Report], now: float) -> None:
    """Devices have been seen; what they said is laid over what they said before."""
    if not reports:
        return
    names = sorted(reports)
    rows = connection.execute(select(device).where(device.c.device.in_(names)))
    known: dict[str, Report] = {row.device: row.report for row in rows}
    statement = insert(connection, device)
    changes = {name: statement.excluded[name] for name in ("last_seen", "report")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=[device.c.device], set_=changes),
        [
            {
                "device": name,
                "first_seen": now,
                "last_seen": now,
                "report": {**known.get(name, {}), **reports[name]},
            }
            for name in names
        ],
    )


def look_up(
    connection: Connection, pairs: Collection[tuple[str, str]], said_since: float
) -> dict[tuple[str, str], Arrival]:
    """What is known of devices that come, by device id and client id. `said_since`: older dialogues are forgotten."""
    names = list({name for name, _ in pairs})
    settings = {
        row.device: row.settings
        for row in connection.execute(select(device_settings).where(device_settings.c.device.in_(names)))
    }
    enrolled = {
        row.device: row.client for row in connection.execute(select(enrolment).where(enrolment.c.device.in_(names)))
    }
    reports = {row.device: row.report for row in connection.execute(select(device).where(device.c.device.in_(names)))}
    said = {
        (row.device, row.client): (bytes(row.snapshot), float(row.said_at))
        for row in connection.execute(select(dialogue).where(dialogue.c.device.in_(names), kept_since(said_since)))
    }
    return {
        (name, client): Arrival(settings.get(name), enrolled.get(name, ""), reports.get(name), said.get((name, client)))
        for name, client in pairs
    }


def settings_of(connection: Connection, name: str) -> Mapping[str, Any] | None:
    """A device's own settings; None when it has none."""
    found = connection.execute(select(device_settings.c.settings).where(device_settings.c.device == name)).scalar()
    return found if isinstance(found, Mapping) else None


def keep_settings(connection: Connection, name: str, settings: Mapping[str, Any], now: float) -> None:
    """Put settings in the place of the old ones; none at all when they are empty."""
    if not settings:
        connection.execute(delete(device_settings).where(device_settings.c.device == name))
        return
    _upsert(connection, device_settings, {"device": name, "settings": dict(settings), "changed_at": now})


def keep_version(connection: Connection, name: str, before: Mapping[str, Any], who: str, now: float, kept: int) -> None:
    """Remember what a device's own settings were before a change; of all of this device the latest `kept` stay."""
    connection.execute(settings_version.insert().values(device=name, at=now, who=who, settings=dict(before)))
    mine = settings_version.c.device == name
    stay = select(settings_version.c.id).where(mine).order_by(settings_version.c.id.desc()).limit(kept)
    connection.execute(delete(settings_version).where(mine, settings_version.c.id.not_in(stay)))


def versions_of(connection: Connection, name: str) -> list[SettingsVersion]:
    """What a device's own settings were before their last changes, the latest change first."""
    query = select(settings_version).where(settings_version.c.device == name).order_by(settings_version.c.id.desc())
    return [SettingsVersion(row.id, row.at, row.who, row.settings) for row in connection.execute(query)]


def keep_label(connection: Connection, name: str, label: str) -> None:
    """What its owner calls a device; "": nothing any more."""
    if not label:
        connection.execute(delete(device_label).where(device_label.c.device == name))
        return
    _upsert(connection, device_label, {"device": name, "label": label})


def labels(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """What owners call these devices, as far as they call them anything."""
    query = select(device_label).where(device_label.c.device.in_(list(names)))
    return {row.device: row.label for row in connection.execute(query)}


def keep_picture(connection: Connection, name: str, picture: bytes, now: float) -> None:
    """A picture of a device's screen, in the place of the one before."""
    _upsert(connection, device_picture, {"device": name, "at": now, "picture": picture})


def picture_of(connection: Connection, name: str) -> tuple[bytes, float] | None:
    """The last picture of a device's screen, and when it came."""
    query = select(device_picture.c.picture, device_picture.c.at).where(device_picture.c.device == name)
    row = connection.execute(query).first()
    return None if row is None else (bytes(row.picture), row.at)


def erase(connection: Connection, name: str) -> None:
    """What is kept of a device; not what an operator has decided about it, and not what was said."""
    for table in (device, device_label, device_message, device_picture, device_settings, device_sound, dialogue):
        connection.execute(delete(table).where(table.c.device == name))
    connection.execute(delete(settings_version).where(settings_version.c.device == name))
    for table in (memory_summary, pending_memory):  # each user of a device is remembered under a name that begins so
        users = or_(table.c.device == name, table.c.device.startswith(f"{name}@", autoescape=True))
        connection.execute(delete(table).where(users))


def keep_standing(connection: Connection, name: str, standing: Standing, now: float) -> None:
    """What an operator has decided about a device."""
    _upsert(
        connection,
        device_standing,
        {
            "device": name,
            "revoked": int(standing.revoked),
            "tokens_from": standing.tokens_from,
            "changed_at": now,
        },
    )


def standing_of(connection: Connection, name: str) -> Standing:
    """What an operator has decided about a device."""
    return standings(connection, 0.0, name).get(name, Standing())


def standings(connection: Connection, since: float, name: str | None = None) -> dict[str, Standing]:
    """Decisions of operators that were made or changed since then."""
    query = select(device_standing).where(device_standing.c.changed_at >= since)
    if name is not None:
        query = query.where(device_standing.c.device == name)
    return {row.device: Standing(bool(row.revoked), row.tokens_from) for row in connection.execute(query)}


_KNOWN_BY = (device, device_settings, enrolment, waiting_device, presence, standing_presence)
_REVOKED = select(device_standing.c.device).where(device_standing.c.revoked != 0)
_EVERYONE = union(*(select(table.c.device) for table in _KNOWN_BY), _REVOKED).subquery()
"""A device is known when it was seen, is enrolled or waits, is revoked, or when an operator has set something."""

STATES: Final = ("connected", "away", "waiting", "revoked")
ORDERS: Final = ("seen", "name")


def page(
    connection: Connection,
    search: str,
    limit: int,
    offset: int,
    *,
    alive_since: float,
    state: str = "",
    order: str = "seen",
) -> tuple[list[str], int]:
    """(device ids; how many there are on all pages). `search`: part of the id, of what its owner calls it or of what it
    said of itself; "": all. `state`: one of `STATES`; "": all. `order`: one of `ORDERS`, those seen last first, or by
    name."""
    name = _EVERYONE.c.device
    found = (
        select(name, device.c.last_seen, device_label.c.label)
        .outerjoin(device, device.c.device == name)
        .outerjoin(device_label, device_label.c.device == name)
    )
    if search:
        places = name, device_label.c.label, cast(device.c.report, Text)
        found = found.where(or_(*(place.icontains(search, autoescape=True) for place in places)))
    if state:
        here, revoked = name.in_(select(_reachable(alive_since).c.device)), name.in_(_REVOKED)
        waiting = name.in_(select(waiting_device.c.device))
        conditions = {"connected": here, "away": ~here & ~revoked, "waiting": waiting, "revoked": revoked}
        found = found.where(conditions[state])
    total = connection.execute(select(func.count()).select_from(found.subquery())).scalar() or 0
    by_name = func.lower(func.coalesce(device_label.c.label, name))
    first = {"seen": device.c.last_seen.desc().nulls_last(), "name": by_name}[order]
    ordered = found.order_by(first, name).limit(limit).offset(offset)
    return [row.device for row in connection.execute(ordered)], total


def _reachable(alive_since: float) -> Subquery:
    """Devices that a worker which is alive has a connection of."""
    alive = select(worker.c.worker).where(worker.c.beat_at >= alive_since)
    return union(
        *(select(table.c.device).where(table.c.worker.in_(alive)) for table in (presence, standing_presence))
    ).subquery()


def all_waiting(connection: Connection, limit: int) -> list[str]:
    """Devices as which somebody waits for approval, the longest waiting first."""
    oldest = func.min(waiting_device.c.asked_at)
    query = select(waiting_device.c.device).group_by(waiting_device.c.device).order_by(oldest).limit(limit)
    return list(connection.execute(query).scalars())


def pulse(connection: Connection, alive_since: float) -> tuple[int, str]:
    """(devices connected now, a text that changes whenever a device comes or goes, waits, or is decided about, when it
    has another message or reminder, and when something is changed by the console)."""
    alive = select(worker.c.worker).where(worker.c.beat_at >= alive_since)
    online = connection.execute(select(func.count()).select_from(_reachable(alive_since))).scalar() or 0
    counted = (
        (presence.c.arrived_at, presence.c.worker.in_(alive)),
        (standing_presence.c.since, standing_presence.c.worker.in_(alive)),
        *((column, true()) for column in _CHANGES),
    )
    seen = [
        value
        for column, condition in counted
        for value in connection.execute(select(func.count(), func.max(column)).where(condition)).one()
    ]
    return online, "/".join(map(str, seen))


_CHANGES = (
    waiting_device.c.asked_at,
    device_standing.c.changed_at,
    enrolment.c.enrolled_at,
    device_message.c.touched_at,
    reminder.c.due_at,
    console_change.c.id,
)
"""What changes when there is something new to be shown of a device."""


def records(connection: Connection, alive_since: float, names: Collection[str] | None = None) -> list[DeviceRecord]:
    """All devices, or some, those seen last first. `alive_since`: workers that have given no sign since then are
    gone."""

    def rows(table: Table) -> Sequence[Any]:
        query = select(table)
        return connection.execute(query if names is None else query.where(table.c.device.in_(names))).all()

    seen = {row.device: row for row in rows(device)}
    own = {row.device: row.settings for row in rows(device_settings)}
    enrolled = {row.device: row for row in rows(enrolment)}
    decided = {row.device: Standing(bool(row.revoked), row.tokens_from) for row in rows(device_standing)}
    waiting: dict[str, list[tuple[str, str, str, float]]] = {}
    for row in rows(waiting_device):
        waiting.setdefault(row.device, []).append((row.code, row.client, row.address, row.asked_at))
    alive = set(connection.execute(select(worker.c.worker).where(worker.c.beat_at >= alive_since)).scalars())
    online: dict[str, list[str]] = {}
    for row in rows(presence):
        if row.worker in alive:
            online.setdefault(row.device, []).append(row.worker)
    standing: dict[str, list[str]] = {}
    for row in rows(standing_presence):
        if row.worker in alive:
            standing.setdefault(row.device, []).append(row.worker)
    labels = {row.device: row.label for row in rows(device_label)}
    revoked = {each: standing for each, standing in decided.items() if standing.revoked}
    known = {**seen, **own, **enrolled, **revoked, **waiting, **online, **standing}
    found = [
        DeviceRecord(
            device=each,
            first_seen=seen[each].first_seen if each in seen else None,
            last_seen=seen[each].last_seen if each in seen else None,
            report=seen[each].report if each in seen else None,
            settings=own.get(each),
            client=enrolled[each].client if each in enrolled else "",
            how=enrolled[each].how if each in enrolled else "",
            enrolled_at=enrolled[each].enrolled_at if each in enrolled else None,
            enrolled_from=enrolled[each].address if each in enrolled else "",
            standing=decided.get(each, Standing()),
            workers=tuple(online.get(each, ())),
            reached_by=tuple(standing.get(each, ())),
            waiting=tuple(waiting.get(each, ())),
            label=labels.get(each, ""),
        )
        for each in known
    ]
    return sorted(found, key=lambda record: -(record.last_seen or 0.0))


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device by name. `client`: the client id it is enrolled with, "" when it is not."""

    device: str
    label: str
    settings: Mapping[str, Any]
    client: str


def by_name(connection: Connection) -> list[KnownDevice]:
    """Every device that is known and not revoked, by id."""
    name = _EVERYONE.c.device
    query = (
        select(name, device_label.c.label, device_settings.c.settings, enrolment.c.client)
        .outerjoin(device_label, device_label.c.device == name)
        .outerjoin(device_settings, device_settings.c.device == name)
        .outerjoin(enrolment, enrolment.c.device == name)
        .where(name.not_in(_REVOKED))
        .order_by(name)
    )
    return [
        KnownDevice(row.device, row.label or "", row.settings or {}, row.client or "")
        for row in connection.execute(query)
    ]


def _upsert(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    statement = insert(connection, table).values(**row)
    changes = {name: statement.excluded[name] for name in row if name != "device"}
    connection.execute(statement.on_conflict_do_update(index_elements=[table.c.device], set_=changes))
