"""Reads times as they are said or written in English ("tomorrow at half past seven", "every weekday at 7:30").

A row of patterns, each of which takes what it understands out of the text. What is left then, apart from words that
mean nothing here, was not understood: it is said so, never guessed. Numeric dates like 3/4 are not read: half of the
world means another day by them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from xiaozhi.reminders.spoken_time import WEEKEND, WORKDAYS, Clock, DayPart, Every, SpokenTime, Unit
from xiaozhi.speech.numerals import english_number

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_SHORT: Final = {
    **{name[:3]: name for name in (*_WEEKDAYS, *_MONTHS) if name not in ("may", "monday", "sunday", "saturday")},
    **{"mon": "monday", "sun": "sunday", "sat": "saturday", "tues": "tuesday", "thur": "thursday"},
    **{"thurs": "thursday", "sept": "september", "hrs": "hours", "hr": "hour", "mins": "minutes", "min": "minutes"},
    **{
        "sec": "seconds",
        "secs": "seconds",
        "h": "hours",
        "oclock": "",
        "tmrw": "tomorrow",
        "midday": "noon",
        "tomorow": "tomorrow",
    },
}
_ORDINALS: Final = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
)
_ORDINAL: Final = {word: place + 1 for place, word in enumerate(_ORDINALS)} | {"twentieth": 20, "thirtieth": 30}
_NOTHING: Final = frozenset(
    (
        *("at", "on", "in", "the", "of", "for", "from", "a", "an", "and", "please", "me", "my", "to", "by", "around"),
        *("about", "exactly", "sharp", "time", "starting", "beginning", "set", "remind", "wake", "up", "alarm"),
        *("timer", "reminder"),
    )
)
"""Words that may stand around a time and say nothing about it."""

_WEEKDAY: Final = rf"(?P<weekday>{'|'.join(_WEEKDAYS)})"
_MONTH: Final = rf"(?P<month>{'|'.join(_MONTHS)})"
_DAY: Final = r"(?P<day>\d{1,2})(?:st|nd|rd|th)"
_UNIT: Final = r"(?P<unit>second|minute|hour|day|week|month|year)s?"
_AMOUNT: Final = r"(?P<amount>\d+(?:\.\d+)?)"
_PIECE: Final = re.compile(rf"{_AMOUNT} ?{_UNIT}")
_SPAN: Final = r"\d+(?:\.\d+)? ?(?:second|minute|hour|day|week|month|year)s?"
_DAYS_IN_LIST: Final = rf"(?:{'|'.join(_WEEKDAYS)})s?(?:(?: and| or|,)* (?:{'|'.join(_WEEKDAYS)})s?)*"
_PLURALS: Final = rf"(?:{'|'.join(_WEEKDAYS)})s(?:(?: and| or)* (?:{'|'.join(_WEEKDAYS)})s)*"
_LISTED: Final = rf"(?:{'|'.join(_WEEKDAYS)})(?:(?: and)* (?:{'|'.join(_WEEKDAYS)}))+"
_PARTS: Final = {
    "morning": DayPart.MORNING,
    "noon": DayPart.NOON,
    "afternoon": DayPart.AFTERNOON,
    "evening": DayPart.EVENING,
    "night": DayPart.NIGHT,
    "midnight": DayPart.MIDNIGHT,
}
_PART: Final = r"(?P<part>morning|afternoon|evening|night)"
_UNITS: Final = {
    "minute": Unit.MINUTES,
    "hour": Unit.HOURS,
    "day": Unit.DAYS,
    "week": Unit.WEEKS,
    "month": Unit.MONTHS,
    "year": Unit.YEARS,
}
_REWRITTEN: Final = (
    (r"\b(?:a )?half (?:an? )?hour\b", "30 minutes"),
    (r"\b3 quarters of an hour\b", "45 minutes"),
    (r"\b(?:a |1 )?quarter(?: of an?| )? ?hour\b", "15 minutes"),
    (r"\b(?:an?|1) (hour|minute|day|week|month|year) and a half\b", r"1.5 \1s"),
    (r"\b(\d+) and a half (hour|minute|day|week|month|year)s?\b", r"\1.5 \2s"),
    (r"\b(\d+) (hour|minute)s? and a half\b", r"\1.5 \2s"),
    (r"\b(?:a )?couple of (?=hours|minutes|days|weeks|months)", "2 "),
    (r"\bhalf (?:a )?minute\b", "30 seconds"),
    (r"\bevery second (?=day|week|month|year|hour)", "every other "),
    (r"\b12 (?=noon|midnight)", ""),
    (r"\b(every|each) (hour|minute) and a half\b", r"\1 1.5 \2s"),
    (r"\ban? (second|minute|hour|day|week|month|year)\b", r"1 \1"),
)


def read_english(text: str) -> SpokenTime:
    """What an English time says; never raises."""
    words = _normal(text)
    said = SpokenTime()
    for pattern, take in _PATTERNS:
        words = _taken(pattern, take, words, said)
    said.left = " ".join(word for word in words.split() if word not in _NOTHING)
    return said


def _taken(
    pattern: re.Pattern[str], take: Callable[[SpokenTime, re.Match[str]], bool], words: str, said: SpokenTime
) -> str:
    match = pattern.search(words)
    if match is None or not take(said, match):
        return words
    return f"{words[: match.start()]} {words[match.end() :]}"


def _normal(text: str) -> str:
    """Lower case, numbers as digits, ordinals as 3rd, no apostrophes, single spaces."""
    lowered = re.sub(r"['’`]s?\b", "", text.lower())
    lowered = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", lowered)
    lowered = re.sub(r"(?<=\d)(?=[a-z])(?!(?:st|nd|rd|th)\b)", " ", lowered)
    lowered = re.sub(r"(\d)\.(?=\d\d\b)", r"\1:", lowered)
    lowered = re.sub(r"[^\w:.\s]|\.(?!\d)|(?<=[a-z])-(?=[a-z])", " ", lowered)
    words = [_SHORT.get(word, word) for word in lowered.split()]
    words = [word for word in words if word]
    found: list[str] = []
    at = 0
    while at < len(words):
        word, before = words[at], found[-1] if found else ""
        ordinal = _ORDINAL.get(word)
        if ordinal is not None and (word != "second" or before in ("the", "twenty", *_MONTHS)):
            found.append(f"{ordinal}th")
            at += 1
            continue
        tens = {"twenty": 20, "thirty": 30}.get(word)
        following = _ORDINAL.get(words[at + 1], 0) if at + 1 < len(words) else 0
        if tens is not None and 0 < following < 10:
            found.append(f"{tens + following}th")
            at += 2
            continue
        value, used = english_number(words, at)
        if used and not word.isdecimal():
            found.append(str(value))
            at += used
            continue
        found.append(word)
        at += 1
    joined = " ".join(found)
    joined = re.sub(r"\b(\d{1,2}) (?:oh|o|0) (\d)\b", r"\1:0\2", joined)
    for pattern, replacement in _REWRITTEN:
        joined = re.sub(pattern, replacement, joined)
    return joined


# --- what the patterns mean: each returns whether it is to be taken out of the text -----------------------------------


def _every_days(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    if "workday" in match[0] or "weekday" in match[0] or "working day" in match[0]:
        days: tuple[int, ...] = WORKDAYS
    elif "weekend" in match[0]:
        days = WEEKEND
    else:
        days = tuple(_WEEKDAYS.index(name) for name in re.findall("|".join(_WEEKDAYS), parts["list"]))
    said.every = Every(Unit.WEEKS, 2 if parts.get("other") else 1, days)
    return True


def _every_range(said: SpokenTime, match: re.Match[str]) -> bool:
    first, last = _WEEKDAYS.index(match["first"]), _WEEKDAYS.index(match["last"])
    said.every = Every(Unit.WEEKS, weekdays=tuple(range(first, last + 1)))
    return first < last


def _listed_days(said: SpokenTime, match: re.Match[str]) -> bool:
    """Several days are those of a weekly rule, or else nothing that one reminder can mean."""
    if said.every is None or said.every.unit is not Unit.WEEKS:
        return False
    days = tuple(_WEEKDAYS.index(name) for name in re.findall("|".join(_WEEKDAYS), match["list"]))
    said.every = Every(Unit.WEEKS, said.every.interval, days)
    return True


def _every_unit(said: SpokenTime, match: re.Match[str]) -> bool:
    interval = 2 if match["other"] else int(match["n"] or 1)
    said.every = Every(_UNITS[match["unit"]], interval)
    return interval > 0


def _every_half(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.MINUTES, round(float(match["amount"]) * 60))
    return True


def _every_part(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.DAYS)
    said.part = _PARTS[match["part"]]
    return True


def _every_word(said: SpokenTime, match: re.Match[str]) -> bool:
    units = {"dai": Unit.DAYS, "wee": Unit.WEEKS, "mon": Unit.MONTHS, "hou": Unit.HOURS}
    if said.every is None:
        said.every = Every(Unit.DAYS) if match[0] == "nightly" else Every(units.get(match[0][:3], Unit.YEARS))
    return True


def _every_date(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.YEARS)
    return _date(said, match)


def _every_day_of_month(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.MONTHS)
    said.day = -1 if "last day" in match[0] else int(match["day"])
    return True


def _iso_date(said: SpokenTime, match: re.Match[str]) -> bool:
    said.year, said.month, said.day = int(match[1]), int(match[2]), int(match[3])
    return True


def _clock(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    half = (parts.get("half") or "").strip(". ")
    hour, minute = int(parts["hour"]), int(parts.get("minute") or 0)
    if hour > (12 if half else 24) or (half and hour == 0) or minute > 59:
        return False
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    second = int(parts.get("second") or 0)
    written = parts["hour"].startswith("0") and len(parts["hour"]) == 2
    said.clock = Clock(hour, minute, second, certain=bool(half) or hour > 12 or hour == 0 or written)
    return True


def _clock_words(said: SpokenTime, match: re.Match[str]) -> bool:
    amounts = {"half": 30, "quarter": 15}
    minutes = amounts.get(match["how"]) or int(match["how"])
    hour, half = int(match["hour"]), match["half"]
    if hour > 23 or minutes > 59:
        return False
    if half and hour <= 12:
        hour = hour % 12 + (12 if half == "pm" else 0)
    certain = bool(half) or hour > 12 or hour == 0
    total = hour * 60 + (-minutes if match["way"] in ("to", "before", "till") else minutes)
    if total < 0 or (not certain and total < 60):
        total += 24 * 60 if certain else 12 * 60
    said.clock = Clock(total // 60, total % 60, certain=certain)
    return True


def _span(said: SpokenTime, match: re.Match[str]) -> bool:
    seconds = 0.0
    for piece in _PIECE.finditer(match["span"]):
        amount, unit = float(piece["amount"]), piece["unit"]
        match unit:
            case "second" | "minute" | "hour":
                seconds += amount * {"second": 1, "minute": 60, "hour": 3600}[unit]
            case "day" | "week":
                days = amount * (7 if unit == "week" else 1)
                said.days = (said.days or 0) + int(days)
                seconds += (days - int(days)) * 86_400
            case _:
                if amount != int(amount):
                    return False
                said.months = (said.months or 0) + int(amount) * (12 if unit == "year" else 1)
    said.counted = True
    if seconds:
        said.after = timedelta(seconds=round(seconds))
    return True


def _near_day(said: SpokenTime, match: re.Match[str]) -> bool:
    word = match[0].strip()
    said.days = {"today": 0, "tonight": 0, "tomorrow": 1}.get(word, 2)
    if word == "tonight":
        said.part = DayPart.EVENING
    return True


def _this_part(said: SpokenTime, match: re.Match[str]) -> bool:
    said.days = 0
    said.part = _PARTS[match["part"]]
    return True


def _weekday(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    said.weekday = _WEEKDAYS.index(parts["weekday"])
    which = parts.get("which") or parts.get("week") or ""
    if "after next" in match[0]:
        said.week = 2
    elif "next" in which:
        said.week = 1
    elif "this" in which:
        said.week = 0
    return True


def _weeks_from(said: SpokenTime, match: re.Match[str]) -> bool:
    weeks, unit, start = int(match["n"]), match["unit"], match["start"]
    said.days = weeks * (7 if unit == "week" else 1)
    if start in _WEEKDAYS:
        said.weekday = _WEEKDAYS.index(start)
    else:
        said.days += {"tomorrow": 1}.get(start, 0)
    return True


def _next_week(said: SpokenTime, match: re.Match[str]) -> bool:
    said.week = 1
    return True


def _next_month(said: SpokenTime, match: re.Match[str]) -> bool:
    said.month_ahead = 1 if match["which"] == "next" else 0
    return True


def _next_year(said: SpokenTime, match: re.Match[str]) -> bool:
    said.year_ahead = 1 if match["which"] == "next" else 0
    return True


def _date(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    said.day = int(parts["day"])
    if parts.get("month"):
        said.month = _MONTHS.index(parts["month"]) + 1
    if parts.get("year"):
        said.year = int(parts["year"])
    return True


def _last_day(said: SpokenTime, match: re.Match[str]) -> bool:
    said.day = -1
    return True


def _part(said: SpokenTime, match: re.Match[str]) -> bool:
    part = _PARTS[match["part"]]
    if part is DayPart.NOON and said.clock is None:
        said.clock = Clock(12, certain=True)
    elif part is DayPart.MIDNIGHT and said.clock is None:
        said.clock = Clock(24, certain=True)
    else:
        said.part = part
    return True


def _bare(said: SpokenTime, match: re.Match[str]) -> bool:
    """An hour without a word beside it: only where no other time was said."""
    return said.clock is None and said.after is None and _clock(said, match)


_HOUR: Final = r"(?P<hour>\d{1,2})"
_HALF: Final = r"(?: ?(?P<half>am|pm)\b)?"
_PATTERNS: Final = tuple(
    (re.compile(pattern), take)
    for pattern, take in (
        (r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b", _iso_date),
        # what repeats
        (
            rf"\b(?:on |every |from )?(?P<first>{'|'.join(_WEEKDAYS)}) (?:to|through|thru|until|till) "
            rf"(?P<last>{'|'.join(_WEEKDAYS)})\b",
            _every_range,
        ),
        (
            rf"\b(?:on )?(?:every|each) (?P<other>other |2nd |2 weeks? on )?(?P<list>{_DAYS_IN_LIST})\b",
            _every_days,
        ),
        (r"\b(?:(?:on|every|each|all) )*(?:weekdays?|workdays?|working days?|weekends?)\b", _every_days),
        (rf"\b(?:every|each) {_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b", _every_date),
        (rf"\b(?:every|each) (?P<day>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH}\b", _every_date),
        (
            rf"\b(?:every|each) (?:{_DAY}|last day)(?: day)?(?: of (?:the|every|each) month)?\b"
            r"(?! (?:minute|hour|day|week|month|year))",
            _every_day_of_month,
        ),
        (rf"\b(?:on )?(?:the )?(?:{_DAY}|last day) of (?:every|each) month\b", _every_day_of_month),
        (rf"\b(?:every|each) {_PART}\b", _every_part),
        (r"\bevery (?P<amount>\d+\.5) hours?\b", _every_half),
        (
            r"\b(?:every|each) (?P<other>other |2nd )?(?:single )?(?:(?P<n>\d{1,3})(?:rd|th)? )?"
            r"(?P<unit>minute|hour|day|week|month|year)s?\b",
            _every_unit,
        ),
        (r"\b(?:daily|nightly|weekly|monthly|hourly|yearly|annually)\b", _every_word),
        (rf"\b(?:on )?(?P<list>{_PLURALS})\b", _every_days),
        (rf"\b(?:on )?(?P<list>{_LISTED})\b", _listed_days),
        (
            r"\b(?<!from )(?:at )?(?:a )?(?P<how>half|quarter|\d{1,2})(?: minutes?)? "
            rf"(?P<way>past|after|to|before|till) {_HOUR}\b{_HALF}",
            _clock_words,
        ),
        # how long from now
        (
            r"\b(?P<n>\d{1,3}) (?P<unit>day|week)s? (?:from|after) "
            rf"(?P<start>today|tomorrow|{'|'.join(_WEEKDAYS)})\b",
            _weeks_from,
        ),
        (rf"\b(?:in|after|for|within)? ?(?P<span>{_SPAN}(?:(?: and)? {_SPAN})*)(?: from now| later| time)?\b", _span),
        (rf"\b(?:on )?(?:the )?{_MONTH} (?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?: (?P<year>20\d\d))?", _date),
        (
            rf"\b(?:on )?(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH}\b(?: (?P<year>20\d\d))?",
            _date,
        ),
        # the clock
        (rf"\b(?:at )?{_HOUR}[:.](?P<minute>\d\d)(?::(?P<second>\d\d))?{_HALF}", _clock),
        (rf"\b(?:at )?{_HOUR} (?P<minute>[0-5]\d){_HALF}\b(?! ?(?:minute|hour|day|week|month|year))", _clock),
        (rf"\b(?:at )?{_HOUR} (?P<half>am|pm)\b", _clock),
        # the day
        (r"\b(?:the )?day after tomorrow\b|\b(?:tomorrow|tonight|today)\b", _near_day),
        (rf"\bthis {_PART}\b", _this_part),
        (rf"\b{_WEEKDAY} (?P<week>(?:of )?next week|after next)\b", _weekday),
        (rf"\b(?P<week>next week) (?:on )?{_WEEKDAY}\b", _weekday),
        (rf"\b(?:on )?(?P<which>this coming |this |next |coming |the )?{_WEEKDAY}\b", _weekday),
        (r"\b(?:of |in )?(?P<which>next|this) month\b", _next_month),
        (r"\b(?:of |in )?(?P<which>next|this) year\b", _next_year),
        (r"\b(?:on )?the last day(?: of the month)?\b", _last_day),
        (rf"\b(?:on )?(?:the )?{_DAY}\b(?: of the month)?", _date),
        (r"\bnext week\b", _next_week),
        (r"\b(?:at |in the |around )?(?P<part>morning|afternoon|evening|night|noon|midnight)\b", _part),
        (rf"\b(?<!in )(?:at )?{_HOUR}\b(?! ?(?:am|pm))", _bare),
    )
)
