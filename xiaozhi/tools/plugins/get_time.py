"""What time and day it is, where the server's owner lives. Not a calendar of the moon (`get_lunar.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from xiaozhi.chat import ToolSpec
from xiaozhi.tools.base import Action, FunctionTool, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.plugins import PluginServices

_WEEKDAYS = "一二三四五六日"
_SPEC = ToolSpec(
    "get_time",
    "Tells the current time, date and weekday. Call it whenever the answer depends on what time or day it is now. "
    "查询当前时间、日期和星期。",
)


def build(options: Mapping[str, Any], services: PluginServices) -> Tool:
    """The tool; it has no options."""

    def get_time(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return ToolOutcome(Action.ASK_LLM, spoken_time(services.now(), chinese=context.chinese))

    return FunctionTool(_SPEC, get_time)


def spoken_time(now: datetime, *, chinese: bool) -> str:
    """A sentence with time, date, weekday and the distance from UTC."""
    offset = now.strftime("%z")
    zone = f"UTC{offset[:3]}:{offset[3:5]}" if offset else "UTC"
    if chinese:
        weekday = _WEEKDAYS[now.weekday()]
        return f"现在是{now.year}年{now.month}月{now.day}日，星期{weekday}，{now.hour}点{now.minute:02d}分（{zone}）。"
    # Not %B: the names would follow the locale of the process.
    return f"It is {now:%H:%M} on {now:%Y-%m-%d}, a {_english_weekday(now)} ({zone})."


def _english_weekday(now: datetime) -> str:
    return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[now.weekday()]
