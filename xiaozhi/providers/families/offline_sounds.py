"""How Chinese characters sound, roughly: the code by which the offline assistant compares what was heard with what it
knows. Homophones have one code; so have the sounds that speakers and recognisers confuse (zh and z, ch and c, sh and s,
n and l, -ng and -n). Tones do not count.

Readings come out of one data file of the package pypinyin (extra `speech`, installed by default), never the package
itself: 40 kB in memory instead of 64 MB. Without it there are no sounds, and texts are compared as they are written."""

from __future__ import annotations

import functools
import importlib.util
import json
import unicodedata
from array import array
from pathlib import Path
from typing import Final

from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

_FIRST, _LAST = 0x4E00, 0x9FFF
_TONES: Final = {ord(mark): None for mark in "\u0304\u0301\u030c\u0300"}
_OFTEN_SO: Final = {
    "乐": "yue",
    "长": "chang",
    "地": "de",
    "量": "liang",
    "度": "du",
    "重": "chong",
    "率": "lv",
    "么": "me",
}
"""Readings in what people ask of a device, where the first of the table is another."""
_NUMERALS: Final = "零一二三四五六七八九"
"""Digits sound like these."""
_INITIALS: Final = ("zh", "ch", "sh", *"bpmfdtnlgkhjqxrzcs")
_NEAR_INITIALS: Final = {"zh": "z", "ch": "c", "sh": "s", "n": "l"}
_Y: Final = {"yi": "i", "yin": "in", "ying": "ing", "you": "iu", "yu": "v", "yue": "ve", "yuan": "van", "yun": "vn"}
_W: Final = {"wu": "u", "wei": "ui", "wen": "un"}
_INITIAL_CODES, _FINAL_CODES = 0xE000, 0xE100
"""Private characters, so that a code is never taken for a letter that was written."""
_NO_FINAL: Final = "\ue0ff"


class SyllableSounds:
    """`code(text)`: two characters for each of `text`. Immutable after its making."""

    def __init__(self, file: Path) -> None:
        """`file`: pinyin_dict.json. Takes some 30 ms of CPU. Raises OSError, ValueError."""
        readings: list[str] = [""]
        numbers: dict[str, int] = {}
        self._numbers = array("H", bytes(2 * (_LAST - _FIRST + 1)))
        for code, written in json.loads(file.read_bytes()).items():
            place = int(code) - _FIRST
            if 0 <= place < len(self._numbers):
                first = written.partition(",")[0]
                if first not in numbers:
                    numbers[first] = len(readings)
                    readings.append(_without_tone(first))
                self._numbers[place] = numbers[first]
        self._syllables = readings
        self._codes: dict[str, int] = {}
        self._of_reading = [self._coded(reading) for reading in readings]
        self._often = {char: self._coded(reading) for char, reading in _OFTEN_SO.items()}
        self._often |= {str(digit): self._code(numeral) for digit, numeral in enumerate(_NUMERALS)}

    def syllable(self, char: str) -> str:
        """The reading of a Chinese character, without its tone; "" when it has none."""
        place = ord(char) - _FIRST
        return self._syllables[self._numbers[place]] if 0 <= place < len(self._numbers) else ""

    def code(self, text: str) -> str:
        """Two characters for each: its initial and its final, or itself and a filler where it has no reading."""
        return "".join(self._code(char) for char in text)

    def _code(self, char: str) -> str:
        found = self._often.get(char)
        place = ord(char) - _FIRST
        if found is None and 0 <= place < len(self._numbers):
            found = self._of_reading[self._numbers[place]]
        return found or char + _NO_FINAL

    def _coded(self, reading: str) -> str:
        if not reading:
            return ""
        initial, final = _parts(reading)
        initial = _NEAR_INITIALS.get(initial, initial)
        if final.endswith("ng") and final not in ("ong", "iong"):
            final = final[:-1]
        return self._number(f"{initial}-", _INITIAL_CODES) + self._number(f"-{final}", _FINAL_CODES)

    def _number(self, part: str, base: int) -> str:
        return chr(base + self._codes.setdefault(part, len(self._codes)))


@functools.lru_cache(maxsize=1)
def sounds() -> SyllableSounds | None:
    """The table, made when it is first asked for; None where there is none."""
    try:
        package = importlib.util.find_spec("pypinyin")
        if package is None or package.origin is None:
            return None
        return SyllableSounds(Path(package.origin).with_name("pinyin_dict.json"))
    except (OSError, ValueError) as error:
        log.warning("no readings of Chinese characters: commands are compared as they are written", error=str(error))
        return None


def _without_tone(reading: str) -> str:
    plain = unicodedata.normalize("NFD", reading).translate(_TONES)
    return plain.replace("u\u0308", "v")


def _parts(reading: str) -> tuple[str, str]:
    """Initial and final; what begins with y or w has no initial, and is written as after one."""
    if reading[0] in "yw":
        known = _Y if reading[0] == "y" else _W
        return "", known.get(reading, ("i" if reading[0] == "y" else "u") + reading[1:])
    initial = next((one for one in _INITIALS if reading.startswith(one)), "")
    final = reading[len(initial) :]
    if initial in ("j", "q", "x") and final.startswith("u"):
        final = "v" + final[1:]
    return initial, final
