"""Sums as they are said or written: "three plus five", "15 percent of 80", 三加五, 八十的百分之十五; their results.

Exact (fractions), bounded, and nothing but numbers and signs: a text with anything else in it is no sum."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from xiaozhi.speech.numerals import english_number

MAX_CHARS: Final = 100
_SIGN_OR_WORD: Final = re.compile(
    r"[-+*/^%×÷加减乘除方倍半根分]|"
    r"plus|minus|times|multipl|divide|over|percent|power|root|half|squared|cubed|\d ?x ?\d|"
    r"^add |^subtract |^take |\b(?:sum|product|difference) |quarter of|third of"
)
"""There is one of these in every sum."""
MAX_TOKENS: Final = 15
_MOST: Final = Fraction(10) ** 15
_MOST_POWER: Final = 64
_DECIMALS: Final = 4

Token = Fraction | str
"""A number, or one of + - * / ^ r (the root of what follows)."""

_ENGLISH: Final = (
    (r"^(?:subtract|take) (.+) (?:away )?from (.+)$", r"\2 - \1"),
    (r"^(?:add|the sum of) (.+?) (?:and|to) (.+)$", r"\1 + \2"),
    (r"^(?:multiply|the product of) (.+?) (?:by|and|with) (.+)$", r"\1 * \2"),
    (r"^divide (.+) by (.+)$", r"\1 / \2"),
    (r"^the difference between (.+?) and (.+)$", r"\1 - \2"),
    (r"\b(?:a|one) quarter of\b", " 0.25 * "),
    (r"\b(?:a|one) third of\b", " 1 / 3 * "),
    (r"\bpercent of\b|% of\b", " % * "),
    (r"\bpercent\b", " % "),
    (r"\b(?:multiplied by|times)\b|(?<=\d) ?x ?(?=\d)", " * "),
    (r"\b(?:divided by|over)\b", " / "),
    (r"\bto the power of\b", " ^ "),
    (r"\b(?:the )?square root of\b", " r "),
    (r"\bhalf of\b", " 0.5 * "),
    (r"\bsquared\b", " ^ 2 "),
    (r"\bcubed\b", " ^ 3 "),
    (r"\bplus\b", " + "),
    (r"\b(?:minus|negative)\b", " - "),
)
_CHINESE: Final = (
    (r"百分之([零〇一二两三四五六七八九十百千万点\d.]+)的", r"(\1)%*"),
    (r"百分之([零〇一二两三四五六七八九十百千万点\d.]+)", r"(\1)%"),
    (r"的平方根", "q"),
    (r"根号", "r"),
    (r"的平方|平方", "^2"),
    (r"的立方|立方", "^3"),
    (r"的(?=\(|\d+%)", "*"),
    (r"%的", "%*"),
    (r"的一半", "*0.5"),
    (r"的([零〇一二两三四五六七八九十百千万\d]+)次方", r"^\1"),
    (r"的([零〇一二两三四五六七八九十百千万点\d.]+)倍", r"*\1"),
    (r"加上|加", "+"),
    (r"减去|减掉|减", "-"),
    (r"乘以|乘上|乘", "*"),
    (r"除以|除", "/"),
    (r"负", "-"),
)
_HAN_DIGITS: Final = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_UNITS: Final = {"十": 10, "百": 100, "千": 1000}
_HAN_SCALES: Final = {"万": 10**4, "亿": 10**8}
_HAN: Final = re.compile(r"[㐀-鿿]")
_SIGNS: Final = {"×": "*", "÷": "/", "－": "-", "＋": "+", "**": "^"}
_HAN_TOKEN: Final = re.compile(r"([零〇一二两三四五六七八九十百千万亿点\d.]+)|([-+*/^%qr])|[()]")
_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}


def result_of(text: str) -> Fraction | None:
    """What the sum comes to; None when it is none, or has no (real, bounded) result."""
    if len(text) > MAX_CHARS or not _SIGN_OR_WORD.search(text):
        return None
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    tokens = _chinese_tokens(text) if _HAN.search(text) else _english_tokens(text)
    if tokens is None or len(tokens) > MAX_TOKENS or not any(isinstance(token, str) for token in tokens):
        return None
    if len(tokens) == 2 and tokens[0] == "-":
        return None  # a number
    try:
        value = _Sum(tokens).value()
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if abs(value) <= _MOST else None


def result_words(value: Fraction, *, chinese: bool) -> str:
    """The result as it is said: "12.5", "about 0.3333", 约0.3333, "minus 3"."""
    sign = ("负" if chinese else "minus ") if value < 0 else ""
    value = abs(value)
    rounded = round(value, _DECIMALS)
    about = "" if rounded == value else "约" if chinese else "about "
    number = str(int(rounded)) if rounded.denominator == 1 else f"{float(rounded):.{_DECIMALS}f}".rstrip("0")
    return about + sign + number


class _Sum:
    """Recursive descent: sums of products of powers."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def value(self) -> Fraction:
        value = self._chain(self._product, {"+": lambda a, b: a + b, "-": lambda a, b: a - b})
        if self._at != len(self._tokens):
            raise ValueError("something is left")
        return value

    def _chain(
        self, part: Callable[[], Fraction], signs: dict[str, Callable[[Fraction, Fraction], Fraction]]
    ) -> Fraction:
        value = part()
        while self._next() in signs:
            sign = signs[str(self._take())]
            value = sign(value, part())
        return value

    def _product(self) -> Fraction:
        return self._chain(self._power, {"*": lambda a, b: a * b, "/": lambda a, b: a / b})

    def _power(self) -> Fraction:
        if self._next() == "-":
            self._take()
            return -self._power()
        if self._next() == "r":
            self._take()
            return _root(self._power())
        value = self._number()
        while self._next() in ("^", "%", "q"):
            match self._take():
                case "%":
                    value /= 100
                case "q":
                    value = _root(value)
                case _:
                    power = self._number()
                    if power.denominator != 1 or abs(power) > _MOST_POWER or abs(value) > 10**6:
                        raise ValueError("too large")
                    value **= int(power)
        return value

    def _number(self) -> Fraction:
        token = self._take()
        if not isinstance(token, Fraction):
            raise ValueError("no number")
        return token

    def _next(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> Token:
        token = self._next()
        if token is None:
            raise ValueError("it ends too soon")
        self._at += 1
        return token


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise ValueError("no real root")
    over, under = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if over * over == value.numerator and under * under == value.denominator:
        return Fraction(over, under)
    return Fraction(math.sqrt(value)).limit_denominator(10**12)


def _english_tokens(text: str) -> list[Token] | None:
    for said, sign in _ENGLISH:
        text = re.sub(said, sign, text)
    text = re.sub(r"(\d),(?=\d{3}\b)", r"\1", text)
    words = re.sub(r"([-+*/^%])", r" \1 ", text).split()
    tokens: list[Token] = []
    at = 0
    while at < len(words):
        if words[at] in "-+*/^%r" and len(words[at]) == 1:
            tokens.append(words[at])
            at += 1
            continue
        value, used = _english_amount(words, at)
        if not used:
            return None
        tokens.append(value)
        at += used
    return tokens


def _english_amount(words: list[str], at: int) -> tuple[Fraction, int]:
    """A number with its decimals and scales, and how many words it takes: "two thousand five hundred"."""
    total, start = Fraction(0), at
    while at < len(words):
        if re.fullmatch(r"\d+\.\d+|\d{7,12}", words[at]):
            part, used = Fraction(words[at]), 1
        elif words[at] == "a" and at + 1 < len(words) and words[at + 1] in _SCALES:
            part, used = Fraction(1), 1
        else:
            whole, used = english_number(words, at)
            part = Fraction(whole)
        if not used or (at > start and part >= 1000):
            break
        at += used
        if at < len(words) and words[at] == "point":
            digits = ""
            while at + 1 < len(words) and (one := english_number(words, at + 1))[1] == 1 and one[0] < 10:
                digits += str(one[0])
                at += 1
            if not digits:
                return Fraction(0), 0
            at += 1
            part += Fraction(int(digits), 10 ** len(digits))
        if at >= len(words) or words[at] not in _SCALES:
            total += part
            break
        total += part * _SCALES[words[at]]
        at += 1
        if at + 1 < len(words) and words[at] == "and":
            at += 1
    return total, at - start


def _chinese_tokens(text: str) -> list[Token] | None:
    text = text.replace(" ", "").replace(",", "")
    for said, sign in _CHINESE:
        text = re.sub(said, sign, text)
    tokens: list[Token] = []
    at = 0
    for match in _HAN_TOKEN.finditer(text):
        if match.start() != at:
            return None
        at = match.end()
        if match[1]:
            amount = han_amount(match[1])
            if amount is None:
                return None
            tokens.append(amount)
        elif match[2]:
            tokens.append(match[2])
    return tokens if at == len(text) else None


def han_amount(text: str) -> Fraction | None:
    """The value of a number in Chinese numerals, digits or both: 两千五, 3万, 三点一四; None when it is not one."""
    whole, point, decimals = text.replace("点", ".").partition(".")
    value = _han_whole(whole)
    if value is None or not point:
        return value
    digits = "".join(str(_HAN_DIGITS.get(char, char)) for char in decimals)
    return value + Fraction(int(digits), 10 ** len(digits)) if digits.isdecimal() and len(digits) <= 9 else None


def _han_whole(text: str) -> Fraction | None:
    for unit, size in reversed(_HAN_SCALES.items()):
        above, found, below = text.partition(unit)
        if found:
            high = _han_whole(above)
            low = Fraction(0) if not below else _han_whole(below)
            if high is None or low is None or low >= size:
                return None
            # 三万五 is 35,000, 三万零五 is 30,005.
            return high * size + low * (size // 10 if len(below) == 1 and below not in "零〇" else 1)
    digits = [str(_HAN_DIGITS.get(char, char)) for char in text]
    joined = "".join(digits)
    if joined.isdecimal():
        return Fraction(int(joined)) if len(joined) <= 12 else None
    total, last, pending, unit_size = 0, 10_000, "", 0
    for char in digits:
        size = _HAN_UNITS.get(char, 0)
        if not size:
            if not char.isdecimal():
                return None
            pending = char if pending in ("", "0") else pending + char
            if char == "0":
                unit_size = 0
            continue
        if size >= last or (len(pending) > 1 and size != 10):
            return None
        total += size * int(pending or 1)
        last, pending, unit_size = size, "", size
    if len(pending) > 1:
        return None
    return Fraction(total + int(pending or 0) * (unit_size // 10 if unit_size > 10 else 1))
