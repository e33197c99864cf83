"""What the offline assistant knows without being told: the moment, in words of two languages, and chance.

Pure given a moment and a source of chance. Numbers are written so that they are spoken well.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lunar_python import Solar

_WEEKDAYS_EN = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WEEKDAYS_ZH = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
# First hour of each part of the day.
_PARTS_EN = ((5, "morning"), (12, "afternoon"), (18, "evening"))
_PARTS_ZH = ((5, "早上"), (9, "上午"), (12, "中午"), (14, "下午"), (18, "晚上"))


class Facts:
    """The facts of one moment in one language ("en", "zh")."""

    def __init__(self, now: datetime, language: str, chance: random.Random) -> None:
        self._now = now
        self._chinese = language == "zh"
        self._chance = chance

    def known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All facts, and `values` above them."""
        return {
            "time": self.time(),
            "date": self.date(),
            "weekday": (_WEEKDAYS_ZH if self._chinese else _WEEKDAYS_EN)[self._now.weekday()],
            "month": f"{self._now.month}月" if self._chinese else _MONTHS[self._now.month - 1],
            "year": self._now.year,
            "lunar": self.lunar(),
            "part_of_day": self.part_of_day(),
            "coin": self._chance.choice(("正面", "反面") if self._chinese else ("heads", "tails")),
            "die": self._chance.randint(1, 6),
            "number": self._chance.randint(1, 100),
            **values,
        }

    def time(self) -> str:
        """ "3:05 PM", "下午3点5分"."""
        hour, minute = self._now.hour, self._now.minute
        if self._chinese:
            return f"{self.part_of_day()}{(hour - 1) % 12 + 1 if hour else 0}点" + (f"{minute}分" if minute else "整")
        return f"{(hour - 1) % 12 + 1}:{minute:02} {'AM' if hour < 12 else 'PM'}"

    def date(self) -> str:
        """ "November 20", "11月20日"."""
        return f"{self._now.month}月{self._now.day}日" if self._chinese else f"{_MONTHS[self._now.month - 1]} {self._now.day}"

    def lunar(self) -> str:
        """The lunar date: "十月十二", "month 10, day 12"."""
        lunar = Solar.fromYmd(self._now.year, self._now.month, self._now.day).getLunar()
        if self._chinese:
            return f"{lunar.getMonthInChinese()}月{lunar.getDayInChinese()}"
        return f"day {lunar.getDay()} of month {abs(lunar.getMonth())}"

    def part_of_day(self) -> str:
        """ "morning", "下午"."""
        parts = _PARTS_ZH if self._chinese else _PARTS_EN
        return next((name for hour, name in reversed(parts) if self._now.hour >= hour), "凌晨" if self._chinese else "evening")
