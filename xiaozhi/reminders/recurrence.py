"""Rules of what repeats, in the words of RFC 5545 (`FREQ=WEEKLY;BYDAY=MO,WE`), and when it is due next.

A rule of days, weeks, months or years is counted on the local clock: an alarm at 07:00 stays at 07:00 when summer time
begins or ends. A rule of hours or minutes is counted in elapsed time. Local times follow one rule (`instant_of`): one
that summer time leaves out is as much later as was left out (02:30 becomes 03:30), of one that comes twice the first is
meant. The 29th, 30th and 31st of a month mean its last day where it has no such day.

Instants are compared by their timestamps: of two times in one zone Python compares what their clocks show, which is
wrong in the hour that comes twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from dateutil.rrule import rrulestr

from xiaozhi.reminders.spoken_time import Every, Unit

_NAMES: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_ELAPSED: Final = ("FREQ=HOURLY", "FREQ=MINUTELY")
_SHORTEST_MONTH: Final = 28
_LONGEST_MONTH: Final = 31
LONGEST_SHIFT: Final = timedelta(hours=3)
"""More than any clock is put forward or back for summer time."""


def instant_of(local: datetime, zone: tzinfo) -> datetime:
    """The instant (aware, in `zone`) at which its clock shows `local` (naive); see the module for those that do not
    exist or exist twice."""
    aware = local.replace(tzinfo=zone, fold=0)
    return aware.astimezone(UTC).astimezone(zone)


def rule_of(every: Every, *, day: int | None = None, month: int | None = None) -> str:
    """The rule of what was said. `day`: of the month, -1 the last one, for MONTHS and YEARS; `month`: for YEARS."""
    parts = [f"FREQ={every.unit.value}"]
    if every.interval > 1:
        parts.append(f"INTERVAL={every.interval}")
    if every.unit is Unit.WEEKS and every.weekdays:
        parts.append(f"BYDAY={','.join(_NAMES[each] for each in sorted(set(every.weekdays)))}")
    if every.unit is Unit.YEARS and month is not None:
        parts.append(f"BYMONTH={month}")
    if every.unit is Unit.MONTHS and day == _LONGEST_MONTH:
        day = -1
    if every.unit in (Unit.MONTHS, Unit.YEARS) and day is not None:
        parts += _days_of_month(day)
    return ";".join(parts)


def _days_of_month(day: int) -> list[str]:
    if day <= _SHORTEST_MONTH:
        return [f"BYMONTHDAY={day}"]
    # The last of these that the month has.
    return [f"BYMONTHDAY={','.join(map(str, range(_SHORTEST_MONTH, day + 1)))}", "BYSETPOS=-1"]


def is_elapsed(rule: str) -> bool:
    """Whether a rule counts elapsed time, not days on the local clock."""
    return rule.startswith(_ELAPSED)


def next_after(rule: str, start: datetime, after: datetime, zone: tzinfo) -> datetime | None:
    """The first time after `after` (aware) that follows the rule; None: there is none. `start`: the first time, or any
    later one that has been due: naive, on the local clock of `zone`; of a rule of elapsed time, aware. The result is
    aware, in `zone`."""
    if is_elapsed(rule):
        # In UTC: the library counts on the clock of whatever zone it is given.
        found = rrulestr(rule, dtstart=start.astimezone(UTC)).after(after.astimezone(UTC))
        return found.astimezone(zone) if found is not None else None
    # A time that summer time leaves out is shifted, so its clock may say more than `after` although it is before it.
    local = after.astimezone(zone).replace(tzinfo=None) - LONGEST_SHIFT
    moments = rrulestr(rule, dtstart=start)
    while True:
        moment = moments.after(local)
        if moment is None:
            return None
        instant = instant_of(moment, zone)
        if instant.timestamp() > after.timestamp():
            return instant
        local = moment


def latest_until(rule: str, start: datetime, until: datetime, zone: tzinfo) -> datetime | None:
    """The last time, not after `until`, that follows the rule; None: there is none. Otherwise as `next_after`."""
    if is_elapsed(rule):
        found = rrulestr(rule, dtstart=start.astimezone(UTC)).before(until.astimezone(UTC), inc=True)
        return found.astimezone(zone) if found is not None else None
    local = until.astimezone(zone).replace(tzinfo=None) + LONGEST_SHIFT
    moments = rrulestr(rule, dtstart=start)
    while True:
        moment = moments.before(local)
        if moment is None:
            return None
        instant = instant_of(moment, zone)
        if instant.timestamp() <= until.timestamp():
            return instant
        local = moment
