"""What the offline assistant can fill into its sentences: time and date in words, chance, values that the device told.

Worded for the ear: "3:05 PM" and "November 20th", "下午3点05分" and "11月20日".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from xiaozhi.providers.families.offline_days import day_of
from xiaozhi.providers.families.offline_file import PLACEHOLDER

if TYPE_CHECKING:
    from xiaozhi.runtime.inference import InferencePool

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WEEKDAYS_ZH = "一二三四五六日"
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December"
)  # fmt: skip
_DIGITS_ZH = "零一二三四五六七八九"
LUNAR_DEADLINE_S = 5.0


class OfflineFacts:
    """Everything one answer may mention. A value is made when it is first asked for, and stays the same within the
    answer."""

    def __init__(self, now: datetime, language: str, chance: random.Random, inference: InferencePool) -> None:
        self._now = now
        self._day = now.date()
        self._chinese = language == "zh"
        self._chance = chance
        self._inference = inference
        self._known: dict[str, Any] = {}
        self._least, self._most = 0, 100
        self._makers: Mapping[str, Callable[[], Any]] = {
            "time": lambda: spoken_time(now, chinese=self._chinese),
            "date": lambda: spoken_date(self._day, chinese=self._chinese),
            "weekday": self._weekday,
            "month": lambda: f"{self._day.month}月" if self._chinese else _MONTHS[self._day.month - 1],
            "year": self._year,
            "days": lambda: (self._day - now.date()).days,
            "part_of_day": lambda: part_of_day(now, chinese=self._chinese),
            "lunar": self._lunar,
            "coin": lambda: chance.choice(("正面", "反面") if self._chinese else ("heads", "tails")),
            "die": lambda: chance.randint(1, 6),
            "number": lambda: chance.randint(1, 100),
            "answer": lambda: "",
        }

    def about(self, day: str) -> None:
        """What is asked is asked of another day, as the slot of a phrase names it."""
        self._day = day_of(day, self._now.date()) or self._day

    def add(self, values: Mapping[str, Any]) -> None:
        """Values from the phrase or the device."""
        self._known.update(values)

    def limit(self, least: int, most: int) -> None:
        """What sums ("{volume + 10}") are kept within."""
        self._least, self._most = least, most

    def fill(self, template: str) -> str:
        """`template` with its placeholders filled in."""
        return PLACEHOLDER.sub(lambda match: str(self._filled(match[1], match[2], match[3])), template)

    def value(self, given: str | int | bool) -> Any:
        """An argument for a tool: a lone placeholder keeps its type."""
        if not isinstance(given, str):
            return given
        whole = PLACEHOLDER.fullmatch(given.strip())
        return self._filled(whole[1], whole[2], whole[3]) if whole else self.fill(given)

    def _filled(self, name: str, sign: str | None, amount: str | None) -> Any:
        if name not in self._known:
            self._known[name] = self._makers[name]() if name in self._makers else ""
        value = self._known[name]
        if sign is None or amount is None or not isinstance(value, int):
            return value
        changed = value + int(amount) if sign == "+" else value - int(amount)
        return max(self._least, min(self._most, changed))

    def _weekday(self) -> str:
        place = self._day.weekday()
        return f"星期{_WEEKDAYS_ZH[place]}" if self._chinese else _WEEKDAYS[place]

    def _year(self) -> str | int:
        year = self._day.year
        return "".join(_DIGITS_ZH[int(digit)] for digit in str(year)) if self._chinese else year

    def _lunar(self) -> str:
        # 6 ms of CPU, and its tables take longer to import.
        return self._inference.run(lunar_date, self._day, self._chinese, kind="other", deadline=LUNAR_DEADLINE_S)


def spoken_time(now: datetime, *, chinese: bool) -> str:
    """The time of day."""
    if chinese:
        hour = now.hour if now.hour <= 12 else now.hour - 12
        return f"{part_of_day(now, chinese=True)}{hour}点" + (f"{now.minute:02d}分" if now.minute else "整")
    half = "AM" if now.hour < 12 else "PM"
    hour = now.hour % 12 or 12
    return f"{hour}:{now.minute:02d} {half}" if now.minute else f"{hour} {half}"


def spoken_date(now: date, *, chinese: bool) -> str:
    """Month and day."""
    if chinese:
        return f"{now.month}月{now.day}日"
    ending = "th" if 10 <= now.day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(now.day % 10, "th")
    return f"{_MONTHS[now.month - 1]} {now.day}{ending}"


def part_of_day(now: datetime, *, chinese: bool) -> str:
    """Fit for a greeting ("good evening"); Chinese also names the hours before dawn and around noon."""
    if not chinese:
        return "morning" if now.hour < 12 else "afternoon" if now.hour < 18 else "evening"
    for until, name in ((5, "凌晨"), (9, "早上"), (12, "上午"), (13, "中午"), (18, "下午")):
        if now.hour < until:
            return name
    return "晚上"


def lunar_date(day: date, chinese: bool) -> str:
    """The day in the Chinese calendar. CPU-bound; plain Python."""
    from lunar_python import Solar

    lunar = Solar.fromYmd(day.year, day.month, day.day).getLunar()
    if chinese:
        return f"{lunar.getMonthInChinese()}月{lunar.getDayInChinese()}"
    month = lunar.getMonth()
    # A leap month has the number of the one before it, negative.
    return f"day {lunar.getDay()} of {'leap ' if month < 0 else ''}month {abs(month)}"
