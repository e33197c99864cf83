"""The Chinese lunar calendar of a day: lunar date, stems and branches, zodiac, solar terms, festivals, almanac.

The calendar itself is the library lunar-python; this file words what it says. One day costs about 6 ms of CPU
(measured), so a day is worked out once, off the hub, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from cachetools import LRUCache
from lunar_python import Solar

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, FunctionTool, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.plugins import PluginServices

MAX_DAYS_KEPT = 64
# The library's tables of solar terms are good for these years.
FIRST_YEAR, LAST_YEAR = 1900, 2100
_MAX_ALMANAC = 10
_SPEC = ToolSpec(
    "get_lunar",
    "Chinese lunar calendar of a date: lunar date, zodiac animal, "
    "stems and branches, solar terms, festivals, and what the almanac "
    "advises. 查询某一天的农历日期、干支、生肖、节气、节日和黄历宜忌。",
    {
        "type": "object",
        "properties": {
            "date": {"type": "string", "description": "The day, as YYYY-MM-DD; today when left out. 日期，默认今天。"},
            "query": {"type": "string", "description": "What the user wants to know of it. 用户想了解的内容。"},
        },
        "required": [],
    },
)


def build(options: Mapping[str, Any], services: PluginServices) -> Tool:
    """The tool; it has no options."""
    kept: LRUCache[date, str] = LRUCache(MAX_DAYS_KEPT)

    def get_lunar(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        day = _day(arguments.get("date")) or services.now().date()
        text = kept.get(day)
        if text is None:
            text = kept[day] = services.offload(lambda: almanac(day))
        return ToolOutcome(Action.ASK_LLM, text)

    return FunctionTool(_SPEC, get_lunar)


def _day(written: Any) -> date | None:
    if not isinstance(written, str) or not written.strip():
        return None
    try:
        day = date.fromisoformat(written.strip()[:10])
    except ValueError:
        raise ToolError(f"'{written[:20]}' is no date; write it as YYYY-MM-DD") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ToolError(f"the lunar calendar is only known from {FIRST_YEAR} to {LAST_YEAR}")
    return day


def almanac(day: date) -> str:
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
