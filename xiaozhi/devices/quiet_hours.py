"""Quiet hours: the part of the day in which a device says nothing that its user has not asked for. Pure; the time zone
decides where a day begins, summer time included."""

from __future__ import annotations

import datetime


def quiet_until(span: str, now: float, zone: datetime.tzinfo) -> float | None:
    """When the quiet hours end that it is now (seconds since 1970); None: it is none, or there are none. `span`: as in
    the settings, "22:00-07:00", "" for none; the first minute is quiet, the last is not."""
    if not span:
        return None
    begins, ends = map(_time, span.split("-"))
    here = datetime.datetime.fromtimestamp(now, zone)
    time = here.time()
    if not (begins <= time < ends if begins <= ends else time >= begins or time < ends):
        return None
    day = here.date() if time < ends else here.date() + datetime.timedelta(days=1)
    end = datetime.datetime.combine(day, ends, zone)
    # When clocks are put back the end comes twice: the second one, if the first is over.
    return end.timestamp() if end.timestamp() > now else end.replace(fold=1).timestamp()


def _time(text: str) -> datetime.time:
    hour, minute = text.split(":")
    return datetime.time(int(hour), int(minute))
