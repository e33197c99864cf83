"""Whole numbers as they are said and written in English and Chinese: words to values and back. Pure text.

Not sentences around them: who looks for numbers in a text walks through it himself."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ONES = [
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
    ),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(_ONES)}
_ROUND = {word: 20 + 10 * place for place, word in enumerate(_TENS)}
_HAN_DIGITS = {
    "零": 0,
    "〇": 0,
    "一": 1,
    "二": 2,
    "两": 2,
    "三": 3,
    "四": 4,
    "五": 5,
    "六": 6,
    "七": 7,
    "八": 8,
    "九": 9,
}
HAN_NUMBER = re.compile(r"[零〇一二两三四五六七八九十百]+|\d+")
"""What may be one in Chinese text; `han_number` says whether it is."""
MAX_SPOKEN = 999


def number_words(value: int) -> list[str]:
    """A whole number (0..999) as it is said in English: 45 -> ["forty", "five"]. Raises ValueError outside."""
    if not 0 <= value <= MAX_SPOKEN:
        raise ValueError(f"{value} is not within 0..{MAX_SPOKEN}")
    if value < len(_ONES):
        return [_ONES[value]]
    if value < 100:
        ones = [_ONES[value % 10]] if value % 10 else []
        return [_TENS[value // 10 - 2], *ones]
    rest = number_words(value % 100) if value % 100 else []
    return [_ONES[value // 100], "hundred", *rest]


def english_number(words: Sequence[str], at: int) -> tuple[int, int]:
    """The number that begins at a word (lower case, digits count as they are), and how many words it takes; (0, 0):
    none does. Greedy: [tens] [ones] | ones, each optionally after "... hundred"."""
    following = words[at + 1] if at + 1 < len(words) else ""
    if words[at].isdecimal() and len(words[at]) <= 6:
        return int(words[at]), 1
    hundreds = 1 if words[at] in ("a", "hundred") else _SMALL.get(words[at], 0)
    if 0 < hundreds < 10 and "hundred" in (words[at], following):
        used = 1 if words[at] == "hundred" else 2
        # "two hundred (and) five"
        filler = 1 if words[at + used : at + used + 1] == ["and"] else 0
        rest, more = _below_hundred(words, at + used + filler)
        return (100 * hundreds + rest, used + filler + more) if rest else (100 * hundreds, used)
    return _below_hundred(words, at)


def _below_hundred(words: Sequence[str], at: int) -> tuple[int, int]:
    word, following = (*words[at : at + 2], "", "")[:2]
    if word in _ROUND:
        ones = _SMALL.get(following, 0)
        return (_ROUND[word] + ones, 2) if 0 < ones < 10 else (_ROUND[word], 1)
    return (_SMALL[word], 1) if word in _SMALL else (0, 0)


def han_number(text: str) -> int | None:
    """The value of a whole number in Chinese numerals (or digits) below 1000; None when it is not one ("十十")."""
    if text.isdecimal():
        return int(text) if len(text) <= 6 else None
    if all(char in _HAN_DIGITS for char in text):
        return int("".join(str(_HAN_DIGITS[char]) for char in text)) if len(text) <= 3 else None
    match = re.fullmatch(
        r"(?:([一二两三四五六七八九])百)?[零〇]?(?:([一二三四五六七八九])?(十))?([一二三四五六七八九])?", text
    )
    if match is None or not text:
        return None
    hundreds, tens, ten, ones = match.groups()
    value = 100 * _HAN_DIGITS[hundreds] if hundreds else 0
    if ten:
        value += 10 * (_HAN_DIGITS[tens] if tens else 1)
    if ones:
        # "一百五" means 150, "一百零五" means 105.
        short = hundreds and not ten and "零" not in text and "〇" not in text
        value += _HAN_DIGITS[ones] * (10 if short else 1)
    return value
