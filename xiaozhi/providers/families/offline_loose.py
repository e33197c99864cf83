"""Phrases that were heard almost right: Chinese by how it sounds, English by one word that is spelt or heard otherwise.

Chinese: homophones are equal (`offline_sounds.py`), and a phrase of four syllables or more may differ in some halves of
syllables (initials, finals). English: one word may stand for another that looks or sounds like it, unless it is a word
of the phrases itself: those are taken as heard. Words that mean nothing (`padding`, `small_words`) may stand anywhere.
Where two rules are equally near, neither is meant."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from xiaozhi.providers.families.offline_patterns import SLOT
from xiaozhi.providers.families.offline_sounds import SyllableSounds

Form = tuple[str, int | None]
"""A canonical sentence, and the number that stands for its slot."""

TOLERANCE: Final = 0.22
"""Of the halves of syllables, how many may differ."""
_LEAST_SYLLABLES: Final = 4
_DECIDING: Final = frozenset("开关大小高低上下前后今明昨不没别年月周")
"""Characters that make another phrase of a phrase: as heard, they need a syllable of their sound in it."""
NUMERALS: Final = {
    **{"yi": "一", "er": "二", "liang": "两", "san": "三", "si": "四", "wu": "五", "liu": "六", "qi": "七", "ba": "八"},
    **{"jiu": "九", "shi": "十", "bai": "百", "ling": "零"},
}
_DIGITS: Final = dict(zip("0123456789", "零一二三四五六七八九", strict=True))
_PARTICLES: Final = frozenset("吧把罢是一")
"""Sound like a number and mostly are none: alone they are one only where a number must stand (调到吧)."""
_BEFORE_NUMBER: Final = frozenset("到成为至")
_TIME_PARTS: Final = "半刻分秒"
"""Behind a number they belong to it, and so does what sounds like a numeral: 六点半 is never 六点."""
_SHORT_WORD: Final = 5
_ALIKE: Final = str.maketrans("kqzvdbgy", "kksftpki")
"""Consonants that are heard for each other."""


@dataclass(frozen=True, slots=True)
class LooseKey:
    """Whose phrase it is, and the slot in it."""

    rule: str
    slot: str


class LooseChinese:
    """The Chinese phrases by their sound."""

    def __init__(self, phrases: Iterable[tuple[str, LooseKey]], dropped: Sequence[str], table: SyllableSounds) -> None:
        """`phrases`: canonical. `dropped`: pieces that mean nothing."""
        self._sounds = table
        self._dropped = sorted(dropped, key=len, reverse=True)
        self._dropped_codes = [table.code(piece) for piece in self._dropped]
        self._time_parts = frozenset(map(table.code, _TIME_PARTS))
        self._numerals = frozenset(map(table.code, NUMERALS.values()))
        self._keys: dict[str, LooseKey | None] = {}
        self._deciding: dict[str, str] = {}
        """Codes of the deciding characters of a phrase."""
        for sentence, key in phrases:
            for form in {sentence, self._without(sentence)}:
                if len(form) > 1:
                    code = table.code(form)
                    self._keys[code] = key if self._keys.get(code, key) == key else None
                    self._deciding[code] = table.code("".join(char for char in form if char in _DECIDING))
        self._with_part: dict[tuple[int, int, str], list[str]] = {}
        """Codes by their length and one of their parts with its place: what is near to a code has one of its parts
        unchanged, because there are more of them than differences that are forgiven."""
        for code in self._keys:
            for start, end in _parts(len(code)):
                self._with_part.setdefault((len(code), start, code[start:end]), []).append(code)

    def find(self, forms: Iterable[Form]) -> tuple[LooseKey, int | None] | None:
        """The phrase that was meant, with the number that was said in it."""
        heard = dict(self._forms(forms))
        for code, (_, number) in heard.items():
            found = self._keys.get(code)
            if found is not None and bool(found.slot) == (number is not None):
                return found, number
        best: tuple[int, LooseKey, int | None] | None = None
        clear = True
        for code, (form, number) in heard.items():
            for distance, key in self._near(code, form):
                if bool(key.slot) != (number is not None):
                    continue
                if best is None or distance < best[0]:
                    best, clear = (distance, key, number), True
                elif distance == best[0] and key != best[1]:
                    clear = False
        return best[1:] if best is not None and clear else None

    def numbers_heard(self, form: str) -> Iterator[str]:
        """`form` with one run of characters that sound like a number written as that number."""
        run: list[str] = []
        for place, char in enumerate(form + "\n"):
            numeral = _DIGITS.get(char) or NUMERALS.get(self._sounds.syllable(char))
            if numeral:
                run.append(numeral)
            elif run:
                start = place - len(run)
                alone = len(run) == 1 and form[start] in _PARTICLES and form[start - 1 : start] not in _BEFORE_NUMBER
                if not alone:
                    yield form[:start] + "".join(run) + form[place:]
                run = []

    def _forms(self, forms: Iterable[Form]) -> Iterator[tuple[str, tuple[str, int | None]]]:
        for form, number in forms:
            for some in (form, self._without(form)):
                if len(some) > 1:
                    code = self._sounds.code(some)
                    yield code, (some, number)
                    bare = self._bare(code)
                    if bare != code:
                        yield bare, (some[-(len(bare) // 2) :], number)

    def _without(self, form: str) -> str:
        for piece in self._dropped:
            form = form.replace(piece, "")
        return form

    def _bare(self, code: str) -> str:
        """Without what sounds like padding at its beginning."""
        for piece in self._dropped_codes:
            if code.startswith(piece) and len(code) >= len(piece) + 2 * _LEAST_SYLLABLES:
                return code[len(piece) :]
        return code

    def _near(self, code: str, form: str) -> Iterator[tuple[int, LooseKey]]:
        most = int(TOLERANCE * len(code))
        if len(code) < 2 * _LEAST_SYLLABLES:
            return
        needed = {self._sounds.code(char) for char in form if char in _DECIDING}
        moved = most // 2 * 2
        some = {
            other: None
            for length in range(len(code) - moved, len(code) + moved + 1, 2)
            for start, end in _parts(length)
            for shift in range(-min(moved, start), moved + 1, 2)
            for other in self._with_part.get((length, start, code[start + shift : end + shift]), ())
        }
        for other, distance, _ in process.extract_iter(
            code, some.keys(), scorer=Levenshtein.distance, processor=None, score_cutoff=most
        ):
            key = self._keys[other]
            if key is None or (SLOT in code) != (SLOT in other):
                continue
            units = {other[at : at + 2] for at in range(0, len(other), 2)}
            if not self._parts_of_number(code) <= self._parts_of_number(other):
                continue
            if needed <= units and self._decided(self._deciding[other], code):
                yield int(distance), key

    def _parts_of_number(self, code: str) -> frozenset[str]:
        """What sounds like a further part of the number in a code."""
        at = code.find(SLOT)
        if at < 0:
            return frozenset()
        behind = [code[place : place + 2] for place in range(at + 2, len(code), 2)]
        return self._time_parts.intersection(behind) | self._numerals.intersection(behind[:1])

    @staticmethod
    def _decided(needed: str, code: str) -> bool:
        """Whether each deciding syllable of a phrase was heard at least by half."""
        return all(needed[at] in code[::2] or needed[at + 1] in code[1::2] for at in range(0, len(needed), 2))


@functools.cache
def _parts(length: int) -> list[tuple[int, int]]:
    """Where the parts of a code are: whole syllables, one part more than there may be differences."""
    syllables = length // 2
    count = min(syllables, int(TOLERANCE / (1 - TOLERANCE) * length) + 1)
    return list(pairwise(2 * (syllables * place // count) for place in range(count + 1))) if count else []


class LooseEnglish:
    """The English phrases, one word of which may be another."""

    def __init__(self, phrases: Iterable[tuple[str, LooseKey]], dropped: Sequence[str]) -> None:
        self._dropped = sorted((piece.split() for piece in dropped), key=len, reverse=True)
        self._joined: dict[str, LooseKey | None] = {}
        self._gaps: dict[str, list[tuple[str, LooseKey]]] = {}
        self._words: set[str] = set()
        for sentence, key in phrases:
            words = sentence.split()
            self._words.update(words)
            for some in (words, self._without(words)):
                joined = "".join(some)
                if joined:
                    self._joined[joined] = key if self._joined.get(joined, key) == key else None
                for place, gap in _gaps(some):
                    self._gaps.setdefault(gap, []).append((some[place], key))

    def find(self, forms: Iterable[Form]) -> tuple[LooseKey, int | None] | None:
        """The phrase that was meant, with the number that was said in it."""
        heard = [(some, number) for form, number in forms for some in (form.split(), self._without(form.split()))]
        for words, number in heard:
            found = self._joined.get("".join(words))
            if found is not None and bool(found.slot) == (number is not None):
                return found, number
        near = {
            (key, number)
            for words, number in heard
            for key in self._near(words)
            if bool(key.slot) == (number is not None)
        }
        return near.pop() if len(near) == 1 else None

    def _near(self, words: list[str]) -> Iterator[LooseKey]:
        for place, gap in _gaps(words):
            word = words[place]
            known = word in self._words  # of the phrases: taken as heard
            for other, key in self._gaps.get(gap, ()):
                if other != SLOT and (other.rstrip("s") == word.rstrip("s") if known else _alike(word, other)):
                    yield key

    def _without(self, words: list[str]) -> list[str]:
        left: list[str] = []
        at = 0
        while at < len(words):
            piece = next((piece for piece in self._dropped if words[at : at + len(piece)] == piece), None)
            if piece is None:
                left.append(words[at])
            at += len(piece) if piece else 1
        return left


def _gaps(words: list[str]) -> Iterator[tuple[int, str]]:
    """Each place of a sentence of three words or more, with the rest of it."""
    if len(words) >= 3:
        for place in range(len(words)):
            yield place, " ".join((*words[:place], "*", *words[place + 1 :]))


def _alike(word: str, other: str) -> bool:
    if _skeleton(word) == _skeleton(other):
        return True
    most = 1 if len(other) <= _SHORT_WORD else 2
    return word[0] == other[0] and len(other) > 2 and Levenshtein.distance(word, other, score_cutoff=most) <= most


def _skeleton(word: str) -> str:
    """Consonants, those alike as one; a vowel at the beginning counts."""
    word = word.replace("ph", "f").replace("ck", "k").replace("c", "k").translate(_ALIKE)
    first = "a" if word[0] in "aeiou" else ""
    return first + re.sub(r"(.)\1+", r"\1", re.sub("[aeiouhw]", "", word))
