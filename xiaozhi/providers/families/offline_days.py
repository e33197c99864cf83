"""Days as they are named: "tomorrow", "in three days", "next Friday", 后天, 三天后, 下周五. Text to a date; pure.

A weekday or a feast alone is the next one; "next" is that of the next week, which begins on Monday (as in
reminders)."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

from dateutil.relativedelta import relativedelta

from xiaozhi.speech.numerals import english_number, han_number

MAX_CHARS: Final = 40
_MOST: Final = 5_000
_NAMED: Final = {
    "today": 0,
    "tomorrow": 1,
    "yesterday": -1,
    "day after tomorrow": 2,
    "day before yesterday": -2,
    "今天": 0,
    "明天": 1,
    "后天": 2,
    "大后天": 3,
    "昨天": -1,
    "前天": -2,
    "大前天": -3,
}
_FEASTS: Final = {
    **{"new year": (1, 1), "new years day": (1, 1), "valentines day": (2, 14), "halloween": (10, 31)},
    **{"christmas": (12, 25), "christmas eve": (12, 24), "christmas day": (12, 25), "new years eve": (12, 31)},
    **{"元旦": (1, 1), "情人节": (2, 14), "妇女节": (3, 8), "劳动节": (5, 1), "儿童节": (6, 1), "教师节": (9, 10)},
    **{"国庆": (10, 1), "国庆节": (10, 1), "平安夜": (12, 24), "圣诞": (12, 25), "圣诞节": (12, 25)},
}
"""Those with a fixed date; the next one is meant."""
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAYS_ZH: Final = "一二三四五六日天"
_ENGLISH: Final = re.compile(
    r"(?P<in>in )?(?P<count>.+?) (?P<unit>day|week|month|year)s?(?P<way> from (?:now|today)| ago)?"
)
_ENGLISH_WEEKDAY: Final = re.compile(rf"(?:on )?(?P<which>this |next |last |)(?P<day>{'|'.join(_WEEKDAYS)})")
_CHINESE: Final = re.compile(
    r"过?(?P<count>\d+|[一二两三四五六七八九十百]+)个?(?P<unit>天|日|周|星期|礼拜|月|年)(?P<way>[以之]?[后前]|)"
)
_CHINESE_WEEKDAY: Final = re.compile(r"(?P<which>这|本|下|上|)个?(?:周|星期|礼拜)(?P<day>[一二三四五六日天])")


def day_of(text: str, today: date) -> date | None:
    """The day that `text` (lower case, no marks) names; None when it names none, or one that no calendar has."""
    if len(text) > MAX_CHARS:
        return None
    text = text.removeprefix("the ")
    if text in _NAMED:
        return today + timedelta(_NAMED[text])
    if text in _FEASTS:
        feast = today.replace(month=_FEASTS[text][0], day=_FEASTS[text][1])
        return feast if feast >= today else feast.replace(year=today.year + 1)
    try:
        return _weekday(text, today) or _counted(text, today)
    except (OverflowError, ValueError):
        return None


def _weekday(text: str, today: date) -> date | None:
    match = _ENGLISH_WEEKDAY.fullmatch(text)
    if match is not None:
        place = _WEEKDAYS.index(match["day"])
        weeks = {"next": 1, "last": -1}.get(match["which"].strip())
    else:
        match = _CHINESE_WEEKDAY.fullmatch(text)
        if match is None:
            return None
        place = min(6, _WEEKDAYS_ZH.index(match["day"]))
        weeks = {"下": 1, "上": -1, "这": 0, "本": 0}.get(match["which"])
    if weeks is None:
        return today + timedelta((place - today.weekday()) % 7)
    return today - timedelta(today.weekday()) + timedelta(7 * weeks + place)


def _counted(text: str, today: date) -> date | None:
    match = _ENGLISH.fullmatch(text)
    if match is not None:
        if bool(match["in"]) == bool(match["way"]):
            return None
        words = match["count"].split()
        count, used = (1, 1) if words in (["a"], ["one"]) else english_number(words, 0)
        if used != len(words):
            return None
        back = match["way"] == " ago"
        unit = match["unit"]
    else:
        match = _CHINESE.fullmatch(text)
        if match is None or not (match["way"] or text.startswith("过")):
            return None
        number = han_number(match["count"])
        if number is None:
            return None
        count, back = number, match["way"].endswith("前")
        unit = {"天": "day", "日": "day", "月": "month", "年": "year"}.get(match["unit"], "week")
    if not 0 < count <= _MOST:
        return None
    step = -count if back else count
    match unit:
        case "day":
            return today + timedelta(step)
        case "week":
            return today + timedelta(7 * step)
        case "month":
            found: date = today + relativedelta(months=step)
        case _:
            found = today + relativedelta(years=step)
    return found
