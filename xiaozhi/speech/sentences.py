"""A stream of text cut into sentences that can be spoken one by one, the first one early.

Not a cleaner (cleanup.py makes text speakable first) and not a linguist: segmentation.py knows the marks and the
abbreviations of the world's languages, this module decides on a stream. Nothing is lost and nothing is said twice: the
sentences joined are the text, white space aside. Where the stream happened to be cut into pieces never changes the
sentences, because every decision looks at a bounded distance ahead and waits until that much has arrived; most wait
for nothing. The work is linear in the text, however short or long its sentences are.

Length is measured in units of roughly 65 ms of speech: a wide (CJK) character counts 3, any other character 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from xiaozhi.speech.language import DEFAULT, UNKNOWN, LatinLanguage, language_by_script
from xiaozhi.speech.segmentation import (
    CONTEXT_CHARS,
    FOLLOWING_CHARS,
    goes_on,
    is_abbreviation,
    may_go_on,
    stands_before_number,
    terminators,
)

FIRST_UNITS: Final = 10
"""The first sentence may end at a comma once it is this long: three Chinese characters, or two short English words, and
the comma."""
SECOND_UNITS: Final = 60
"""So may the second: the first one plays for a second only, and a long sentence behind it would leave a gap."""
PHRASE_UNITS: Final = 60
"""Scripts that put a space between phrases and no mark behind a sentence are cut at a space beyond this length."""
MAX_UNITS: Final = 240
"""Sixteen seconds or so: a sentence without any end is cut here."""

# Little section (Burmese) is a comma; the full-width and small full stops stand in numbers, too.
_NOT_HARD: Final = "၊．﹒․"
# Semicolons, the colon of Chinese, a Greek question mark; Tibetan, Khmer, Thai and Hebrew, which sentencex leaves out.
HARD_ENDS: Final = "".join(
    mark for mark in dict.fromkeys("。？！?!;；：\n؛\u037e།༎༏༐༑។៕៚๚๛׃" + terminators()) if mark not in _NOT_HARD
)
SOFT_ENDS: Final = "，、,~～…—،､၊፣፤፥᠂՝\u0387﹐﹑"
_STOPS: Final = ".．﹒"
_OPENERS: Final = "“‘「『（(【《〈[«‹„‚〔〖"
_CLOSERS: Final = "”’」』）)】》〉]»›〕〗\"'"
_BLANKS: Final = " \t\u00a0\u202f\u3000"
_FIRST_QUOTE: Final = re.compile("[“‘„‚«»‹›]")
_FRENCH_SPACES: Final = ("", " ", "\u00a0", "\u202f")
# Scripts without a space between words (and, but for some, without a full stop): Thai, Lao, Burmese, Khmer.
_SPACELESS: Final = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"

_CANDIDATE: Final = re.compile("[" + re.escape(HARD_ENDS + SOFT_ENDS + _STOPS) + f"]|(?<={_SPACELESS}) ")
_SPACELESS_LETTER: Final = re.compile(_SPACELESS)
_WIDE: Final = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\U00020000-\U0003fffd]"
)
_SPOKEN: Final = re.compile(r"[^\W_]")
_LAST_WORD: Final = re.compile(rf"[^\s{re.escape(_OPENERS + _CLOSERS)}]*\Z")
# Between a full stop and the word behind it.
_GAP: Final = re.compile(rf"[{_BLANKS}{re.escape(_OPENERS + _CLOSERS)}¿¡]{{0,8}}")
_NEXT_WORD: Final = re.compile(rf"\S{{1,{FOLLOWING_CHARS}}}")
_ASCII_RUN: Final = re.compile(r"[0-9A-Za-z]+\Z")
# What belongs to the character before it: marks above and below, joiners.
_ATTACHED: Final = re.compile(r"[\u0300-\u036f\u200c\u200d\ufe00-\ufe0f]")
# Where a text without any space may be cut: Tibetan's and Ethiopic's marks between syllables and words.
_BETWEEN_SYLLABLES: Final = "་፡"
# How far a decision may look beyond a candidate for quotes that close.
_LOOK_AHEAD: Final = 8
# A long piece is worked on in slices, so that what is left of it is not copied whole for each sentence.
_SLICE: Final = 2_048
_LIST_NUMBER_DIGITS: Final = 3


@dataclass(frozen=True, slots=True)
class Sentence:
    """`display` is the sentence as it was written, the text that is remembered; `spoken` is what the synthesiser gets,
    replacement words applied: something to say, or "" for what is only shown."""

    display: str
    spoken: str

    @property
    def subtitle(self) -> str:
        """`display` as a screen shows it: no comma, full stop or dash at its ends. Questions keep their mark."""
        return self.display.strip(_TRIMMED) or self.display


# At the ends of subtitles. Question marks say something, brackets and quotes belong to their partners.
_TRIMMED: Final = "".join(
    mark for mark in HARD_ENDS + SOFT_ENDS + _STOPS + _BLANKS + "-－–:" if mark not in "?？؟\u037e⸮‽⁇⁈⁉፧꘏꛷﹖"
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
        self._latin = LatinLanguage()
        self._in_latin = 0
        """Everything before this index of `_text` has been added to `_latin`."""
        self._text = ""
        self._from = 0
        """Everything before this index of `_text` has been decided on ..."""
        self._units = 0
        """... and is this long."""
        self._count = 0

    def feed(self, piece: str) -> list[str]:
        """The sentences that `piece` completes, without white space around them."""
        sentences: list[str] = []
        for start in range(0, len(piece), _SLICE):
            self._text += piece[start : start + _SLICE]
            self._cut_all(sentences, final=False)
        return sentences

    def flush(self) -> list[str]:
        """The answer is complete: whatever is left, as one last sentence (or more). The next `feed` begins a new
        answer."""
        sentences: list[str] = []
        self._cut_all(sentences, final=True)
        rest = self._text.strip()
        if rest:
            sentences.append(rest)
        self._text = ""
        self._units = self._from = self._count = self._in_latin = 0
        self._latin.reset()
        return sentences

    def _cut_all(self, sentences: list[str], *, final: bool) -> None:
        while (cut := self._next_cut(final)) is not None:
            head = self._text[:cut]
            self._text = self._text[cut:]
            self._from = self._units = 0
            sentence = head.strip()
            self._latin.add(head[self._in_latin :])
            self._in_latin = 0
            if sentence:
                self._count += 1
                sentences.append(sentence)

    def _next_cut(self, final: bool) -> int | None:
        """Where the first sentence ends; None: not known yet. Candidates are decided strictly from left to right."""
        text = self._text
        for match in _CANDIDATE.finditer(text, self._from):
            at = match.start()
            if not self._fits(at + 1):
                return self._forced(text)
            cut = self._decide(text, at, final)
            if cut is None:
                return None
            if cut:
                return cut
        return None if self._fits(len(text)) else self._forced(text)

    def _fits(self, end: int) -> bool:
        """Whether the text up to `end` is short enough; counts it, if so."""
        more = units(self._text[self._from : end])
        if self._units + more > self._max_units:
            return False
        self._units += more
        self._from = end
        return True

    def _forced(self, text: str) -> int:
        """Cut a sentence that does not end: after its last comma, else at its last space, else between two words or
        characters."""
        limit, total = self._from, self._units
        while limit < len(text):
            total += units(text[limit])
            if total > self._max_units:
                break
            limit += 1
        least = limit // 3
        soft = max(text.rfind(mark, least, limit) for mark in SOFT_ENDS) + 1
        if soft > 0 and not text[soft - 2 : soft - 1].isdigit():
            return soft
        for blanks in (_BLANKS, _BETWEEN_SYLLABLES):
            space = max(text.rfind(blank, least, limit) for blank in blanks) + 1
            if space:
                return space
        run = _ASCII_RUN.search(text, least, limit)
        if run is not None and run.start() > least and _ASCII_RUN.match(text[limit : limit + 1]):
            return run.start()  # a word or number in the middle of Chinese
        while limit > least + 1 and _belongs_to_the_one_before(text[limit : limit + 1]):
            limit -= 1
        return max(1, limit)

    def _decide(self, text: str, at: int, final: bool) -> int | None:
        """The end of the sentence for the candidate at `at`: an index, 0 for "not here", None for "ask again with more
        text"."""
        mark = text[at]
        if mark == "\n":
            return at + 1
        if mark == " ":
            return self._phrase_space(text, at)
        if mark in SOFT_ENDS:
            verdict = self._soft(text, at, final)
        elif mark in _STOPS:
            verdict = self._full_stop(text, at, final) if mark == "." else _between_digits(text, at, final)
        elif mark == "!" and text[at - 1 : at] == " ":
            verdict = _not_equal(text, at, final)
        else:
            verdict = _between_digits(text, at, final) if mark == "：" else 1
        if verdict != 1:
            return verdict if verdict == 0 else self._ask_again(at)
        if _SPOKEN.search(text, 0, at) is None:
            return 0  # nothing to say yet: leading punctuation stays with what follows
        cut = _after_closers(text, at + 1, final)
        if cut is not None and self._protect:
            cut = self._unless_protected(text, cut, final)
        return self._ask_again(at) if cut is None else cut

    def _ask_again(self, at: int) -> int | None:
        """None, and the candidate at `at` will be looked at again."""
        self._units -= units(self._text[at : self._from])
        self._from = at
        return None

    def _soft(self, text: str, at: int, final: bool) -> int | None:
        if self._count >= len(self._soft_units) or units(text[: at + 1].lstrip()) < self._soft_units[self._count]:
            return 0
        return _between_digits(text, at, final)

    def _phrase_space(self, text: str, at: int) -> int | None:
        """A space in a script that writes none between words ends a phrase, unless it sets off a number or a foreign
        word."""
        least = self._soft_units[self._count] if self._count < len(self._soft_units) else PHRASE_UNITS
        if units(text[:at].lstrip()) < least:
            return 0
        if at + 1 == len(text):
            return self._ask_again(at)
        return at + 1 if _SPACELESS_LETTER.match(text, at + 1) else 0

    def _full_stop(self, text: str, at: int, final: bool) -> int | None:
        before = text[at - 1] if at else ""
        if before in (".", "…"):
            return 0
        after = text[at + 1 : at + 2]
        if not after:
            return 1 if final else None
        if after == "." or (after.isascii() and after.isalnum()) or after.isdigit() or after in "_/-@…,":
            return 0  # 3.14, example.com, ...
        if after == "\n" or _WIDE.match(before):
            return 1
        if not after.isspace() and after not in _CLOSERS and after not in "“‘«‹" and not _WIDE.match(after):
            return 0
        match = _LAST_WORD.search(text, max(0, at - CONTEXT_CHARS), at)
        word = match.group() if match else ""
        if word.isdigit() and len(word) <= _LIST_NUMBER_DIGITS and not text[: at - len(word)].strip():
            return 0  # "1. First": the number of a list item
        return self._after_word(text, at, word, final)

    def _after_word(self, text: str, at: int, word: str, final: bool) -> int | None:
        before = text[max(0, at - CONTEXT_CHARS) : at]
        script = language_by_script(word, text[:at])
        languages = (script,) if script else self._languages(text, at)
        suspects = tuple(language for language in languages or UNKNOWN if is_abbreviation(language, before))
        if not suspects and not any(may_go_on(language, before) for language in languages or (DEFAULT,)):
            return 1
        gap = _GAP.match(text, at + 1)
        start = gap.end() if gap is not None else at + 1
        following = _NEXT_WORD.match(text, start)
        if following is None:
            return 1 if final or start < len(text) else None
        first = following.group()[0]
        if first.islower():
            return 0
        if first.isdigit() and any(stands_before_number(language, before) for language in languages or UNKNOWN):
            return 0
        if not suspects:
            return 1
        if following.end() == len(text) and following.end() - start < FOLLOWING_CHARS and not final:
            return None
        return 0 if any(goes_on(language, before, following.group()) for language in suspects) else 1

    def _languages(self, text: str, at: int) -> tuple[str, ...]:
        """What the answer up to `at` is written in."""
        self._latin.add(text[self._in_latin : at])
        self._in_latin = max(self._in_latin, at)
        return self._latin.languages

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


def _between_digits(text: str, at: int, final: bool) -> int | None:
    """1 unless the mark stands between two digits, as in 1,000 or 12：30."""
    if at == 0 or not text[at - 1].isdigit():
        return 1
    if at + 1 < len(text):
        return 0 if text[at + 1].isdigit() else 1
    return 1 if final else None


def _not_equal(text: str, at: int, final: bool) -> int | None:
    """0 for the sign of a comparison, as in a != b; 1 for the French exclamation mark, which stands apart."""
    if at + 1 == len(text):
        return 1 if final else None
    return 0 if text[at + 1] == "=" else 1


def _quotes(text: str, end: int) -> tuple[str, str]:
    """The marks that open and that close in the text up to `end`: German's and Danish's are English's and French's the
    other way round."""
    opened = _FIRST_QUOTE.search(text, 0, end)
    if opened is None or opened.group() in "“‘«‹":
        return _OPENERS, _CLOSERS
    if opened.group() in "„‚":
        return _OPENERS.replace("“", "").replace("‘", ""), _CLOSERS + "“‘"
    return _OPENERS.replace("«", "»").replace("‹", "›"), _CLOSERS.replace("»", "«").replace("›", "‹")


def _after_closers(text: str, cut: int, final: bool) -> int | None:
    """Quotes and brackets that close right after the mark belong to the sentence; only waited for when one is open."""
    openers, closers = _quotes(text, cut)
    opened = sum(1 for char in text[:cut] if char in openers)
    closed = sum(1 for char in text[:cut] if char in closers and char not in "\"'’")
    quoted = text.count('"', 0, cut) % 2 == 1
    if opened <= closed and not quoted:
        return cut
    end = cut + _LOOK_AHEAD
    if text.count("«", 0, cut) > text.count("»", 0, cut) and text[cut : cut + 1] in _FRENCH_SPACES:
        # « French quotes stand apart »
        behind = text[cut + 1 : cut + 2]
        if not behind:
            return cut if final else None
        if behind == "»":
            cut += 2
    while cut < len(text) and cut < end and text[cut] in closers:
        cut += 1
    if cut == len(text) and cut < end and not final:
        return None
    return cut


def _belongs_to_the_one_before(char: str) -> bool:
    return bool(char) and (_ATTACHED.match(char) is not None or unicodedata.category(char) in ("Mn", "Mc", "Me"))
