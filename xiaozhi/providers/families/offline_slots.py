"""What may stand in a slot of an offline phrase that is no plain number: a sum, a day, a time, a thing, any words.
Text (as `plain_text` writes it) to the value that an answer or a tool is given; None: it is no such thing."""

from __future__ import annotations

import functools
import re
import unicodedata
from datetime import date
from typing import Final

from xiaozhi.providers.families.offline_days import day_of
from xiaozhi.providers.families.offline_file import Slot
from xiaozhi.providers.families.offline_loose import NUMERALS
from xiaozhi.providers.families.offline_patterns import canonical_words, in_full, in_standard, language_of
from xiaozhi.providers.families.offline_sounds import SyllableSounds
from xiaozhi.providers.families.offline_sums import result_of, result_words
from xiaozhi.speech.numerals import english_number

MAX_WORDS: Final = {"en": 60, "zh": 30}
MAX_NAME: Final = {"en": 30, "zh": 6}
MAX_NAME_WORDS: Final = 3
MAX_THING: Final = {"en": 40, "zh": 10}
_ANY_DAY: Final = date(2024, 1, 1)
_NOT: Final = re.compile(r"\b(?:not|never|dont|doesnt|didnt|isnt|wont|no)\b|[不没别甭]")
_NO_TITLE: Final = re.compile(r"(?:is|was|are|were|has|had) (?!this|that|it|there|you|she|he|i\b|we|they)")
"""Play is not always meant as an order: play is for children."""
_NO_NAME: Final = frozenset(
    ("a", "an", "the", "not", "so", "very", "here", "in", "on", "at", "from", "with", "my", "your")
)
_MINUS: Final = re.compile(r"(?<=\d) ?[-−–] ?(?=\d)")
_NO_MARK: Final = re.compile(r"[^\w+×÷*/%^.:,-]|_|(?<!\d)[.:,-]|[.:,-](?!\d)")
_SPACE_BY_HAN: Final = re.compile(r"(?<=[㐀-鿿]) | (?=[㐀-鿿])")

_TIME_WORDS: Final = frozenset({
    "a", "an", "the", "at", "on", "in", "for", "by", "of", "to", "from", "and", "past", "after", "before", "every",
    "each", "this", "next", "other", "until", "oclock", "am", "pm", "second", "seconds", "minute", "minutes",
    "hour", "hours", "day", "days", "week", "weeks", "month", "months", "year", "years", "half", "quarter",
    "morning", "mornings", "afternoon", "evening", "evenings", "night", "nights", "noon", "midnight", "midday",
    "tonight", "today", "tomorrow", "now", "weekday", "weekdays", "weekend", "weekends", "daily", "weekly",
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "mondays", "tuesdays",
    "wednesdays", "thursdays", "fridays", "saturdays", "sundays", "january", "february", "march", "april", "may",
    "june", "july", "august", "september", "october", "november", "december", "st", "nd", "rd", "th", "first",
    "third",
})  # fmt: skip
_TIME_CHARS: Final = frozenset(
    "0123456789.:零一二两三四五六七八九十百半刻点分钟秒小时个天后之以内今明早上中下午晚夜凌晨整"
    "周星期礼拜末每工作日号月年过再从起到大的"
)
_TIME_NEEDS: Final = re.compile(r"\d:\d|[点分秒时半刻天周期号午晨]|[晚早]上")
_NO_TIME: Final = re.compile(r"个(?!半?(?:小时|钟|月|星期|礼拜|周|半|工作日)|半$)|点.*点(?!半?$)")
_UNENDED: Final = re.compile(r"(?:(?<![早晚])上|[中下起从到大每再过工以之小]|[后前天内]点)$")
"""A time does not end like this: the next word has begun (六点|上班)."""
_TIME_REPAIRS: Final = (
    *("分钟", "小时", "钟头", "明天", "今天", "后天", "早上", "上午", "中午", "下午", "晚上", "每天", "星期"),
    *("以后", "之后", "点半", "半", "点", "分", "秒", "后", "个"),
)
_SUM_REPAIRS: Final = ("百分之", "除以", "乘以", "加", "减", "乘", "除", "点", "的")
_DAY_REPAIRS: Final = (
    *("大后天", "大前天", "今天", "明天", "后天", "昨天", "前天", "星期", "礼拜", "以后", "之后", "以前"),
    *("天", "周", "下", "上", "后", "前", "个"),
)


def plain_text(text: str, language: str) -> str:
    """Lower case, one space between words, none by Chinese characters; of the marks those that numbers need."""
    text = re.sub(r"['’`]", "", in_full(unicodedata.normalize("NFKC", text)))
    if language == "zh":
        text = in_standard(text)
    text = re.sub(r"\b([ap])\.? ?m\b\.?", r"\1m", text).replace("o clock", "oclock")
    text = _NO_MARK.sub(" ", _MINUS.sub("-", text))
    text = " ".join(text.split())
    return _SPACE_BY_HAN.sub("", text) if language == "zh" else text


def slot_value(slot: Slot, text: str, language: str, table: SyllableSounds | None) -> str | int | None:
    """What `text` is worth in a slot. `table`: then Chinese may be another writing of the same sounds."""
    if slot.kind not in ("words", "sum") and _NOT.search(text):
        return None
    match slot.kind:
        case "number":
            parts = canonical_words(text, language)
            number = parts[0] if len(parts) == 1 else None
            return number if isinstance(number, int) and slot.least <= number <= slot.most else None
        case "sum":
            return _sum(text, language, table)
        case "day":
            said = _repaired(text, _DAY_REPAIRS, table, "0123456789") if table is not None else text
            return said if said is not None and day_of(said, _ANY_DAY) is not None else None
        case "time":
            return _time(text, language, table)
        case "thing":
            return text if text and len(text) <= MAX_THING[language] else None
        case "name":
            return _name(text, language)
        case "words":
            if _NO_TITLE.match(text):
                return None
            return text if text and len(text) <= MAX_WORDS[language] else None


def _name(text: str, language: str) -> str | None:
    """A person's name, in English with capitals; longer texts, and those that say what somebody is, are none."""
    words = text.split()
    if not 0 < len(text) <= MAX_NAME[language] or len(words) > MAX_NAME_WORDS or words[0] in _NO_NAME:
        return None
    return " ".join(word.capitalize() for word in words) if language != "zh" else text


_N: Final = r"([0-9.零一二两三四五六七八九十百千万]+)"
_SUMS_IN_WORDS: Final = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (rf"{_N}[和跟与加]{_N}(?:的和|加起来|加一块|加在一起|相加|一共)", r"\1加\2"),
        (rf"{_N}[和跟与]{_N}的差", r"\1减\2"),
        (rf"{_N}[和跟与]{_N}(?:的积|相乘)", r"\1乘\2"),
        (rf"{_N}(?:去掉|拿走|拿掉|扣掉|扣除|少了?|花了?){_N}", r"\1减\2"),
        (r"([二三四五六七八九])个?([二三四五六七八九])", r"\1乘\2"),
        (rf"{_N}比{_N}[多大]", r"\1减\2"),
        (r"(.+?) take away (.+)", r"\1 minus \2"),
        (r"multiply (.+?) (?:by|with|and) (.+)", r"\1 times \2"),
        (r"divide (.+?) by (.+)", r"\1 divided by \2"),
        (r"take (.+?) (?:away |off )?from (.+)", r"\2 minus \1"),
        (r"take (.+?) off (.+)", r"\2 minus \1"),
        (r"(?:spend|pay) (.+?) (?:from|of|out of) (.+)", r"\2 minus \1"),
        (r"(.+?) less (.+)", r"\1 minus \2"),
        (r"(?:the sum of|add) (.+?) (?:and|to) (.+)", r"\1 plus \2"),
        (r"the product of (.+?) and (.+)", r"\1 times \2"),
        (r"the difference between (.+?) and (.+)", r"\1 minus \2"),
        (r"(.+?) and (.+?) (?:together|added together|combined|added up)", r"\1 plus \2"),
        (r"(.+?) (?:by|lots of) (.+)", r"\1 times \2"),
    )
)
"""Sums that are said with the deed apart from the sign."""


_MONEY: Final = re.compile(
    r" ?\b(?:dollars?|pounds?|euros?|cents?|pence|quid|bucks|yuan)\b"
    r"|(?<=[\d零一二两三四五六七八九十百千万])(?:块钱|元钱|块|元)"
)
_HEARD_SIGNS: Final = tuple(
    (re.compile(rf"(?<=[\d零一二两三四五六七八九十百千万]){said}(?=[\d零一二两三四五六七八九十百千万])"), sign)
    for said, sign in (
        ("[剪捡检简件见]去", "减"),
        ("[初出处厨除][以已一]", "除以"),
        ("[成城程承乘][以已]", "乘以"),
        ("[家佳夹嘉][上]?", "加"),
        ("[剪捡检简]", "减"),
    )
)
"""Signs by their sound, where numbers stand on both sides."""
_PLURALS: Final = re.compile(r"(.+?) (one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)e?s")


def _as_sum(text: str) -> str:
    for said, sign in _HEARD_SIGNS:
        text = said.sub(sign, text)
    text = _PLURALS.sub(r"\1 times \2", _MONEY.sub("", text))
    for pattern, written in _SUMS_IN_WORDS:
        match = pattern.fullmatch(text)
        if match is not None:
            return match.expand(written)
    return text


def _sum(text: str, language: str, table: SyllableSounds | None) -> str | None:
    chinese = language == "zh"
    result = result_of(text)
    if result is None:
        text = _as_sum(text)
        result = result_of(text)
    if result is None and chinese and table is not None:
        said = _repaired(text, _SUM_REPAIRS, table, "0123456789.+-*/%×÷")
        result = result_of(said) if said is not None else None
    return result_words(result, chinese=chinese) if result is not None else None


def _time(text: str, language: str, table: SyllableSounds | None) -> str | None:
    if language != "zh":
        return text if _is_english_time(text.replace(":", " ").split()) else None
    text = re.sub(r"(\d)\.5(?!\d)", r"\1点半", text)  # how 六点半 is often written down
    text = re.sub(r"(\d)\.(\d\d)(?!\d)", r"\1点\2分", text)
    text = re.sub(r"(\d)\.([13])[刻克课]", r"\1点\2刻", text)
    if not all(char in _TIME_CHARS for char in text):
        said = _repaired(text, _TIME_REPAIRS, table, "".join(_TIME_CHARS)) if table is not None else None
        if said is None:
            return None
        text = said
    if _UNENDED.search(text) or _NO_TIME.search(text) or not _TIME_NEEDS.search(text):
        return None
    return text


def _is_english_time(words: list[str]) -> bool:
    telling, at = False, 0
    while at < len(words):
        _, used = english_number(words, at)
        if used or re.fullmatch(r"\d+(am|pm|st|nd|rd|th|\.\d+)", words[at]):
            telling = True
        elif words[at] not in _TIME_WORDS:
            return False
        else:
            telling = telling or words[at] in ("noon", "midnight", "tomorrow", "tonight", "hour", "minute", "morning")
        at += used or 1
    return telling


def _repaired(text: str, words: tuple[str, ...], table: SyllableSounds | None, kept: str) -> str | None:
    """`text` in numerals and `words`, where it sounds like them; None when it does not, or hardly anything of it was
    written so."""
    if table is None or language_of(text) != "zh":
        return None
    coded = table.code(text)
    found: list[str] = []
    as_heard = at = 0
    while at < len(text):
        word = next((word for word in words if text.startswith(word, at)), None)
        if word is not None or text[at] in kept or text[at] in "零一二两三四五六七八九十百千万":
            found.append(word or text[at])
            as_heard += len(found[-1])
        else:
            word = next((one for one in words if coded.startswith(_code_of(one, table), 2 * at)), None)
            word = word or NUMERALS.get(table.syllable(text[at]))
            if word is None:
                return None
            found.append(word)
        at += len(found[-1])
    return "".join(found) if 3 * as_heard >= len(text) else None


@functools.lru_cache(maxsize=256)
def _code_of(word: str, table: SyllableSounds) -> str:
    return table.code(word)
