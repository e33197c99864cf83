"""Reads times as they are said in Chinese ("明天早上七点半", "每周一三五晚上八点", "十分钟后"), in simplified or
traditional characters.

A row of patterns, each of which takes what it understands out of the text; what is left, apart from words that mean
nothing here, was not understood. Days of the lunar calendar (除夕, 初一) are not read."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta
from typing import Final

from xiaozhi.reminders.spoken_time import WEEKEND, WORKDAYS, Clock, DayPart, Every, SpokenTime, Unit
from xiaozhi.speech.numerals import han_number

_SIMPLIFIED: Final = str.maketrans("點鐘後週個號兩時間過隔們鬧禮還這從", "点钟后周个号两时间过隔们闹礼还这从")
# Possessive: a number is taken whole or not at all.
_N: Final = r"[零〇一二两三四五六七八九十百]++|\d++"
_WEEK: Final = r"(?:周|星期|礼拜)"
_DAY_NAMES: Final = "一二三四五六日天1234567"
_PART_NAMES: Final = {
    **dict.fromkeys(("凌晨", "清晨", "黎明"), DayPart.DAWN),
    **dict.fromkeys(("早上", "早晨", "上午", "一早", "早"), DayPart.MORNING),
    **dict.fromkeys(("中午", "正午"), DayPart.NOON),
    **dict.fromkeys(("下午", "午后"), DayPart.AFTERNOON),
    **dict.fromkeys(("傍晚", "晚上", "晚间", "晚"), DayPart.EVENING),
    **dict.fromkeys(("深夜", "夜里", "夜晚", "夜间"), DayPart.NIGHT),
    **dict.fromkeys(("半夜", "午夜"), DayPart.MIDNIGHT),
}
_PART: Final = rf"(?P<part>{'|'.join(sorted(_PART_NAMES, key=len, reverse=True))})"
_NOTHING: Final = re.compile(
    r"请|麻烦|帮我|给我|提醒|叫醒|叫我|喊我|设置|设个|设|定个|定|闹钟|计时器|计时|倒计时|定时器|定时|一个|"
    r"左右|起床|大概|准时|开始|时候|时间|在|到|于|的|我|就|再|以后|之后|起|钟|整|吧|一下|和|跟|从"
)
_PIECES: Final = (
    rf"(?:(?:{_N})个半(?:小时|钟头)|半个?(?:小时|钟头)|(?:{_N})个?(?:小时|钟头)半|(?:{_N})个?(?:小时|钟头)|(?:{_N})刻钟|"
    rf"(?:{_N})分半钟?|(?:{_N})分钟?|半分钟|(?:{_N})秒钟?|(?:{_N})天半?|(?:{_N})个?(?:星期|礼拜|周)(?![一二三四五六日天])|"
    rf"(?:{_N})个半月|(?:{_N})个月|(?:{_N})年|\d+\.\d+个?小时)"
)
_PIECE: Final = re.compile(rf"(?P<half>半个?(?=小时|钟头|分钟))|(?P<amount>\d+\.\d+|{_N})(?:个(?P<and_half>半))?个?")
_UNIT: Final = re.compile(r"小时|钟头|刻钟|分钟|分|秒|天|星期|礼拜|周|月|年")
_SECONDS: Final = {"小时": 3600, "钟头": 3600, "刻钟": 900, "分钟": 60, "分": 60, "秒": 1}


def read_chinese(text: str) -> SpokenTime:
    """What a Chinese time says; never raises."""
    words = re.sub(r"[^\w:.]|_|\.(?!\d)", "", unicodedata.normalize("NFKC", text).lower().translate(_SIMPLIFIED))
    said = SpokenTime()
    for pattern, take in _PATTERNS:
        match = pattern.search(words)
        if match is not None and take(said, match):
            words = f"{words[: match.start()]} {words[match.end() :]}"
    said.left = "".join(_NOTHING.sub("", words).split())
    return said


def _number(written: str) -> int:
    value = han_number(written)
    return -1 if value is None else value


def _weekday(name: str) -> int:
    return _DAY_NAMES.index(name) % 7 if name not in "天1234567" else 6 if name == "天" else int(name) - 1


# --- what the patterns mean: each returns whether it is to be taken out of the text -----------------------------------


def _every_days(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    if "工作日" in match[0] or "上班" in match[0]:
        days: tuple[int, ...] = WORKDAYS
    elif "周末" in match[0]:
        days = WEEKEND
    else:
        days = tuple(_weekday(name) for name in parts["names"] if name in _DAY_NAMES)
    interval = 2 if "隔" in match[0] else max(1, _number(parts.get("n") or "一"))
    said.every = Every(Unit.WEEKS, interval, days)
    return True


def _every_range(said: SpokenTime, match: re.Match[str]) -> bool:
    first, last = _weekday(match["first"]), _weekday(match["last"])
    said.every = Every(Unit.WEEKS, weekdays=tuple(range(first, last + 1)))
    return first < last


def _daily(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.DAYS)
    return True


def _every_unit(said: SpokenTime, match: re.Match[str]) -> bool:
    units = {"小时": Unit.HOURS, "钟头": Unit.HOURS, "分钟": Unit.MINUTES, "天": Unit.DAYS, "日": Unit.DAYS}
    units |= {"周": Unit.WEEKS, "星期": Unit.WEEKS, "礼拜": Unit.WEEKS, "月": Unit.MONTHS, "年": Unit.YEARS}
    parts = match.groupdict()
    unit, count = units[parts["unit"]], _number(parts.get("n") or "一")
    calendar = unit not in (Unit.HOURS, Unit.MINUTES)
    # 每隔一天 is every second day, 每隔两小时 every two hours.
    said.every = Every(unit, count + 1 if parts["gap"] and calendar else count)
    return count > 0


def _every_half_hour(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.MINUTES, 30)
    return True


def _every_one_and_a_half(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.MINUTES, _number(match["n"]) * 60 + 30)
    return True


def _every_part(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.DAYS)
    said.part = _PART_NAMES[match["part"]]
    return True


def _every_month_day(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.MONTHS)
    said.day = _number(match.groupdict().get("day") or "") if "底" not in match[0] and "最后" not in match[0] else -1
    return True


def _every_date(said: SpokenTime, match: re.Match[str]) -> bool:
    said.every = Every(Unit.YEARS)
    return _date(said, match)


def _clock(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    hour, minute = _number(parts["hour"]), 0
    if parts.get("minute"):
        minute = _number(parts["minute"])
    elif parts.get("quarter"):
        minute = {"半": 30, "一": 15, "1": 15, "三": 45, "3": 45}.get(parts["quarter"], -1)
    second = _number(parts["second"]) if parts.get("second") else 0
    if not 0 <= hour <= 24 or not 0 <= minute < 60:
        return False
    total = hour * 60 + minute
    before = parts.get("before")
    if before:
        total -= 15 if "刻" in before else _number(before.rstrip("分"))
        total += 12 * 60 if total < 0 else 0
    written = parts["hour"].startswith("0") and len(parts["hour"]) == 2
    said.clock = Clock(total // 60, total % 60, second, certain=hour > 12 or hour == 0 or written)
    return True


def _span(said: SpokenTime, match: re.Match[str]) -> bool:
    seconds, text = 0.0, match["span"]
    for piece in re.finditer(_PIECES, text):
        written = piece[0]
        unit_found, number = _UNIT.search(written), _PIECE.match(written)
        if unit_found is None or number is None:
            return False
        unit = unit_found[0]
        amount = 0.5 if number["half"] else float(number["amount"]) if "." in (number["amount"] or "") else 0.0
        amount = amount or float(_number(number["amount"]))
        if number["and_half"] or written.endswith("半") or "分半" in written:
            amount += 0.5
        if unit in _SECONDS:
            seconds += amount * _SECONDS[unit]
        elif unit in ("月", "年"):
            if amount != int(amount):
                return False
            said.months = (said.months or 0) + int(amount) * (12 if unit == "年" else 1)
        else:
            days = amount * (1 if unit == "天" else 7)
            said.days = (said.days or 0) + int(days)
            seconds += (days - int(days)) * 86_400
    said.counted = True
    if seconds:
        said.after = timedelta(seconds=round(seconds))
    return True


def _near_day(said: SpokenTime, match: re.Match[str]) -> bool:
    near = {"今": 0, "明": 1, "大后": 3, "后": 2}
    said.days = near[match["near"]]
    part = match.groupdict().get("part")
    if part:
        said.part = _PART_NAMES[part]
    return True


def _week_day(said: SpokenTime, match: re.Match[str]) -> bool:
    which = match["which"] or ""
    said.weekday = _weekday(match["name"])
    if which:
        said.week = which.count("下")
    return True


def _week_only(said: SpokenTime, match: re.Match[str]) -> bool:
    said.week = match["which"].count("下")
    return True


def _month_only(said: SpokenTime, match: re.Match[str]) -> bool:
    said.month_ahead = match["which"].count("下")
    return True


def _month_day(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    said.day = -1 if not parts.get("day") else _number(parts["day"])
    if parts.get("which"):
        said.month_ahead = parts["which"].count("下")
    return said.day != 0


def _date(said: SpokenTime, match: re.Match[str]) -> bool:
    parts = match.groupdict()
    said.month, said.day = _number(parts["month"]), _number(parts["day"])
    if parts.get("year"):
        said.year = int("".join(str(_number(digit)) for digit in parts["year"]))
    if parts.get("near"):
        said.year_ahead = {"今": 0, "明": 1, "后": 2}[parts["near"]]
    return True


def _part(said: SpokenTime, match: re.Match[str]) -> bool:
    said.part = _PART_NAMES[match["part"]]
    return True


_LIST: Final = (
    r"(?P<names>(?:[一二三四五六日天]|[1-7](?!\d))(?:[、和跟及]?(?:周|星期|礼拜)?[一二三四五六日天])*)"
    r"(?![点时个号月分刻到至])"
)
_PATTERNS: Final = tuple(
    (re.compile(pattern), take)
    for pattern, take in (
        # what repeats
        (rf"(?:每个?|逢)?{_WEEK}(?P<first>[{_DAY_NAMES}])[到至]{_WEEK}?(?P<last>[{_DAY_NAMES}])", _every_range),
        (r"(?:每个?|每天)?工作日|每个?上班日", _every_days),
        (r"每个?周末", _every_days),
        (rf"(?:每个?|逢){_WEEK}(?:的)?{_LIST}", _every_days),
        (rf"每(?:(?P<n>{_N})个?|隔一?个?){_WEEK}(?:的?{_WEEK})?{_LIST}", _every_days),
        (rf"每年(?P<month>{_N})月(?:份的?)?(?P<day>{_N})[号日]", _every_date),
        (rf"每个?月(?:的)?(?P<day>{_N})[号日]", _every_month_day),
        (r"每个?月(?:的)?(?:最后一天|月底|底)", _every_month_day),
        (r"每(?:隔)?半个?(?:小时|钟头)", _every_half_hour),
        (rf"每(?:隔)?(?P<n>{_N})个半(?:小时|钟头)", _every_one_and_a_half),
        (
            rf"每(?P<gap>隔)?(?P<n>{_N})?个?(?P<unit>小时|钟头|分钟|天|日|周|星期|礼拜|月|年)",
            _every_unit,
        ),
        (r"(?P<gap>隔)(?P<unit>天|周|月|年)", _every_unit),
        (rf"每个?{_PART}", _every_part),
        (r"(?<![今明后])天天", _daily),
        # the date, before numbers of other kinds
        (
            rf"(?:(?P<near>[今明后])年|(?P<year>(?:20|二[零〇])[\d零〇一二三四五六七八九]{{2}})年)?(?P<month>{_N})月(?:份的?)?(?P<day>{_N})[号日]?(?![点时:])",
            _date,
        ),
        (r"(?P<year>20\d\d)-(?P<month>\d{1,2})-(?P<day>\d{1,2})", _date),
        # the clock
        (rf"差(?P<before>一刻|(?:{_N})分)钟?(?:到|就)?(?P<hour>{_N})[点时]", _clock),
        (rf"(?P<hour>{_N})[点时]差(?P<before>一刻|(?:{_N})分)钟?", _clock),
        (rf"(?P<hour>{_N})[点时](?:钟)?(?:过)?(?P<quarter>半|[一三13](?=刻))(?:刻)?钟?", _clock),
        (
            rf"(?P<hour>{_N})[点时](?:钟)?(?:过)?零?(?P<minute>{_N})分?(?!钟?[后以之]|个|秒|刻)(?:(?P<second>{_N})秒)?",
            _clock,
        ),
        (rf"(?P<hour>{_N})[点时](?:钟|整)?", _clock),
        (r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?", _clock),
        # how long from now
        (rf"(?:再?过)?(?P<span>{_PIECES}(?:[零又]?{_PIECES})*)(?:钟)?(?:以后|之后|后|以内|内)?", _span),
        # the day
        (r"(?P<near>今|明|大后|后)[天日]", _near_day),
        (r"(?P<near>今|明|后)(?P<part>早上|早|晚上|晚)", _near_day),
        (rf"(?P<which>下+个?|这个?|本)?{_WEEK}(?P<name>[{_DAY_NAMES}])", _week_day),
        (rf"(?P<which>下+个?|这个?|本){_WEEK}", _week_only),
        (rf"(?P<which>下+个?|这个?|本)月(?:的)?(?P<day>{_N})[号日]", _month_day),
        (r"(?P<which>下+个?|这个?|本)月(?:的)?(?:最后一天|底)", _month_day),
        (r"(?P<which>下+个?|这个?|本)月", _month_only),
        (rf"(?P<day>{_N})[号日]", _month_day),
        (_PART, _part),
    )
)
