"""Which instant is meant by words: `understand("tomorrow at half past seven", now)`.

The rules, in the order in which they count:

1. ISO 8601 is taken as it is written; without an offset it is local time.
2. A span ("in ten minutes") is elapsed time; days, weeks and months are counted on the calendar ("in three days": at
   this time of day).
3. An hour that may be one before or after noon: without a day, whichever comes first ("at 7", said at 20:00, is 7 in
   the morning); with a day, 7 to 11 are in the morning, 12 is noon, 1 to 6 are in the afternoon, except for an alarm,
   whose 4 to 6 are in the morning; today, whichever is still to come.
4. A day without a time is asked about, a part of a day has a usual hour (`DayPart`).
5. A weekday is the next one; "next Friday" and 下周五 are that of the next week, which begins on Monday; a day of a
   month, or a date without its year, is the next one. What has passed is asked about.
6. Local times that do not exist, or exist twice: see `recurrence.py`.

Pure: the time is given."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import Enum
from typing import Final

from dateutil.relativedelta import relativedelta

from xiaozhi.reminders.chinese_times import read_chinese
from xiaozhi.reminders.english_times import read_english
from xiaozhi.reminders.recurrence import instant_of, is_elapsed, next_after, rule_of
from xiaozhi.reminders.spoken_time import Clock, DayPart, Every, SpokenTime, Unit

MAX_CHARS: Final = 120
"""Longer texts are no times."""
LONGEST: Final = timedelta(days=5 * 366)
"""Nothing is set for later than that."""
SHORTEST_REPEAT: Final = timedelta(minutes=5)
_HAN: Final = re.compile(r"[㐀-鿿]")
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?$", re.IGNORECASE)
_NIGHT: Final = (DayPart.EVENING, DayPart.NIGHT, DayPart.MIDNIGHT)
_NOON: Final = 12
_DAY_MINUTES: Final = 24 * 60
_FIRST_MORNING_HOUR: Final = 7
_FIRST_ALARM_HOUR: Final = 4
_LATE_HOUR: Final = 5
"""At night, hours before this one are those after midnight."""


class Doubt(Enum):
    """Why an instant is not known."""

    NO_TIME = "a day, and no time of day"
    NO_DAY = "a week or a month, and no day"
    PAST = "a time that has passed"
    NO_SUCH_DAY = "a day that does not exist"
    TOO_FAR = "a time too far ahead"
    TOO_OFTEN = "a repetition that is too frequent"
    NOT_UNDERSTOOD = "words that are not understood"


@dataclass(frozen=True, slots=True)
class Unclear:
    """The user has to be asked. `about`: for PAST: when it was; for NOT_UNDERSTOOD: the words."""

    doubt: Doubt
    past: datetime | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class When:
    """The (first) instant, aware, on the local clock. `rule`: of what repeats (RFC 5545), "" for once; `start`: what it
    is counted from (see `recurrence.next_after`). `span`: it was said as a time from now."""

    at: datetime
    rule: str = ""
    start: datetime | None = None
    span: timedelta | None = None


def understand(text: str, now: datetime, *, alarm: bool = False) -> When | Unclear:
    """What `text` means, said at `now` (aware, on the owner's clock). `alarm`: it is for waking somebody."""
    text = text.strip()
    if len(text) > MAX_CHARS:
        return Unclear(Doubt.NOT_UNDERSTOOD, words=text)
    zone = now.tzinfo
    assert zone is not None
    if _ISO.match(text):
        return _iso(text, now, zone)
    said = read_chinese(text) if _HAN.search(text) else read_english(text)
    if said.left:
        return Unclear(Doubt.NOT_UNDERSTOOD, words=said.left)
    return _Resolver(said, now, zone, alarm).result()


def _iso(text: str, now: datetime, zone: tzinfo) -> When | Unclear:
    try:
        written = datetime.fromisoformat(text.upper())
    except ValueError:
        return Unclear(Doubt.NO_SUCH_DAY)
    at = instant_of(written, zone) if written.tzinfo is None else written.astimezone(zone)
    return _bounded(When(at), now)


def _bounded(when: When, now: datetime) -> When | Unclear:
    ahead = _ahead(when.at, now)
    if ahead <= 0:
        return Unclear(Doubt.PAST, past=when.at)
    return Unclear(Doubt.TOO_FAR) if ahead > LONGEST.total_seconds() else when


def _ahead(at: datetime, now: datetime) -> float:
    """Seconds from `now` to `at`. Not their difference, which is that of their clocks."""
    return at.timestamp() - now.timestamp()


class _Resolver:
    """One time that was said."""

    def __init__(self, said: SpokenTime, now: datetime, zone: tzinfo, alarm: bool) -> None:
        self._said = said
        self._now = now
        self._zone = zone
        self._alarm = alarm
        self._today = now.date()

    def result(self) -> When | Unclear:
        said = self._said
        if said.every is not None:
            return self._repeating()
        if said.after is not None and said.clock is None and not said.has_day:
            # In UTC: on a local clock it would be wrong by an hour when summer time begins or ends.
            at = datetime.fromtimestamp(self._now.timestamp() + said.after.total_seconds(), self._zone)
            return _bounded(When(at, span=said.after), self._now)
        if not said.has_day:
            return self._next_clock()
        day = self._day()
        if isinstance(day, Unclear):
            return day
        if said.clock is None and said.part is None:
            return self._same_time(day)
        at = self._on(day)
        return self._unless_past(at)

    # --- once ---------------------------------------------------------------------------------------------------------

    def _same_time(self, day: date) -> When | Unclear:
        """Days, weeks or months from now at this time of day; a day that was named has no time."""
        said = self._said
        if said.weekday is not None or said.day is not None or not (said.months or (said.days or 0) > 0) or self._named:
            return Unclear(Doubt.NO_TIME)
        local = datetime.combine(day, self._now.time().replace(microsecond=0))
        at = instant_of(local, self._zone).timestamp() + (said.after or timedelta(0)).total_seconds()
        return _bounded(When(datetime.fromtimestamp(at, self._zone)), self._now)

    @property
    def _named(self) -> bool:
        """Whether the day was named (tomorrow, 后天) and not counted (in three days)."""
        return not self._said.counted

    def _next_clock(self) -> When | Unclear:
        said = self._said
        minutes = [self._minutes(certain) for certain in self._readings()]
        if not minutes:
            return Unclear(Doubt.NO_TIME if said.part is not None else Doubt.NOT_UNDERSTOOD)
        found = [
            self._at(self._today + timedelta(days=ahead), each % _DAY_MINUTES)
            for each in minutes
            for ahead in (-1, 0, 1, 2)
        ]
        coming = [at for at in found if _ahead(at, self._now) > 0]
        return _bounded(When(min(coming, key=datetime.timestamp)), self._now)

    def _unless_past(self, at: datetime) -> When | Unclear:
        """A day that comes again is the next one; today is asked about."""
        said = self._said
        if _ahead(at, self._now) <= 0:
            if said.clock is None and said.part is not DayPart.NOON and self._date_of(at) == self._today:
                return Unclear(Doubt.NO_TIME)  # the usual hour of this part of the day has passed
            if said.weekday is not None and said.week is None and said.days is None:
                at = self._on(self._date_of(at) + timedelta(days=7))
            elif said.day is not None and said.month is None and said.month_ahead is None:
                later = self._month_day(self._today.year, self._today.month + 1, said.day)
                at = self._on(later) if later is not None else at
            elif said.month is not None and said.day is not None and said.year is None and said.year_ahead is None:
                later = self._month_day(self._today.year + 1, said.month, said.day)
                at = self._on(later) if later is not None else at
        return _bounded(When(at), self._now)

    def _date_of(self, at: datetime) -> date:
        day = self._day()
        return day if isinstance(day, date) else at.date()

    # --- what repeats -------------------------------------------------------------------------------------------------

    def _repeating(self) -> When | Unclear:
        said, every = self._said, self._said.every
        assert every is not None
        if every.unit in (Unit.HOURS, Unit.MINUTES):
            return self._repeating_in_time()
        weekdays = every.weekdays
        by_date = every.unit in (Unit.MONTHS, Unit.YEARS)
        if said.after is not None or said.months is not None or (said.day is not None and not by_date):
            return Unclear(Doubt.NOT_UNDERSTOOD)
        if said.weekday is not None:
            if weekdays or every.unit is not Unit.WEEKS:
                return Unclear(Doubt.NOT_UNDERSTOOD)
            weekdays = (said.weekday,)
        if said.clock is None and said.part is None:
            return Unclear(Doubt.NO_TIME)
        first = self._first_day()
        if isinstance(first, Unclear):
            return first
        day, month = said.day, said.month
        if every.unit is Unit.MONTHS and day is None:
            day = first.day
        if every.unit is Unit.YEARS and (day is None or month is None):
            day, month = first.day, first.month
        minutes = self._minutes(self._readings_with_day()[0])
        if minutes >= _DAY_MINUTES:  # midnight ends the day that was said
            weekdays = tuple((each + 1) % 7 for each in weekdays)
        rule = rule_of(Every(every.unit, every.interval, weekdays), day=day, month=month)
        start = self._local(first, minutes)
        if every.interval > 1 and (weekdays or day is not None):
            start = self._first_of(rule, every.interval, start)
        at = next_after(rule, start, self._now, self._zone)
        if at is None:
            return Unclear(Doubt.NO_SUCH_DAY)
        return _bounded(When(at, rule, start), self._now)

    def _first_of(self, rule: str, interval: int, start: datetime) -> datetime:
        """Every other Friday begins with the coming one."""
        at = next_after(rule.replace(f";INTERVAL={interval}", ""), start, self._now, self._zone)
        return start if at is None else datetime.combine(at.date(), start.time())

    def _first_day(self) -> date | Unclear:
        """From which day on; today unless something else was said."""
        said = self._said
        if said.days is not None and said.weekday is None:
            return self._today + timedelta(days=said.days)
        if said.day is not None and said.month is not None and self._month_day(2024, said.month, said.day) is None:
            return Unclear(Doubt.NO_SUCH_DAY)
        return self._today

    def _repeating_in_time(self) -> When | Unclear:
        said, every = self._said, self._said.every
        assert every is not None
        if said.has_day or said.part is not None:
            return Unclear(Doubt.NOT_UNDERSTOOD)
        length = timedelta(hours=every.interval) if every.unit is Unit.HOURS else timedelta(minutes=every.interval)
        if length < SHORTEST_REPEAT:
            return Unclear(Doubt.TOO_OFTEN)
        rule = rule_of(every)
        assert is_elapsed(rule)
        if said.clock is not None:
            first = self._next_clock()
            return When(first.at, rule, first.at) if isinstance(first, When) else first
        at = datetime.fromtimestamp(self._now.timestamp() + length.total_seconds(), self._zone).replace(microsecond=0)
        return When(at, rule, at)

    # --- the day ------------------------------------------------------------------------------------------------------

    def _day(self) -> date | Unclear:
        said, today = self._said, self._today
        if said.weekday is not None:
            if said.week is not None:
                monday = today - timedelta(days=today.weekday())
                return monday + timedelta(days=7 * said.week + said.weekday)
            ahead = (said.weekday - today.weekday()) % 7
            return today + timedelta(days=ahead + (said.days or 0))
        if said.day is not None:
            year, month = (
                said.year or today.year + (said.year_ahead or 0),
                said.month or today.month + (said.month_ahead or 0),
            )
            found = self._month_day(year, month, said.day)
            if found is None and said.month is None and said.month_ahead is None:
                found = self._month_day(year, month + 1, said.day)  # the 31st, said in a month of 30 days
            return Unclear(Doubt.NO_SUCH_DAY) if found is None else found
        if said.days is None and said.months is None:
            return Unclear(Doubt.NO_DAY)
        counted: date = today + relativedelta(months=said.months or 0, days=said.days or 0)
        return counted

    @staticmethod
    def _month_day(year: int, month: int, day: int) -> date | None:
        year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
        if day == -1:
            return date(year, month, calendar.monthrange(year, month)[1])
        try:
            return date(year, month, day)
        except ValueError:
            return None

    # --- the time of day ----------------------------------------------------------------------------------------------

    def _on(self, day: date) -> datetime:
        """The time that was said, on a day; of today, the reading that is still to come."""
        readings = self._readings_with_day()
        if self._said.days == 0 and len(self._readings()) > 1:
            readings = self._readings()
        found = [self._at(day, self._minutes(reading)) for reading in readings]
        return next((at for at in found if _ahead(at, self._now) > 0), found[0])

    def _readings_with_day(self) -> list[Clock]:
        """The one reading of an hour that may be two."""
        readings = self._readings()
        if len(readings) == 1:
            return readings
        hour = readings[0].hour % 12
        first = _FIRST_ALARM_HOUR if self._alarm else _FIRST_MORNING_HOUR
        return [readings[0] if first <= hour < _NOON else readings[1]]

    def _readings(self) -> list[Clock]:
        """What the clock may mean, the part of the day considered: hours 0 to 28, beyond 24 those of the next day. Two
        where nothing decides; none where there is neither a time nor a part of a day."""
        clock, part = self._said.clock, self._said.part
        if clock is None:
            return [] if part is None else [Clock(part.value, certain=True)]
        hour = clock.hour
        if part is None:
            if clock.certain:
                return [clock]
            return [_at_hour(clock, hour % 12), _at_hour(clock, hour % 12 + 12)]
        if part in _NIGHT:
            hour = hour % 12 + 12 if _LATE_HOUR <= hour < _NOON else hour + 24 if hour < _LATE_HOUR else hour
            if clock.hour == _NOON:
                hour = 24
        elif (part is DayPart.AFTERNOON and hour < _NOON) or (part is DayPart.NOON and hour < _LATE_HOUR):
            hour += 12
        elif part is DayPart.DAWN:
            hour %= 12
        return [_at_hour(clock, hour)]

    @staticmethod
    def _minutes(clock: Clock) -> int:
        return clock.hour * 60 + clock.minute

    def _local(self, day: date, minutes: int) -> datetime:
        second = self._said.clock.second if self._said.clock is not None else 0
        return datetime.combine(day, datetime.min.time()) + timedelta(minutes=minutes, seconds=second)

    def _at(self, day: date, minutes: int) -> datetime:
        return instant_of(self._local(day, minutes), self._zone)


def _at_hour(clock: Clock, hour: int) -> Clock:
    return Clock(hour, clock.minute, clock.second, certain=True)
