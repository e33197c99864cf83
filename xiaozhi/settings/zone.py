"""The time zone in which the server's owner lives: the configured offset, else that of this machine."""

from __future__ import annotations

import datetime

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
