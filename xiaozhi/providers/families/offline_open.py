"""Phrases with open slots: literal text around slots in which anything of a kind may stand ("remind me to <what>
<when>"). Found by their beginning, so that the number of phrases does not matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from xiaozhi.providers.families.offline_file import Slot
from xiaozhi.providers.families.offline_patterns import PatternSentence, runs
from xiaozhi.providers.families.offline_slots import plain_text, slot_value
from xiaozhi.providers.families.offline_sounds import SyllableSounds

MAX_OPEN_TEXT: Final = 100
"""Characters; longer ones are no phrase with a slot."""
MAX_OPEN_SLOTS: Final = 2
MANY_SYLLABLES: Final = 2
"""From so many on a literal may sound a little otherwise."""

Values = dict[str, str | int]
_Read = dict[tuple[str, str], str | int | None]


@dataclass(frozen=True, slots=True)
class OpenPhrase:
    """`literals` stand before, between and after `slots`; in English with their spaces."""

    rule: str
    literals: tuple[str, ...]
    slots: tuple[str, ...]


def open_phrase(rule: str, sentence: PatternSentence, language: str) -> OpenPhrase:
    """The literals of a sentence of a pattern."""
    glue = "" if language == "zh" else " "
    literals = [""]
    slots = []
    for slot, words in runs(sentence.words):
        if slot:
            slots.append(words[0][1:-1])
            literals.append("")
        else:
            literals[-1] = plain_text(glue.join(words), language)
    if glue:
        last = len(literals) - 1
        literals = [
            (" " if place else "") + literal + (" " if place < last and (literal or not place) else "")
            if literal or 0 < place < last
            else ""
            for place, literal in enumerate(literals)
        ]
    return OpenPhrase(rule, tuple(literals), tuple(slots))


class _SameStart:
    """Phrases with the same literal before their first slot, by the one behind their last."""

    def __init__(self) -> None:
        self._by_end: dict[str, list[tuple[OpenPhrase, str | None]]] = {}
        self._near: dict[str, list[str]] = {}
        self._longest = 0
        self._lengths: set[int] = set()

    def add(self, phrase: OpenPhrase, end: str, middle: str | None) -> None:
        """`middle`: the literal between two slots, as it is compared; None: there is one slot."""
        if end not in self._by_end:
            self._by_end[end] = []
            self._longest = max(self._longest, len(end))
            self._lengths.add(len(end))
            for gap in _gaps(end):
                self._near.setdefault(gap, []).append(end)
        self._by_end[end].append((phrase, middle))

    def ending(
        self, code: str, start: int, width: int, *, tolerant: bool
    ) -> Iterator[tuple[int, OpenPhrase, str | None]]:
        """Where the last slot of `code` stops, behind `start`; the phrase; its middle. The longest end first."""
        for stop in range(max(start + width, len(code) - self._longest), len(code) + 1, width):
            if len(code) - stop not in self._lengths:
                continue
            tail = code[stop:]
            ends = [tail] if tail in self._by_end else []
            if tolerant:
                ends += [end for gap in _gaps(tail) for end in self._near.get(gap, ()) if end != tail]
            for end in ends:
                for phrase, middle in self._by_end[end]:
                    yield stop, phrase, middle


class OpenPhrases:
    """Those of one language; with a table of sounds they are compared by sound, and half a syllable of each end may
    differ."""

    def __init__(
        self, phrases: list[OpenPhrase], slots: Mapping[str, Slot], language: str, table: SyllableSounds | None
    ) -> None:
        self._slots = slots
        self._language = language
        self._table = table
        self._width = 1 if table is None else 2
        self._by_start: dict[str, _SameStart] = {}
        middles: set[str] = set()
        known = phrases if table is None else [one for one in phrases if not self._sounds_like_another(one)]
        for phrase in sorted(known, key=lambda one: (len(one.slots), -sum(map(len, one.literals)))):
            coded = tuple(map(self._code, phrase.literals))
            same = self._by_start.setdefault(coded[0], _SameStart())
            middle = coded[1] if len(coded) > MAX_OPEN_SLOTS else None
            same.add(phrase, coded[-1], middle)
            if middle:
                middles.add(middle)
        self._middles = frozenset(middles)
        self._longest = max(map(len, self._by_start), default=0)
        self._lengths = frozenset(map(len, self._by_start))
        self._near_starts: dict[str, list[str]] = {}
        for start in self._by_start if table is not None else ():
            for gap in _gaps(start):
                self._near_starts.setdefault(gap, []).append(start)

    def find(self, text: str) -> tuple[OpenPhrase, Values] | None:
        """The phrase that `text` (plain) is, and what stands in its slots; the longest beginning first."""
        code = self._code(text)
        read: _Read = {}
        missing = {middle for middle in self._middles if middle not in code}
        longest = min(self._longest, len(code))
        ends = [end for end in range(longest - longest % self._width, -1, -self._width) if end in self._lengths]
        for end in ends:
            found = self._from(text, code, end, code[:end], read, missing, tolerant=False)
            if found is not None:
                return found
        if self._table is None:
            return None
        for end in ends:
            starts = {code[:end]} | {one for gap in _gaps(code[:end]) for one in self._near_starts.get(gap, ())}
            for start in starts:
                found = self._from(text, code, end, start, read, missing, tolerant=True)
                if found is not None:
                    return found
        return None

    def _from(
        self, text: str, code: str, end: int, start: str, read: _Read, missing: set[str], *, tolerant: bool
    ) -> tuple[OpenPhrase, Values] | None:
        """As `find`, of the phrases that begin with `start`. `read`: what was read in slots already; `missing`:
        what stands between two slots and is not here."""
        same = self._by_start.get(start)
        for stop, phrase, middle in same.ending(code, end, self._width, tolerant=tolerant) if same is not None else ():
            if middle in missing or (tolerant and not self._bounded(phrase)):
                continue
            for pieces in self._split(text, code, end, stop, middle):
                values = self._values(phrase, pieces, read)
                if values is not None:
                    return phrase, values
        return None

    def _sounds_like_another(self, phrase: OpenPhrase) -> bool:
        """唱个<song> sounds like 唱歌, and what follows would be a song."""
        text = "".join(phrase.literals)
        return len(text) <= MANY_SYLLABLES and text.endswith(("个", "首")) and not self._bounded(phrase)

    def _bounded(self, phrase: OpenPhrase) -> bool:
        """Whether a slot itself tells that it is one; what holds any words would take any sentence."""
        return any(self._slots[name].kind != "words" for name in phrase.slots)

    def _code(self, text: str) -> str:
        return text if self._table is None else self._table.code(text)

    def _split(self, text: str, code: str, start: int, stop: int, middle: str | None) -> Iterator[list[str]]:
        """What stands in the slots, between `start` and `stop` of `code`, each way it can be."""
        width = self._width
        if middle is None:
            yield [text[start // width : stop // width]]
            return
        if not middle:  # of "remind me tomorrow at noon to ..." the time takes what it can
            for at in range(stop - width, start, -width):
                yield [text[start // width : at // width], text[at // width : stop // width]]
            return
        at = code.find(middle, start + 1, stop)
        while at >= 0:
            behind = at + len(middle)
            if at % width == 0 and behind < stop:
                yield [text[start // width : at // width], text[behind // width : stop // width]]
            at = code.find(middle, at + 1, stop)

    def _values(self, phrase: OpenPhrase, pieces: list[str], read: _Read) -> Values | None:
        values: Values = {}
        for name, piece in zip(phrase.slots, pieces, strict=True):
            if (name, piece) not in read:
                read[name, piece] = slot_value(self._slots[name], piece.strip(), self._language, self._table)
            value = read[name, piece]
            if value is None:
                return None
            values[name] = value
        return values


def _gaps(code: str) -> Iterator[str]:
    """A code of two syllables or more without one half of one; of the same length."""
    if len(code) >= 2 * MANY_SYLLABLES:
        for at in range(len(code)):
            yield f"{code[:at]}?{code[at + 1 :]}"
