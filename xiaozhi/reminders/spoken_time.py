"""What a spoken time says, piece by piece, before it is known which instant is meant: the common result of the readers
of each language (`english_times.py`, `chinese_times.py`), and what `understanding.py` makes an instant of.

Plain data. Fields that were not said are None."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class DayPart(Enum):
    """A part of a day, with the hour (0 to 24) that is meant where no clock time was said."""

    DAWN = 6
    MORNING = 8
    NOON = 12
    AFTERNOON = 15
    EVENING = 19
    NIGHT = 21
    MIDNIGHT = 24


@dataclass(frozen=True, slots=True)
class Clock:
    """A time on the clock. `certain`: it can mean only one time of day; else 7 may be 7 or 19 o'clock."""

    hour: int
    minute: int = 0
    second: int = 0
    certain: bool = False


class Unit(Enum):
    """What repeats, or is counted, as RFC 5545 calls it."""

    MINUTES = "MINUTELY"
    HOURS = "HOURLY"
    DAYS = "DAILY"
    WEEKS = "WEEKLY"
    MONTHS = "MONTHLY"
    YEARS = "YEARLY"


@dataclass(frozen=True, slots=True)
class Every:
    """How often. `weekdays`: 0 Monday to 6 Sunday, for WEEKS."""

    unit: Unit
    interval: int = 1
    weekdays: tuple[int, ...] = ()


WORKDAYS = (0, 1, 2, 3, 4)
WEEKEND = (5, 6)


@dataclass(slots=True)
class SpokenTime:
    """See the module. A reader fills it; afterwards it does not change."""

    after: timedelta | None = None
    """Hours, minutes, seconds from now."""
    days: int | None = None
    """Calendar days from today; with `weekday`: weeks are counted from there ("a week from Friday")."""
    months: int | None = None
    """Calendar months from today ("in two months")."""
    weekday: int | None = None
    """0 Monday to 6 Sunday."""
    week: int | None = None
    """Of `weekday`: 0 this week, 1 the next one; weeks begin on Monday."""
    day: int | None = None
    """Of the month; -1: its last one."""
    month: int | None = None
    month_ahead: int | None = None
    """0 this month, 1 the next one."""
    year: int | None = None
    year_ahead: int | None = None
    """0 this year, 1 the next one."""
    clock: Clock | None = None
    part: DayPart | None = None
    every: Every | None = None
    counted: bool = False
    """`days` and `months` were counted from now ("in three days"), not named ("tomorrow")."""
    left: str = ""
    """What was not understood."""

    @property
    def has_day(self) -> bool:
        """Whether it says which day is meant."""
        named = self.days, self.months, self.weekday, self.day, self.month, self.month_ahead, self.week, self.year_ahead
        return any(value is not None for value in named)
