"""Digits and signs in a Chinese text as the words they are read as: dates, times, temperatures, percentages, telephone
numbers, money, units, ranges, sums.

Pure text to text. What is read digit by digit (years, telephone numbers, codes) and what is read as a number is decided
by what stands around it. Source: GB/T 15835-2011 for the forms, common usage for how they are read."""

from __future__ import annotations

import re
from typing import Final

_DIGITS: Final = "零一二三四五六七八九"
_PLACES: Final = ("", "十", "百", "千")
_MYRIADS: Final = ("", "万", "亿", "万亿")
MOST_DIGITS: Final = 13
"""Longer numbers are read digit by digit."""

_WIDE: Final = str.maketrans(
    "０１２３４５６７８９％－＋＝−〇" + "".join(map(chr, (*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)))),
    "0123456789%-+=-零ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
)

# What may stand directly behind a number, longest first; a letter behind it makes it another word.
_UNITS: Final = {
    "km/h": "公里每小时",
    "m/s": "米每秒",
    "μg/m³": "微克每立方米",
    "kwh": "千瓦时",
    "mah": "毫安时",
    "km²": "平方公里",
    "kcal": "千卡",
    "cm": "厘米",
    "mm": "毫米",
    "km": "公里",
    "m²": "平方米",
    "m³": "立方米",
    "㎡": "平方米",
    "kg": "公斤",
    "mg": "毫克",
    "ml": "毫升",
    "khz": "千赫",
    "mhz": "兆赫",
    "ghz": "吉赫",
    "hz": "赫兹",
    "hpa": "百帕",
    "kpa": "千帕",
    "db": "分贝",
    "kw": "千瓦",
    "min": "分钟",
    "ms": "毫秒",
    "℃": "摄氏度",
    "°c": "摄氏度",
    "℉": "华氏度",
    "°f": "华氏度",
    "°": "度",
}
_LETTERS: Final = {
    "m": "米",
    "g": "克",
    "l": "升",
    "L": "升",
    "w": "瓦",
    "W": "瓦",
    "v": "伏",
    "V": "伏",
    "h": "小时",
    "s": "秒",
}
"""Units where the size of the letter counts: 5g is a weight and 5G a network."""
_MONEY: Final = {"¥": "元", "￥": "元", "$": "美元", "€": "欧元", "£": "英镑"}
_SUMS: Final = {"+": "加", "-": "减", "×": "乘", "*": "乘", "÷": "除以", "=": "等于"}

_NUMBER: Final = r"\d+(?:\.\d+)?"
_TO: Final = r"\s*[-~～–—]\s*"
_NOT_INSIDE: Final = r"(?<![\d.A-Za-z])"
_THOUSANDS: Final = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_DATE: Final = re.compile(_NOT_INSIDE + r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?![\d.])")
_YEAR: Final = re.compile(
    r"(?<!\d)((?:19|20)\d[1-9](?=年)|(?:1[0-9]|20)\d{2}(?=年(?![前后以多内间来]))|\d{2}(?=年(?:代|\d|[一二三四五六七八九十]+月)))"
)
_TIME: Final = re.compile(r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])")
_SCORE: Final = re.compile(r"(?<![\d:.])(\d{1,3})[:：](\d{1,3})(?![\d:])")
_MOBILE: Final = re.compile(r"(?<!\d)(?:\+?86[- ]?)?(1[3-9]\d)[- ]?(\d{4})[- ]?(\d{4})(?!\d)")
_LANDLINE: Final = re.compile(r"(?<!\d)(0\d{2,3}|[48]00)[- ](\d{3,4})[- ]?(\d{4})(?!\d)")
_COUNTED: Final = r"(?!\d|\.\d|[个個只条位张次万亿元块米分秒人斤公千克厘毫平小度%年月日天岁])"
_CODE: Final = re.compile(
    r"((?:电话|手机号|号码|热线|拨打|拨|致电|客服|邮编|验证码|密码|房间|尾号|编号|QQ)(?:号|码|是|为|了|到|[：:\s]){0,3}|[打呼叫](?=\d{3,5}))"
    rf"(\d{{2,}}){_COUNTED}"
)
_POINTS: Final = re.compile(r"(比分\D{0,4})(\d{1,3})[:：-](\d{1,3})(?!\d)")
_PERCENT: Final = re.compile(rf"(-?)({_NUMBER})(?:[%‰]?{_TO}({_NUMBER}))?([%‰])")
_MONEY_BEFORE: Final = re.compile(rf"([{''.join(_MONEY)}])\s?({_NUMBER})([万亿千百]?)")
_UNIT: Final = re.compile(
    rf"(?<![A-Za-z])({_NUMBER})(?:{_TO}({_NUMBER}))?\s?((?i:"
    + "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
    + rf")|[{''.join(_LETTERS)}])(?![A-Za-z/])"
)
_COLD: Final = re.compile(
    rf"(?:(?<=^)|(?<=[^\d\w])|(?<=[\u3400-\u9fff]))-({_NUMBER})(?=\s?(?:℃|°|度|摄氏度)|{_TO}-?{_NUMBER}\s?(?:℃|°|度))"
)
SUM: Final = re.compile(rf"-?{_NUMBER}(?:\s*[-+×*÷=]\s*(?:-?{_NUMBER})?)*+")
"""Each run of numbers and signs once, so that its time grows with the text only; `_sum` leaves one without a sum."""
_SUM_PART: Final = re.compile(rf"({_NUMBER})|([-+×*÷=])")
_FRACTION: Final = re.compile(r"(?<![\d/.])(\d{1,3})/(\d{1,3})(?![\d/])")
_VERSION: Final = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}")
_RANGE: Final = re.compile(rf"({_NUMBER}){_TO}({_NUMBER})(?=\s*[%\u3400-\u9fff])")
_NEGATIVE: Final = re.compile(rf"(?:^|(?<=[\s，。：:（(\u3400-\u9fff]))-(?={_NUMBER})")
_NEAR_LETTERS: Final = re.compile(r"(?<=[A-Za-z])-?(\d+)|(\d+)(?=[A-Za-z])")
_ANY: Final = re.compile(_NUMBER)
# "两" before what is counted, "二" in numbers, dates and grades.
_TWO: Final = re.compile(
    r"(?<![\d.第零一二三四五六七八九十百千万亿点])2(?=[个個只条件位本张块次天周种杯台盏辆部首句段间层遍双对瓶片颗根座份倍步岁米斤家口间名点]|"
    r"小时|分钟|公里|公斤|千克|厘米|毫米|毫升|平方|元|年(?![级\d])|[百千万亿])"
)


_ENDLESS: Final = re.compile(r"[0-9]{50,}")
"""No number that anybody reads; the patterns below would take seconds for thousands of digits."""


def spelled_out(text: str) -> str:
    """`text` with every number and the signs around it written in Chinese words. Text without digits comes back as it
    is, but for letters of double width."""
    text = text.translate(_WIDE)
    if not any("0" <= char <= "9" for char in text):
        return text
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _ENDLESS.sub(lambda match: _digits(match[0]), text)
    text = _DATE.sub(lambda match: f"{_digits(match[1])}年{int(match[3])}月{int(match[4])}日", text)
    text = _YEAR.sub(lambda match: _digits(match[1]), text)
    text = _POINTS.sub(lambda match: f"{match[1]}{_whole(match[2])}比{_whole(match[3])}", text)
    text = _TIME.sub(_time, text)
    text = _MOBILE.sub(lambda match: "，".join(_digits(part, "幺") for part in match.groups()), text)
    text = _LANDLINE.sub(lambda match: "，".join(_digits(part, "幺") for part in match.groups()), text)
    text = _CODE.sub(lambda match: match[1] + _digits(match[2], "幺"), text)
    text = _COLD.sub(lambda match: f"零下{match[1]}", text)
    text = _PERCENT.sub(_percent, text)
    text = _MONEY_BEFORE.sub(lambda match: f"{match[2]}{match[3]}{_MONEY[match[1]]}", text)
    text = _UNIT.sub(_unit, text)
    text = SUM.sub(_sum, text)
    text = _FRACTION.sub(lambda match: f"{_whole(match[2])}分之{_whole(match[1])}", text)
    text = _SCORE.sub(lambda match: f"{_whole(match[1])}比{_whole(match[2])}", text)
    text = _VERSION.sub(lambda match: "点".join(_whole(part) for part in match[0].split(".")), text)
    text = _RANGE.sub(r"\1到\2", text)
    text = _NEGATIVE.sub("负", text)
    text = _NEAR_LETTERS.sub(_beside_letters, text)
    text = _TWO.sub("两", text)
    return _ANY.sub(lambda match: number(match[0]), text)


def number(digits: str) -> str:
    """How a number is read: "3.50" -> 三点五零, "10" -> 十, "007" -> 零零七."""
    whole, point, rest = digits.partition(".")
    return _whole(whole) + (f"点{_digits(rest)}" if point else "")


def _digits(digits: str, one: str = "一") -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits).replace("一", one)


def _whole(digits: str) -> str:
    if len(digits) > MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return _digits(digits)
    value = int(digits)
    if not value:
        return _DIGITS[0]
    groups: list[int] = []
    while value:
        value, group = divmod(value, 10_000)
        groups.append(group)
    words = ""
    gap = False
    for place in range(len(groups) - 1, -1, -1):
        group = groups[place]
        if not group:
            gap = bool(words)
            continue
        if words and (gap or group < 1_000):
            words += "零"
        words += ("两" if group == 2 and place and not words else _group(group)) + _MYRIADS[place]
        gap = False
    return words[1:] if words.startswith("一十") else words


def _group(value: int) -> str:
    """1..9999."""
    words = ""
    gap = False
    for place in range(3, -1, -1):
        digit = value // 10**place % 10
        if not digit:
            gap = bool(words)
            continue
        words += ("零" if gap else "") + ("两" if digit == 2 and place == 3 else _DIGITS[digit]) + _PLACES[place]
        gap = False
    return words


def _time(match: re.Match[str]) -> str:
    hour, minute, second = match.groups()
    hours = "两" if int(hour) == 2 else _whole(str(int(hour)))
    if second:
        return f"{hours}点{_sixtieth(minute)}分{_sixtieth(second)}秒"
    return f"{hours}点整" if minute == "00" else f"{hours}点{_sixtieth(minute)}分"


def _sixtieth(digits: str) -> str:
    return _digits(digits) if digits[0] == "0" and digits != "00" else _whole(str(int(digits)))


def _beside_letters(match: re.Match[str]) -> str:
    behind, before = match.groups()
    return _digits(behind) if behind else number(before) if len(before) < 3 else _digits(before)


def _percent(match: re.Match[str]) -> str:
    minus, first, last, sign = match.groups()
    of = "百分之" if sign == "%" else "千分之"
    until = f"到{of}{number(last)}" if last else ""
    return f"{of}{'负' if minus else ''}{number(first)}{until}"


def _unit(match: re.Match[str]) -> str:
    first, last, unit = match.groups()
    word = _LETTERS.get(unit) or _UNITS[unit.lower()]
    return f"{first}到{last}{word}" if last else f"{first}{word}"


def _sum(match: re.Match[str]) -> str:
    if not any(sign in match[0] for sign in "+×*÷="):
        return match[0]
    words = ""
    for part in _SUM_PART.finditer(match[0]):
        if part[1]:
            words += number(part[1])
        elif part[2] == "-" and (not words or words[-1] in "加减乘以于"):
            words += "负"
        else:
            words += _SUMS[part[2]]
    return words
