"""A Chinese text as phonemes: numbers in words, characters as they are read.

`phonemes_of_text` is pure, but for the tables it is given; it runs in a pool thread (about 0.3 ms a sentence)."""

from __future__ import annotations

import re
from typing import Final

from xiaozhi.providers.families.kokoro_alphabet import NUMBERS, phonemes_of
from xiaozhi.providers.families.mandarin_numbers import spelled_out
from xiaozhi.providers.families.mandarin_pinyin import HAN, Readings, read

LONGEST_CLAUSE: Final = 30
"""Characters spoken in one go: about 7 s of sound and 4 s of work, which others may have to wait for."""
SHORTEST_CLAUSE: Final = 3
"""Of the first piece, its mark included ("好的，"): the shorter it is, the sooner something is heard."""
_PARTS: Final = re.compile(rf"[{HAN}]+|[^{HAN}]+")
_MARKS: Final = {"…": "…", "—": "—"} | {
    char: mark
    for mark, chars in {",": "，,、～~", ".": "。.", "!": "！!", "?": "？?", ";": "；;", ":": "：:", " ": "· "}.items()
    for char in chars
}
_ENDS: Final = re.compile(r"[，。！？；：、…,!?;:](?![0-9])[”’」』\"')）】》]*|[.](?=\s|$)")
_LIGHT: Final = "的了着过是在和与及或，、 "
"""Behind one of these a clause without marks may be cut."""


def mandarin_clauses(sentence: str) -> list[str]:
    """`sentence` in the pieces that are spoken one after the other, cut behind marks: the first as short as may
    be, none too long. Later pieces are joined while the result is no longer than half of `LONGEST_CLAUSE`."""
    pieces: list[str] = []
    start = 0
    for mark in _ENDS.finditer(sentence):
        if len(sentence[start : mark.end()].strip()) >= SHORTEST_CLAUSE:
            pieces.append(sentence[start : mark.end()].strip())
            start = mark.end()
    rest = sentence[start:].strip()
    if rest:
        pieces.append(rest)
    joined: list[str] = []
    for piece in pieces:
        short = len(joined) > 1 and len(joined[-1]) + len(piece) <= LONGEST_CLAUSE // 2
        alone = bool(joined) and not any(char.isalnum() for char in piece)
        if short or alone:
            joined[-1] += piece
        else:
            joined.append(piece)
    return [part for piece in joined for part in _bounded(piece) if any(char.isalnum() for char in part)]


def phonemes_of_text(text: str, readings: Readings) -> str:
    """Characters of Kokoro's alphabet only; words in Latin letters are left out."""
    found: list[str] = []
    for part in _PARTS.findall(spelled_out(text)):
        if re.match(f"[{HAN}]", part):
            words = ("".join(map(phonemes_of, word.syllables)) for word in read(part, readings))
            found.append(" ".join(words))
        else:
            found.append("".join(_MARKS.get(char, "") + " " for char in part if char in _MARKS))
    phonemes = "".join(char for char in "".join(found) if char in NUMBERS)
    phonemes = re.sub(r"\s+([,.!?;:…])", r"\1", re.sub(r" +", " ", phonemes)).strip()
    return phonemes if any(char.isalpha() for char in phonemes) else ""


def _bounded(piece: str) -> list[str]:
    parts = []
    while len(piece) > LONGEST_CLAUSE:
        half = LONGEST_CLAUSE // 2
        cut = max(piece.rfind(char, half, LONGEST_CLAUSE) for char in _LIGHT) + 1 or LONGEST_CLAUSE
        if piece[cut - 1].isascii() and piece[cut : cut + 1].isascii() and piece[cut - 1].isalnum():
            # Not inside a number or an English word, as long as there is another place.
            cut = next((at for at in range(cut, half, -1) if not piece[at - 1].isascii()), cut)
        parts.append(piece[:cut].strip())
        piece = piece[cut:].strip()
    return [*parts, piece] if piece else parts
