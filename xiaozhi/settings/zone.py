"""The time zone in which the server's owner lives: the configured offset, else that of this machine."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import tzlocal

from xiaozhi.settings.schema import Settings


def zone_of(settings: Settings) -> datetime.tzinfo:
    """`server.timezone_offset`, else the machine's time zone with its summer time; UTC where the machine has none."""
    offset = settings.server.timezone_offset
    if offset is not None:
        return datetime.timezone(datetime.timedelta(hours=offset))
    try:
        return tzlocal.get_localzone()
    except (OSError, ValueError, LookupError):  # a TZ that names nothing
        return datetime.UTC


def zone_name(zone: datetime.tzinfo) -> str:
    """What a browser calls it (ECMA-402, `timeZone`): a name of the IANA database, or an offset such as "+08:00"."""
    if isinstance(zone, ZoneInfo) and "/" in zone.key:
        return zone.key
    offset = datetime.datetime.now(zone).strftime("%z")
    return f"{offset[:3]}:{offset[3:5]}"
