"""Times in words that can be spoken, in English and Chinese: "tomorrow at 7:30 AM", "每周一、周三早上7点半". Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_HAN_DAYS: Final = "一二三四五六日"
_NAMES: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WORKDAYS: Final = "MO,TU,WE,TH,FR"
_PARTS: Final = ((5, "凌晨"), (9, "早上"), (12, "上午"), (13, "中午"), (18, "下午"), (24, "晚上"))
"""Until which hour a part of the day lasts."""


def clock_words(at: datetime, *, chinese: bool) -> str:
    """The time of day."""
    if chinese:
        part = next(name for until, name in _PARTS if at.hour < until)
        minute = "" if at.minute == 0 else "半" if at.minute == 30 else f"{at.minute:02d}分"
        return f"{part}{at.hour % 12 or (0 if at.hour == 0 else 12)}点{minute}"
    if at.minute == 0 and at.hour in (0, 12):
        return "noon" if at.hour else "midnight"
    return f"{at.hour % 12 or 12}:{at.minute:02d} {'AM' if at.hour < 12 else 'PM'}"


def moment_words(at: datetime, now: datetime | None, *, chinese: bool) -> str:
    """A day and its time of day, as seen from `now`; None: from any day. English: as it follows "remind you"."""
    clock = clock_words(at, chinese=chinese)
    ahead = (at.date() - now.date()).days if now is not None else None
    if chinese:
        named = {0: "今天", 1: "明天", 2: "后天"}.get(ahead) if ahead is not None else None
        year = f"{at.year}年" if now is not None and at.year != now.year else ""
        return f"{named or f'{year}{at.month}月{at.day}日星期{_HAN_DAYS[at.weekday()]}'}{clock}"
    named = {0: "today", 1: "tomorrow"}.get(ahead) if ahead is not None else None
    year = f" {at.year}" if now is not None and at.year != now.year else ""
    day = named or f"on {_DAYS[at.weekday()]}, {_MONTHS[at.month - 1]} {at.day}{year}"
    return f"{day} at {clock}"


def span_words(span: timedelta, *, chinese: bool) -> str:
    """A length of time: "1 hour 30 minutes"."""
    seconds = round(span.total_seconds())
    pieces = []
    units = (
        (86_400, "day", "天"),
        (3_600, "hour", "小时"),
        (60, "minute", "分钟"),
        (1, "second", "秒"),
    )
    for size, word, han in units:
        count, seconds = divmod(seconds, size)
        if count:
            pieces.append(f"{count}{han}" if chinese else f"{count} {word}{'s' if count > 1 else ''}")
    return ("" if chinese else " ").join(pieces)


def rule_words(rule: str, at: datetime, *, chinese: bool) -> str:
    """What repeats, with its time of day. `at`: one of its times."""
    parts = dict(part.split("=", 1) for part in rule.split(";"))
    interval = int(parts.get("INTERVAL", "1"))
    days = parts.get("BYDAY", "")
    dates = parts.get("BYMONTHDAY", "")
    last = dates.rsplit(",", 1)[-1]
    clock = clock_words(at, chinese=chinese)
    if chinese:
        return _han_rule(parts["FREQ"], interval, days, last, at) + ("" if _elapsed(parts) else clock)
    said = _english_rule(parts["FREQ"], interval, days, last, at)
    return said if _elapsed(parts) else f"{said} at {clock}"


def _elapsed(parts: dict[str, str]) -> bool:
    return parts["FREQ"] in ("HOURLY", "MINUTELY")


def _english_rule(frequency: str, interval: int, days: str, day: str, at: datetime) -> str:
    unit = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year", "HOURLY": "hour"}
    name = unit.get(frequency, "minute")
    often = f"every {name}" if interval == 1 else f"every {interval} {name}s"
    match frequency:
        case "WEEKLY" if days == _WORKDAYS and interval == 1:
            return "every weekday"
        case "WEEKLY":
            named = [_DAYS[_NAMES.index(each)] for each in days.split(",")] if days else [_DAYS[at.weekday()]]
            listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
            return f"every {listed}" if interval == 1 else f"{often} on {listed}"
        case "MONTHLY":
            return f"{often} on the {'last day' if day == '-1' else _ordinal(int(day or at.day))}"
        case "YEARLY":
            return f"{often} on {_MONTHS[at.month - 1]} {day or at.day}"
    return often


def _han_rule(frequency: str, interval: int, days: str, day: str, at: datetime) -> str:
    unit = {"DAILY": "天", "WEEKLY": "周", "MONTHLY": "个月", "YEARLY": "年", "HOURLY": "小时"}
    often = f"每{interval}{unit.get(frequency, '分钟')}" if interval > 1 else f"每{unit.get(frequency, '分钟')}"
    match frequency:
        case "WEEKLY" if days == _WORKDAYS and interval == 1:
            return "每个工作日"
        case "WEEKLY":
            named = [_HAN_DAYS[_NAMES.index(each)] for each in days.split(",")] if days else [_HAN_DAYS[at.weekday()]]
            return f"{often}{'、周'.join(named)}" if interval == 1 else f"{often}的周{'、周'.join(named)}"
        case "MONTHLY":
            return f"{often}{'最后一天' if day == '-1' else f'{day or at.day}号'}"
        case "YEARLY":
            return f"{often}{at.month}月{day or at.day}号"
    return often


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def spoken_text(text: str) -> str:
    """A text as it stands in the middle of a sentence: one line, without a full stop at its end."""
    return re.sub(r"\s+", " ", text).strip().rstrip("。.!！ ")
