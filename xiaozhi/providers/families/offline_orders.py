"""Orders in any words: what a sentence is made of, in any order ("the lamp in the bedroom, could somebody get it off").

The phrase file sorts words into kinds (`words`: sound, up, off ...), and a rule says which kinds make it (`made_of:
[sound up]`). A sentence is an order only when every word of it is of some kind or means nothing (`filler`): what tells,
asks, denies or is past has a word more ("I turned the lamp off yesterday"), and is none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Final

from xiaozhi.providers.families.offline_file import Slot, WordLists
from xiaozhi.providers.families.offline_patterns import SLOT
from xiaozhi.providers.families.offline_slots import plain_text, slot_value
from xiaozhi.providers.families.offline_sounds import SyllableSounds
from xiaozhi.speech.numerals import HAN_NUMBER, english_number, han_number

FILLER: Final = "filler"
MAX_ORDER: Final = {"en": 20, "zh": 30}
"""Words, or Chinese characters; who says more tells something."""
_TELLING: Final = re.compile(r"[了着]吗|没有?$|[了着]没|^我把")
"""A Chinese question for how things are."""
_DENYING: Final = re.compile("[别不没]")
"""Must be understood as it is written, or an order becomes its contrary."""
_OF: Final = ("的", "in", "of", "the", "my")
_TIME_RUN: Final = re.compile(
    r"[0-9:零一二两三四五六七八九十半刻点分钟秒小时个天后之以过今明早上中下午晚夜凌晨整周星期礼拜末每工作日]+"
)
_TIME_START: Final = re.compile(r"\d|(?:in|at|a|an|half|quarter|one|tomorrow|tonight|every|this|next)$")
_MAX_TIME: Final = 9

MAX_REASON: Final = {"en": 40, "zh": 9}
"""Characters of a clause that says why something is ordered."""
_CLAUSES: Final = {
    "en": (re.compile(r"[,;.!] *(?:so |and )?| so (?=\w+ \w)", re.IGNORECASE),),
    "zh": (re.compile("[,，;；。!！]"), re.compile("(?<=.)(?=把|帮我|给我|快)")),
}
_NO_REASON: Final = re.compile(
    r"\b(?:yesterday|said|says|told|if|when|he|she|they|never|was|were|did|had|why|who)\b"
    "|[他她它]|昨|说|如果|时候|要是|没|刚|已经|为什么|怎么|谁|老师|妈|爸",
    re.IGNORECASE,
)
_NOT: Final = re.compile(r"\bnot\b|n't\b|[别不]", re.IGNORECASE)
_HOW_IT_IS: Final = re.compile("[了着](?:吗|没有?)[？?。.]?$")
_NARRATING: Final = re.compile(
    r"\b(?:yesterday|last (?:night|week|month|year)|ago)\b"
    "|昨|前[天年]|去年|上(?:个|一)?(?:周|月|星期|礼拜)|那天|当时|小时候|电影里|故事里|新闻里"
    "|(?:[他她它]们?|妈妈?|爸爸?|老师|爷爷|奶奶|[弟妹哥姐](?:弟|妹|哥|姐)?)(?:叫|让|说|喊|大喊|把|在|就|已经)",
    re.IGNORECASE,
)
"""What has been done, or is done by others."""
_TRAILING: Final = {
    "en": re.compile(
        r",? (?=(?:i'?m|i am|i can'?t|i cannot|i don'?t|it'?s|it is|we'?re|we are|the baby(?:'s| is)?|so i can) \w)",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        "(?<=..)[,，]?(?=我(?:看不|听不|要|快|怕|都|睡|冷|热)|宝宝|孩子|天[黑亮热冷]|外面|好[冷热吵]|[太有]点?[冷热吵暗亮])"
    ),
}
Kinds = frozenset[str]
"""Names of kinds of words, and slots as they are written: {"sound", "<number>"}."""


@dataclass(frozen=True, slots=True)
class Order:
    """The rule that some kinds make, and its slots."""

    rule: str
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a sentence. `word`: as the file writes it."""

    stop: int
    kind: str
    word: str
    value: str | int = ""
    guessed: bool = False
    """One syllable that is written otherwise than the word it sounds like."""


class OrderWords:
    """The words of one language. With a table of sounds Chinese words are also found where they only sound so."""

    def __init__(
        self,
        orders: Mapping[Kinds, Order],
        words: Mapping[str, WordLists],
        things: Mapping[str, WordLists],
        slots: Mapping[str, Slot],
        language: str,
        table: SyllableSounds | None,
    ) -> None:
        self._orders = orders
        self._slots = slots
        self._language = language
        self._table = table
        self._numbers = [f"<{name}>" for name, slot in slots.items() if slot.kind == "number"]
        self._time = next((f"<{name}>" for name, slot in slots.items() if slot.kind == "time"), "")
        thing = next((f"<{name}>" for name, slot in slots.items() if slot.kind == "thing"), "")
        self._thing = thing
        self._known: dict[tuple[str, ...], tuple[str, str]] = {}
        lists = chain(
            ((thing, word) for kinds in things.values() for word in kinds.of(language)),
            ((kind, word) for kind, kinds in words.items() for word in kinds.of(language)),
        )
        for kind, word in lists:
            if kind:
                units = self._units(plain_text(word, language))
                self._known.setdefault(units, (kind, word))
        self._longest = max(map(len, self._known), default=0)

    def find(self, plain: str) -> tuple[Order, dict[str, str | int]] | None:
        """The order that `plain` is (see `plain_text`), and what stands in its slots."""
        if self._language == "zh":
            if _TELLING.search(plain) or (self._table is not None and _DENYING.search(plain)):
                return None
            plain = re.sub(r"[^\w%:]", "", plain)
        written = plain if self._language == "zh" else plain.replace(",", " ").replace("%", " percent ").split()
        if not 0 < len(written) <= MAX_ORDER[self._language]:
            return None
        units = self._units(plain) if self._language == "zh" else tuple(written)
        numbers = self._read(written)
        times = any(piece.kind == self._time for _, piece in numbers)
        # "At sixty" is a time, but not in "the screen at sixty".
        return self._made(self._covered(written, units, numbers)) or (
            self._made(self._covered(written, units, [one for one in numbers if one[1].kind == SLOT]))
            if times
            else None
        )

    def _made(self, pieces: list[_Piece] | None) -> tuple[Order, dict[str, str | int]] | None:
        if pieces is None:
            return None
        said = [piece for piece in pieces if piece.kind != FILLER]
        if any(piece.guessed for piece in pieces) and self._thing not in {piece.kind for piece in said}:
            return None
        if any(behind.guessed and piece.kind in (SLOT, self._time) for piece, behind in pairwise(pieces)):
            return None  # it may belong to the number: 六点班, 七是
        if sum(piece.kind == SLOT for piece in said) > 1:
            return None
        for number in self._numbers if any(piece.kind == SLOT for piece in said) else ("",):
            order = self._orders.get(frozenset(number if piece.kind == SLOT else piece.kind for piece in said))
            values = self._values(pieces, said, number) if order is not None else None
            if order is not None and values is not None:
                return order, values
        return None

    def _units(self, plain: str) -> tuple[str, ...]:
        """What is compared: words, characters, or syllables."""
        if self._language != "zh":
            return tuple(plain.split())
        return tuple(plain) if self._table is None else tuple(self._table.code(char) for char in plain)

    def _covered(
        self, written: Sequence[str], units: tuple[str, ...], read: list[tuple[int, _Piece]]
    ) -> list[_Piece] | None:
        """The fewest pieces that make the whole sentence; None when a word of it is unknown."""
        size = len(units)
        found: dict[int, list[_Piece]] = {}
        for at, piece in read:
            found.setdefault(at, []).append(piece)
        best: list[tuple[int, _Piece | None] | None] = [None] * size + [(0, None)]
        for at in range(size - 1, -1, -1):
            for stop in range(at + 1, min(size, at + self._longest) + 1):
                known = self._known.get(units[at:stop])
                if known is not None:  # a word rather than a time: 整点音乐
                    found.setdefault(at, []).insert(0, self._known_piece(at, stop, known, written))
            for piece in found.get(at, ()):
                rest = best[piece.stop]
                here = best[at]
                if rest is not None and (here is None or rest[0] + 1 < here[0]):
                    best[at] = rest[0] + 1, piece
        pieces: list[_Piece] = []
        at = 0
        while at < size:
            step = best[at]
            if step is None or step[1] is None:
                return None
            pieces.append(step[1])
            at = step[1].stop
        return pieces

    def _known_piece(self, at: int, stop: int, known: tuple[str, str], written: Sequence[str]) -> _Piece:
        kind, word = known
        guessed = self._table is not None and stop - at == 1 and written[at] != word
        return _Piece(stop, kind, word, guessed=guessed)

    def _read(self, written: Sequence[str]) -> list[tuple[int, _Piece]]:
        """Numbers and times, with their place."""
        return list(self._han(str(written)) if self._language == "zh" else self._english(list(written)))

    def _han(self, text: str) -> Iterator[tuple[int, _Piece]]:
        for match in HAN_NUMBER.finditer(text):
            value = han_number(match[0])
            if value is not None:
                yield match.start(), _Piece(match.end(), SLOT, match[0], value)
        for match in _TIME_RUN.finditer(text) if self._time else ():
            for start in range(match.start(), match.end() - 1):
                for stop in range(match.end(), start + 1, -1):
                    time = self._time_of(text[start:stop])
                    if time is not None:
                        yield start, _Piece(stop, self._time, text[start:stop], time)

    def _english(self, words: list[str]) -> Iterator[tuple[int, _Piece]]:
        for at, word in enumerate(words):
            value, used = english_number(words, at)
            if used:
                yield at, _Piece(at + used, SLOT, word, value)
            if self._time and (used or _TIME_START.match(word)):
                for stop in range(min(len(words), at + _MAX_TIME), at, -1):
                    text = " ".join(words[at:stop])
                    time = self._time_of(text)
                    if time is not None and not (used and stop == at + used):
                        yield at, _Piece(stop, self._time, text, time)

    def _time_of(self, text: str) -> str | int | None:
        return slot_value(self._slots[self._time[1:-1]], text, self._language, None)

    def _named(self, pieces: list[_Piece]) -> str:
        """The thing as it was called: 客厅的灯; without what stands between that is no part of it."""
        places = [at for at, piece in enumerate(pieces) if piece.kind == self._thing]
        if not places:
            return ""
        called = pieces[places[0] : places[-1] + 1]
        if any(piece.kind != self._thing and piece.word not in _OF for piece in called):
            called = [piece for piece in called if piece.kind == self._thing]
        return ("" if self._language == "zh" else " ").join(piece.word for piece in called)

    def _values(self, pieces: list[_Piece], said: list[_Piece], number: str) -> dict[str, str | int] | None:
        values: dict[str, str | int] = {}
        named = self._named(pieces)
        if named:
            values[self._thing[1:-1]] = named
        for piece in said:
            if piece.kind == SLOT:
                limits = self._slots[number[1:-1]]
                if not isinstance(piece.value, int) or not limits.least <= piece.value <= limits.most:
                    return None
                values[number[1:-1]] = piece.value
            elif piece.kind == self._time:
                if piece.kind[1:-1] in values:
                    return None
                values[piece.kind[1:-1]] = piece.value
        return values


def behind_reason(text: str, language: str) -> Iterator[str]:
    """What may be the order behind a short clause that says why it is given."""
    for split in _CLAUSES[language]:
        reason, _, order = split.sub("\n", text, count=1).partition("\n")
        if order and len(reason) <= MAX_REASON[language] and not (_NO_REASON.search(text) or _NOT.search(text)):
            yield order


def before_reason(text: str, language: str) -> str:
    """What may be the order before a clause that says why it is given ("roll the dice it's my turn"); "": none."""
    split = _TRAILING[language].search(text)
    if split is None or len(text) - split.end() > MAX_REASON["en"] or _NO_REASON.search(text[split.end() :]):
        return ""
    return text[: split.start()]


def is_told(text: str, thing: str) -> bool:
    """Whether it is told what was done or what others do, or asked how a thing is (台灯关了吗)."""
    return _NARRATING.search(text) is not None or (bool(thing) and _HOW_IT_IS.search(text) is not None)
