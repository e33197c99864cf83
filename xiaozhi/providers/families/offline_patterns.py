"""The little pattern language of the offline phrases, and numbers in words: pure text in, pure text out.

    word [optional] (one|another) <slot>

Not regular expressions, on purpose: a pattern has to be *generated* from (the recogniser listens for every sentence it
stands for) as well as matched, and a user who has never seen one should be able to write it. Not the phrase file
either: that is `_offline_phrases.py`.

Text is compared in a canonical form: lower case, no punctuation, numbers in words or digits of either language as
digits. A slot is the sign `SLOT`; so matching is a dictionary look-up, whatever the number was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

MAX_EXPANSIONS = 1000
"""Sentences one pattern may stand for; more is a mistake (too many options in a row), not a phrase."""

SLOT = "#"
"""Stands for a number in a canonical sentence."""

_TOKEN = re.compile(r"\s*(?:(?P<slot><[^<>]*>)|(?P<sign>[\[\]()|])|(?P<text>[^\s\[\]()|<>]+)|(?P<bad>[<>]))")
_HAN = re.compile(r"[㐀-鿿豈-﫿]")


class PatternError(ValueError):
    """The pattern cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PatternSentence:
    """One sentence a pattern stands for. `words` are literal words, or `<slot>` names with their brackets."""

    words: tuple[str, ...]

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(word[1:-1] for word in self.words if word.startswith("<"))


def language_of(text: str) -> str:
    """`zh` when there is a Han character in it, `en` when there is another letter, else `` (digits, signs, nothing)."""
    if _HAN.search(text):
        return "zh"
    return "en" if any(char.isalpha() for char in text) else ""


# --- patterns ------------------------------------------------------------------------------------------------------


def expand(pattern: str) -> list[PatternSentence]:
    """Every sentence the pattern stands for, without doubles, in order. Raises PatternError."""
    tokens = _tokens(pattern)
    try:
        sentences, rest = _alternatives(tokens, 0, pattern)
    except RecursionError:
        raise PatternError("it is nested too deeply") from None
    if rest != len(tokens):
        raise PatternError(f"unexpected {tokens[rest]!r}")
    unique = list(dict.fromkeys(sentences))
    if () in unique:
        raise PatternError("everything in it may be left out")
    return [PatternSentence(words) for words in unique]


def _tokens(pattern: str) -> list[str]:
    tokens = []
    for match in _TOKEN.finditer(pattern.strip()):
        if match["bad"] or (match["slot"] and not match["slot"][1:-1].isidentifier()):
            raise PatternError(f"a slot is written <name>, not {match[0].strip()!r}")
        tokens.append(match[0].strip())
    if not tokens:
        raise PatternError("it is empty")
    return tokens


def _alternatives(tokens: list[str], at: int, pattern: str) -> tuple[list[tuple[str, ...]], int]:
    # alternatives := sequence ('|' sequence)*
    found: list[tuple[str, ...]] = []
    while True:
        sequence, at = _sequence(tokens, at, pattern)
        found.extend(sequence)
        if len(found) > MAX_EXPANSIONS:
            raise PatternError(f"it stands for more than {MAX_EXPANSIONS} sentences")
        if at >= len(tokens) or tokens[at] != "|":
            return found, at
        at += 1


def _sequence(tokens: list[str], at: int, pattern: str) -> tuple[list[tuple[str, ...]], int]:
    found: list[tuple[str, ...]] = [()]
    while at < len(tokens) and tokens[at] not in ("|", "]", ")"):
        token = tokens[at]
        if token in ("[", "("):
            options, at = _alternatives(tokens, at + 1, pattern)
            closing = "]" if token == "[" else ")"
            if at >= len(tokens) or tokens[at] != closing:
                raise PatternError(f"{token!r} has no {closing!r}")
            if token == "[":
                options = [*options, ()]
            elif () in options:
                raise PatternError("there is nothing between ( and ), or around |")
        else:
            options = [(token,)]
        if len(found) * len(options) > MAX_EXPANSIONS:
            raise PatternError(f"it stands for more than {MAX_EXPANSIONS} sentences")
        found = [head + tail for head in found for tail in options]
        at += 1
    return found, at


# --- numbers -------------------------------------------------------------------------------------------------------

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
_HAN_NUMBER = re.compile(r"[零〇一二两三四五六七八九十百]+|\d+")
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


def _english_numbers(words: list[str]) -> Iterator[str | int]:
    # Greedy: [tens] [ones] | ones, each optionally after "... hundred". Digits count as they are.
    at = 0
    while at < len(words):
        value, used = _english_number(words, at)
        if used:
            yield value
            at += used
        else:
            yield words[at]
            at += 1


def _english_number(words: list[str], at: int) -> tuple[int, int]:
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


def _below_hundred(words: list[str], at: int) -> tuple[int, int]:
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


# --- canonical text ------------------------------------------------------------------------------------------------


def canonical_words(text: str, language: str) -> list[str | int]:
    """Words (English) or runs (Chinese) of `text` without case and punctuation; whole numbers as ints."""
    if language == "zh":
        # "百分之五十" and "50%" are fifty; spaces mean nothing.
        text = re.sub(r"百分之|[^\w]|_", "", text).lower()
        parts: list[str | int] = []
        end = 0
        for match in _HAN_NUMBER.finditer(text):
            value = han_number(match[0])
            if value is None:
                continue
            if match.start() > end:
                parts.append(text[end : match.start()])
            parts.append(value)
            end = match.end()
        if end < len(text):
            parts.append(text[end:])
        return parts
    text = text.lower().replace("%", " percent ")
    text = re.sub(r"['’`]", "", text)
    words = re.sub(r"[^\w]|_", " ", text).split()
    return list(_english_numbers(words))


def canonical_forms(text: str, language: str) -> Iterator[tuple[str, int | None]]:
    """The canonical sentence of `text`, then once per number in it with that number as `SLOT` (and its value)."""
    parts = canonical_words(text, language)
    glue = "" if language == "zh" else " "
    yield glue.join(map(str, parts)), None
    for place, part in enumerate(parts):
        if isinstance(part, int):
            yield glue.join(SLOT if index == place else str(other) for index, other in enumerate(parts)), part


def canonical_sentence(sentence: PatternSentence, language: str) -> str:
    """The look-up key of a sentence of a pattern (at most one slot)."""
    glue = "" if language == "zh" else " "
    keys = []
    for slot, literal in _runs(sentence.words):
        keys.append(SLOT if slot else glue.join(map(str, canonical_words(glue.join(literal), language))))
    return glue.join(key for key in keys if key)


def _runs(words: tuple[str, ...]) -> Iterator[tuple[bool, list[str]]]:
    run: list[str] = []
    for word in words:
        if word.startswith("<"):
            if run:
                yield False, run
            yield True, []
            run = []
        else:
            run.append(word)
    if run:
        yield False, run


def spoken_sentences(sentence: PatternSentence, numbers: dict[str, list[int]]) -> list[list[str]]:
    """The English word sequences of a sentence, its slots filled with the numbers (by slot name) that are listened
    for."""
    choices = [
        [number_words(value) for value in numbers[word[1:-1]]] if word.startswith("<") else [[word]]
        for word in sentence.words
    ]
    return [[word for part in combination for word in part] for combination in product(*choices)]
