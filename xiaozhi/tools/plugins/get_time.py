"""What time and day it is where the server's owner lives. Not the lunar calendar (`get_lunar.py`)."""

from __future__ import annotations

from datetime import datetime

from xiaozhi.tools.base import ToolContext, ToolServices
from xiaozhi.tools.registry import tool

_WEEKDAYS = "一二三四五六日"


@tool("get_time")
def get_time(context: ToolContext, services: ToolServices) -> str:
    """Tells the current time, date and weekday. Call it whenever the answer depends on what time or day it is now.
    查询当前时间、日期和星期。"""
    return spoken_time(services.now(), chinese=context.chinese)


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
