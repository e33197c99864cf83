"""The Chinese lunar calendar of a day: lunar date, stems and branches, zodiac, solar terms, festivals, almanac.

The calendar itself is the library lunar-python; this file words what it says. One day costs about 6 ms of CPU
(measured), so a day is worked out once, off the hub, and kept."""

from __future__ import annotations

import datetime
from typing import Annotated

from cachetools import LRUCache
from lunar_python import Solar
from pydantic import Field

from xiaozhi.errors import ToolError
from xiaozhi.tools.base import ToolOptions, ToolServices
from xiaozhi.tools.registry import tool

MAX_DAYS_KEPT = 64
# The library's tables of solar terms are good for these years.
FIRST_YEAR, LAST_YEAR = 1900, 2100
_MAX_ALMANAC = 10


class LunarCalendar:
    """Keeps the days that were asked for."""

    def __init__(self, options: ToolOptions, services: ToolServices) -> None:
        self._services = services
        self._kept: LRUCache[datetime.date, str] = LRUCache(MAX_DAYS_KEPT)

    @tool("get_lunar")
    def get_lunar(
        self,
        date: Annotated[str, Field(description="The day, as YYYY-MM-DD; today when left out. 日期，默认今天。")] = "",
        query: Annotated[str, Field(description="What the user wants to know of it. 用户想了解的内容。")] = "",
    ) -> str:
        """Chinese lunar calendar of a date: lunar date, zodiac animal, stems and branches, solar terms, festivals, and
        what the almanac advises. 查询某一天的农历日期、干支、生肖、节气、节日和黄历宜忌。"""
        # The model reads what `query` asks for out of the whole page.
        del query
        day = _day(date) or self._services.now().date()
        text = self._kept.get(day)
        if text is None:
            text = self._kept[day] = self._services.offload(lambda: almanac(day))
        return text


def _day(written: str) -> datetime.date | None:
    if not written.strip():
        return None
    try:
        day = datetime.date.fromisoformat(written.strip()[:10])
    except ValueError:
        raise ToolError(f"'{written[:20]}' is no date; write it as YYYY-MM-DD") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ToolError(f"the lunar calendar is only known from {FIRST_YEAR} to {LAST_YEAR}")
    return day


def almanac(day: datetime.date) -> str:
    """What the calendar says of `day`, in Chinese: the terms have no other names that people use. CPU-bound, plain
    Python."""
    solar = Solar.fromYmd(day.year, day.month, day.day)
    lunar = solar.getLunar()
    following = lunar.getNextJieQi()
    festivals = [*solar.getFestivals(), *lunar.getFestivals(), *lunar.getOtherFestivals()]
    lines = [
        f"公历：{day.isoformat()} 星期{solar.getWeekInChinese()}",
        f"农历：{lunar.getYearInChinese()}年{lunar.getMonthInChinese()}月{lunar.getDayInChinese()}",
        f"干支：{lunar.getYearInGanZhi()}年 {lunar.getMonthInGanZhi()}月 {lunar.getDayInGanZhi()}日",
        f"生肖：{lunar.getYearShengXiao()}",
        f"星座：{solar.getXingZuo()}座",
        f"节日：{'、'.join(festivals) or '无'}",
        f"节气：{lunar.getJieQi() or '无'}，下一个节气是{following.getName()}（{following.getSolar().toYmd()}）",
        f"宜：{'、'.join(lunar.getDayYi()[:_MAX_ALMANAC])}",
        f"忌：{'、'.join(lunar.getDayJi()[:_MAX_ALMANAC])}",
    ]
    return "\n".join(lines)
