"""A stream of text cut into sentences that can be spoken one by one, the first one early.

Not a cleaner (cleanup.py makes text speakable first) and not a linguist: it knows where a pause sounds natural in
Chinese and in English. Nothing is lost and nothing is said twice: the sentences joined are the text, white space aside.
Where the stream happened to be cut into pieces never changes the sentences, because every decision looks at a fixed
distance ahead and waits until that much has arrived.

Length is measured in units of roughly 65 ms of speech: a wide (CJK) character counts 3, any other character 1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Sentence:
    """`display` is what the subtitle shows; `spoken` is what the synthesiser gets, replacement words applied."""

    display: str
    spoken: str


FIRST_UNITS: Final = 10
"""The first sentence may end at a comma once it is this long: three Chinese characters, or two short English words, and
the comma."""
SECOND_UNITS: Final = 60
"""So may the second: the first one plays for a second only, and a long sentence behind it would leave a gap."""
MAX_UNITS: Final = 240
"""Sixteen seconds or so: a sentence without any end is cut here."""

HARD_ENDS: Final = "。？！?!；;：\n"
SOFT_ENDS: Final = "，、,~～…—"
_CLOSERS: Final = "”’」』）)】》〉]\"'"
_OPENERS: Final = "“‘「『（(【《〈["

_CANDIDATE: Final = re.compile("[" + re.escape(HARD_ENDS + SOFT_ENDS + ".") + "]")
_WIDE: Final = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\U00020000-\U0003fffd]"
)
_LAST_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.'-]*$")
# How far a decision may look beyond a candidate, white space included.
_LOOK_AHEAD: Final = 8


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# After these a full stop never ends a sentence ...
_ALWAYS_SHORT: Final = _words(
    "mr mrs ms mx dr prof rev hon st gen col capt lt sgt gov sen rep "
    "pres e.g i.e vs viz cf al fig figs eq ref sec pp vol eds approx dept"
)
# ... and after these only when the next word begins with a capital.
_SOMETIMES_SHORT: Final = _words(
    "etc a.m p.m u.s u.k u.n e.u ph.d b.a m.a b.c a.d inc ltd co corp "
    "jr sr ave blvd rd ft oz lb lbs hr hrs sq est tel ext max min avg"
    " jan feb mar apr may jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun"
)


def units(text: str) -> int:
    """The length of `text` in units of about 65 ms of speech."""
    return len(text) + 2 * len(_WIDE.findall(text))


class SentenceSplitter:
    """`feed` pieces of an answer as they come, `flush` at its end; after that the next answer may begin.

    `protect`: phrases that are never cut in the middle (replacement words that contain a comma, say)."""

    def __init__(
        self,
        *,
        soft_units: Sequence[int] = (FIRST_UNITS, SECOND_UNITS),
        max_units: int = MAX_UNITS,
        protect: Collection[str] = (),
    ) -> None:
        self._soft_units = tuple(soft_units)
        self._max_units = max_units
        self._protect = tuple(phrase for phrase in protect if _CANDIDATE.search(phrase[:-1]))
        self._text = ""
        self._units = 0
        self._from = 0
        self._count = 0

    def feed(self, piece: str) -> list[str]:
        """The sentences that `piece` completes, without white space around them."""
        self._text += piece
        self._units += units(piece)
        return self._cut_all(final=False)

    def flush(self) -> list[str]:
        """The answer is complete: whatever is left, as one last sentence (or more). The next `feed` begins a new
        answer."""
        sentences = self._cut_all(final=True)
        rest = self._text.strip()
        if rest:
            sentences.append(rest)
        self._text = ""
        self._units = self._from = self._count = 0
        return sentences

    def _cut_all(self, *, final: bool) -> list[str]:
        sentences: list[str] = []
        while (cut := self._next_cut(final)) is not None:
            head = self._text[:cut]
            self._text = self._text[cut:]
            self._units -= units(head)
            self._from = 0
            sentence = head.strip()
            if sentence:
                self._count += 1
                sentences.append(sentence)
        return sentences

    def _next_cut(self, final: bool) -> int | None:
        """Where the first sentence ends; None: not known yet. Candidates are decided strictly from left to right."""
        text = self._text
        limit = self._limit()
        for match in _CANDIDATE.finditer(text, self._from, limit):
            at = match.start()
            cut = self._decide(text, at, final)
            if cut is None:
                self._from = at
                return None
            if cut:
                return cut
            self._from = at + 1
        if limit < len(text):
            return self._forced(text, limit)
        return None

    def _limit(self) -> int:
        """Index of the first character that makes the sentence too long."""
        if self._units <= self._max_units:
            return len(self._text)
        # Never more than max_units characters are looked at here.
        total = 0
        for index, char in enumerate(self._text):
            total += 3 if _WIDE.match(char) else 1
            if total > self._max_units:
                return index
        return len(self._text)

    def _forced(self, text: str, limit: int) -> int:
        """Cut a sentence that does not end: after its last comma, else at its last space, else right here."""
        soft = max(text.rfind(mark, limit // 3, limit) for mark in SOFT_ENDS) + 1
        if soft > 0 and not (text[soft - 1] == "," and text[soft - 2 : soft - 1].isdigit()):
            return soft
        space = max(text.rfind(blank, limit // 3, limit) for blank in " \t\u3000") + 1
        return space or limit

    def _decide(self, text: str, at: int, final: bool) -> int | None:
        """The end of the sentence for the candidate at `at`: an index, 0 for "not here", None for "ask again with more
        text"."""
        mark = text[at]
        if mark == "\n":
            return at + 1
        if mark in SOFT_ENDS:
            verdict = self._soft(text, at, final)
        elif mark == ".":
            verdict = self._full_stop(text, at, final)
        else:
            verdict = self._between_digits(text, at, final) if mark == "：" else 1
        if verdict != 1:
            return verdict
        if not any(char.isalnum() for char in text[:at]):
            return 0  # nothing to say yet: leading punctuation stays with what follows
        cut = self._after_closers(text, at + 1, final)
        if cut is None or not self._protect:
            return cut
        return self._unless_protected(text, cut, final)

    def _soft(self, text: str, at: int, final: bool) -> int | None:
        if self._count >= len(self._soft_units) or units(text[: at + 1].lstrip()) < self._soft_units[self._count]:
            return 0
        return self._between_digits(text, at, final)

    @staticmethod
    def _between_digits(text: str, at: int, final: bool) -> int | None:
        """1 unless the mark stands between two digits, as in 1,000 or 12：30."""
        if at == 0 or not text[at - 1].isdigit():
            return 1
        if at + 1 < len(text):
            return 0 if text[at + 1].isdigit() else 1
        return 1 if final else None

    def _full_stop(self, text: str, at: int, final: bool) -> int | None:
        before = text[at - 1] if at else ""
        if before in (".", "…"):
            return 0
        after = text[at + 1 : at + 2]
        if not after:
            return 1 if final else None
        if after == "." or (after.isascii() and after.isalnum()) or after.isdigit() or after in "_/-@…,":
            return 0  # 3.14, example.com, ...
        if after == "\n" or not before.isascii():
            return 1
        if not after.isspace() and after not in _CLOSERS:
            return 1 if _WIDE.match(after) else 0
        match = _LAST_WORD.search(text[:at])
        word = match.group() if match else ""
        if word.isdigit() and not text[: at - len(word)].strip():
            return 0  # "1. First": the number of a list item
        return self._after_word(text, at, word, final)

    def _after_word(self, text: str, at: int, word: str, final: bool) -> int | None:
        lower = word.lower()
        if lower in _ALWAYS_SHORT:
            return 0
        if len(word) == 1 and word.isupper() and word != "I":
            return 0  # J. Smith
        if lower not in _SOMETIMES_SHORT and lower != "no":
            return 1
        following = text[at + 1 : at + 1 + _LOOK_AHEAD].lstrip(_CLOSERS + " \t")
        if not following and at + 1 + _LOOK_AHEAD > len(text) and not final:
            return None
        if lower == "no":
            return 0 if following[:1].isdigit() else 1
        return 1 if not following or not (following[0].islower() or following[0].isdigit()) else 0

    @staticmethod
    def _after_closers(text: str, cut: int, final: bool) -> int | None:
        """Quotes and brackets that close right after the mark belong to the sentence; only waited for when one is
        open."""
        opened = sum(1 for char in text[:cut] if char in _OPENERS)
        closed = sum(1 for char in text[:cut] if char in _CLOSERS and char not in "\"'’")
        quoted = text.count('"', 0, cut) % 2 == 1
        if opened <= closed and not quoted:
            return cut
        end = cut + _LOOK_AHEAD
        while cut < len(text) and cut < end and text[cut] in _CLOSERS:
            cut += 1
        if cut == len(text) and cut < end and not final:
            return None
        return cut

    def _unless_protected(self, text: str, cut: int, final: bool) -> int | None:
        for phrase in self._protect:
            for inside in range(1, len(phrase)):
                if not text.endswith(phrase[:inside], 0, cut):
                    continue
                rest = phrase[inside:]
                if text.startswith(rest, cut):
                    return 0
                if not final and rest.startswith(text[cut:]):
                    return None
        return cut
