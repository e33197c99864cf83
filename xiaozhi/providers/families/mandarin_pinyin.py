"""How Chinese characters are read: words and their syllables with tones, as they are spoken (tone sandhi, neutral
tones, erhua).

The readings are those of the package pypinyin (its two data files), kept in a tenth of the memory that the package
itself takes for them (64 MB): a syllable number per character, and only those words whose reading is not that of their
characters. Words are found from left to right, the longest first; what is left between them is taken in pairs, because
most words have two characters.

Tone sandhi: Yuen Ren Chao, A Grammar of Spoken Chinese (1968), 1.3.4 (third tones, 一 and 不)."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import unicodedata
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xiaozhi.providers.families.mandarin_words import ALONE, NEUTRAL, WORDS

PACKAGE: Final = "pypinyin"
HAN: Final = r"\u3400-\u9fff\uf900-\ufaff"
_FIRST, _LAST = 0x3400, 0x9FFF
_HAN_RUN: Final = re.compile(f"[{HAN}]+")
_TONES: Final = {"\u0304": "1", "\u0301": "2", "\u030c": "3", "\u0300": "4"}
_LONGEST_WORD: Final = 8

_SMALL_WORDS: Final = frozenset(
    "的地了着过在是我你您他她它这那哪就都也和跟与或有没很太最更真又再才只还把被给让叫请对从到向比为不别吗呢吧啊呀嘛啦"
)
_BASIC: Final = {"一": "yi1", "不": "bu4"}
_DIGITS: Final = "零一二三四五六七八九十百千万亿两"


@dataclass(slots=True)
class Word:
    """`text`, and the syllables it is spoken with: "ni2", "hao3"; 5 is the neutral tone, v is ü, an "r" behind the tone
    is erhua."""

    text: str
    syllables: list[str]


class Readings:
    """The package's readings. About 15 MB; loading takes a second, in a pool thread: it is all Python."""

    def __init__(self, folder: Path) -> None:
        """`folder`: of the package. Raises OSError, ValueError."""
        self._names: list[str] = [""]
        numbers: dict[str, int] = {}
        self._characters = array("H", bytes(2 * (_LAST - _FIRST + 1)))
        characters = json.loads((folder / "pinyin_dict.json").read_bytes())
        for code, readings in characters.items():
            if _FIRST <= int(code) <= _LAST:
                self._characters[int(code) - _FIRST] = self._number(_plain(readings.split(",")[0]), numbers)
        del characters
        alone = _listed(ALONE)
        for char, syllable in alone.items():
            self._characters[ord(char) - _FIRST] = self._number(syllable, numbers)
        self._words: dict[str, bytes | None] = {}
        plain: dict[str, str] = {}
        # Entry by entry: the whole of it as Python objects would take 50 MB for a moment.
        text = (folder / "phrases_dict.json").read_text(encoding="utf-8")
        for entry in re.finditer(r'"([^"]+)":\s*\[((?:\s*\[\s*"[^"]*"(?:,\s*"[^"]*")*\s*\],?)+)\s*\]', text):
            word = entry[1]
            if len(word) > _LONGEST_WORD or not _HAN_RUN.fullmatch(word):
                continue
            marked = [first[1] for first in re.finditer(r'\[\s*"([^"]*)"', entry[2])]
            if len(marked) != len(word):
                continue
            self._words[word] = self._packed(
                word, [plain.get(each) or plain.setdefault(each, _plain(each)) for each in marked], numbers
            )
        if not self._words:
            raise ValueError(f"{folder / 'phrases_dict.json'} holds no words")
        for word in NEUTRAL.split():
            self._words[word] = self._packed(word, [*self.of(word)[:-1], self.of(word)[-1][:-1] + "5"], numbers)
        for word, syllables in _listed(WORDS).items():
            self._words[word] = self._packed(word, syllables.split(","), numbers)

    def of(self, word: str) -> list[str]:
        """The syllables of a word, or of characters one by one; "" for a character without a reading."""
        kept = self._words.get(word)
        if kept is not None:
            packed = array("H", kept)
            return [self._names[number] for number in packed]
        return [
            self._names[self._characters[ord(char) - _FIRST]] if _FIRST <= ord(char) <= _LAST else "" for char in word
        ]

    def split(self, run: str) -> list[str]:
        """Han characters in words."""
        words: list[str] = []
        place = 0
        loose = ""
        while place < len(run):
            length = next(
                (
                    size
                    for size in range(min(_LONGEST_WORD, len(run) - place), 1, -1)
                    if run[place : place + size] in self._words
                ),
                0,
            )
            if length:
                words += [*_pairs(loose), run[place : place + length]]
                loose = ""
                place += length
            else:
                loose += run[place]
                place += 1
        return [*words, *_pairs(loose)]

    def _packed(self, word: str, syllables: list[str], numbers: dict[str, int]) -> bytes | None:
        # Sandhi is applied when a text is read, so words are kept with the tones of 一 and 不 themselves.
        syllables = [_BASIC.get(char) or syllable for char, syllable in zip(word, syllables, strict=True)]
        alone = [self._names[self._characters[ord(char) - _FIRST]] for char in word]
        if syllables == alone:
            return None
        return array("H", (self._number(syllable, numbers) for syllable in syllables)).tobytes()

    def _number(self, syllable: str, numbers: dict[str, int]) -> int:
        number = numbers.get(syllable)
        if number is None:
            number = numbers[syllable] = len(self._names)
            self._names.append(syllable)
        return number


def load_readings() -> Readings:
    """The readings of the installed package. Raises OSError, ValueError when it is not there or has another form."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise OSError(f"the package {PACKAGE} is not installed")
    return Readings(Path(found.origin).parent)


def read(run: str, readings: Readings) -> list[Word]:
    """Han characters as words with the syllables that are spoken."""
    words = [Word(text, readings.of(text)) for text in readings.split(run)]
    for place, word in enumerate(words):
        _in_context(words, place, word)
    _one_and_not(words)
    _third_tones(words)
    _erhua(words)
    return [word for word in words if any(word.syllables)]


def _pairs(loose: str) -> list[str]:
    """Characters that belong to no known word: small words alone, the others two by two; a number is one word."""
    found: list[str] = []
    for part in re.findall(
        f"[{_DIGITS}]+|[{''.join(sorted(_SMALL_WORDS))}]|[^{_DIGITS}{''.join(sorted(_SMALL_WORDS))}]+", loose
    ):
        size = len(part) if part[0] in _DIGITS else 2
        found += [part[at : at + size] for at in range(0, len(part), size)]
    return found


def _in_context(words: list[Word], place: int, word: Word) -> None:
    """Readings that the word before decides."""
    before = words[place - 1].text if place else ""
    if word.text == "地" and len(before) > 1 and (before[-1] == before[-2] or before[-1] == "然"):
        word.syllables = ["de5"]
    elif word.text[0] == "只" and before and before[-1] in _DIGITS + "几这那哪每":
        word.syllables[0] = "zhi1"
    elif word.text == "得" and not before:
        word.syllables = ["dei3"]


def _one_and_not(words: list[Word]) -> None:
    """不 rises before a fourth tone; so does 一, which falls before the others. In numbers, dates and at an end 一
    stays."""
    characters = "".join(word.text for word in words)
    flat = [(word, index) for word in words for index in range(len(word.syllables))]
    if len(flat) != len(characters):
        return
    for place, char in enumerate(characters[:-1]):
        if char not in "一不":
            continue
        word, index = flat[place]
        after, at = flat[place + 1]
        tone = after.syllables[at][-1:]
        if char == "不":
            if tone == "4":
                word.syllables[index] = "bu2"
        elif not _is_numeral(characters, place):
            word.syllables[index] = "yi2" if tone == "4" or characters[place + 1] == "个" else "yi4"
            # Between two equal verbs it has no tone: 看一看.
            if place and characters[place - 1] == characters[place + 1]:
                word.syllables[index] = "yi5"


def _is_numeral(characters: str, place: int) -> bool:
    before = characters[place - 1] if place else ""
    after = characters[place + 1]
    if before and before in _DIGITS + "第初幺点":
        return True
    if after == "点":
        # One o'clock and 1.5, but not a little.
        return characters[place + 2 : place + 3] in tuple(_DIGITS + "整半钟过")
    return after in "零一二三四五六七八九月号日楼幺" or characters.startswith("一年级", place)


def _third_tones(words: list[Word]) -> None:
    """A third tone before another one rises: inside a word first, then where a word of one syllable joins the next."""
    for word in words:
        _rise(word.syllables, 0, len(word.syllables))
    for before, after in itertools.pairwise(words):
        if (
            before.syllables[-1:]
            and after.syllables
            and before.syllables[-1].endswith("3")
            and after.syllables[0].endswith("3")
            and (len(before.text) == 1 or len(after.text) == 1)
        ):
            before.syllables[-1] = before.syllables[-1][:-1] + "2"


def _rise(syllables: list[str], start: int, end: int) -> None:
    for place in range(start, end - 1):
        if syllables[place].endswith("3") and syllables[place + 1].endswith("3"):
            syllables[place] = syllables[place][:-1] + "2"


def _erhua(words: list[Word]) -> None:
    """儿 without a tone is no syllable: it colours the one before."""
    for word in words:
        if len(word.syllables) > 1 and word.text.endswith("儿") and word.syllables[-1] == "er5":
            word.syllables.pop()
            word.syllables[-1] += "r"


def _listed(text: str) -> dict[str, str]:
    pairs = (entry.partition(":") for entry in text.split())
    return {word: reading for word, _, reading in pairs}


def _plain(marked: str) -> str:
    """ "lǜ" -> "lv4"."""
    tone = "5"
    letters = ""
    for char in unicodedata.normalize("NFD", marked):
        if char in _TONES:
            tone = _TONES[char]
        elif char == "\u0308":
            letters = letters[:-1] + "v"
        elif char == "\u0302":
            letters += "h"  # ê, an interjection
        else:
            letters += char
    return {"n": "en", "ng": "en", "m": "en", "hm": "en", "hng": "en"}.get(letters, letters) + tone
