"""The last stage before the sentence splitter: white space, repeated punctuation, emoji and characters nobody can say.
A few signs that mean something without a word (ticks, crosses, stars) stay, to be shown.

Not a markup parser (markup.py is, and feeds this). Character by character in meaning, run by run in cost: the state it
keeps is the last character let through and what is pending behind it, so the outcome does not depend on how the stream
was cut."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from xiaozhi.speech.emotion import Emotion, emotion_of_emoji

# Emoji, dingbats, their selectors; box drawing; invisible, private and surrogate code points; controls but tab and line
# breaks.
_JUNK: Final = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\r\xad"
    "\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff\u2300-\u23ff\u2502-\u25ca\u25cc-\u27bf"
    "\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299"
    "\ud800-\uf8ff\ufe00-\ufe0f\ufeff\ufff0-\uffff"
    "\U0001f000-\U0001faff\U000e0000-\U0010ffff"
)
# Joiners, which some scripts need within a word (Persian, Hindi, Sinhala) and emoji between two of theirs.
_JOINERS: Final = "\u200c\u200d"
_SIGN_OF: Final = {"✓": "✓", "✔": "✓", "✅": "✓", "☑": "✓", "✗": "✗", "✘": "✗", "✖": "✗", "❌": "✗", "❎": "✗",
    "★": "★", "⭐": "★", "☆": "☆"}  # fmt: skip
SIGNS: Final = "".join(dict.fromkeys(_SIGN_OF.values()))
"""What is shown although it has no words: it says yes or no in a table, or how many stars. No voice can be relied on to
read it."""
_SHOWN: Final = "".join(_SIGN_OF)
_ENDS: Final = "。！？!?;；．؟۔।。።။"
_COMMAS: Final = "，,、،"
_ALIKE: Final = (_ENDS, _COMMAS, "…", "~～")
_CLASS_OF: Final = {char: alike for alike in _ALIKE for char in alike}
_LINES: Final = "─━"
_DASHES: Final = "—–―-=_" + _LINES
_MARKS: Final = re.escape("".join(_CLASS_OF) + _DASHES)
_TOKEN: Final = re.compile(
    rf"(?P<sign>[{_SHOWN}])|(?P<junk>(?:(?![{_SHOWN}])[{_JUNK}])+)|(?P<joiner>[{_JOINERS}])"
    r"|(?P<line>[\n\x0b\x0c\x85\u2028\u2029])|(?P<space>[^\S\n\r\x0b\x0c\x1c-\x1f\x85\u2028\u2029]+)|(?P<dot>\.)"
    rf"|(?P<mark>[{_MARKS}])|(?P<plain>[^\s.{_SHOWN}{_JUNK}{_JOINERS}{_MARKS}]+)"
)
_WORDLESS_MAX: Final = 32


def is_wide(char: str) -> bool:
    """True for Chinese, Japanese and Korean characters and full-width punctuation."""
    return (
        "\u2e80" <= char <= "\ud7a3"
        or "\uf900" <= char <= "\ufaff"
        or "\uff00" <= char <= "\uff60"
        or char >= "\U00020000"
    )


class Tidy:
    """Collects tidy text; `take` what there is, `finish` at the end of an answer."""

    def __init__(self) -> None:
        self.emotion: Emotion | None = None
        """What the first emoji with a feeling said; it stays when the answer ends."""
        self.wide_seen = False
        self._out: list[str] = []
        self._last = ""
        self._repeats = 0
        self._space = False
        self._cell = False
        self._dots = 0
        self._previous = ""
        self._joinable = False
        """What came last is text, so that a joiner may belong to it."""
        self._joiner = ""
        self._left_out = False
        self._worded = False
        self.wordless = ""
        """The emoji, and the faces drawn with characters, of an answer that has had no word so far."""

    @property
    def ends_with_one_letter(self) -> bool:
        """Whether the text so far ends with a word of a single letter or digit."""
        return self._last.isalnum() and not self._previous.isalnum()

    def take(self) -> str:
        """The text that is ready since the last call."""
        text = "".join(self._out)
        self._out.clear()
        return text

    def finish(self) -> None:
        """The answer is complete; the next one starts afresh."""
        self._end_dots()
        self._last = ""
        self._repeats = 0
        self._space = self._cell = self._joinable = self._worded = self._left_out = False
        self._previous = self._joiner = self.wordless = ""

    def face(self, drawn: str) -> None:
        """A face drawn with characters: nothing to say."""
        self.left_out()
        self._without_word(drawn)

    def left_out(self) -> None:
        """Something stood here that leaves no trace, also no space in front of a full stop behind it."""
        self._end_dots()
        self._joinable = False
        self._left_out = True

    def line(self) -> None:
        """A line ends here; empty lines leave no trace."""
        self._end_dots()
        self._space = self._cell = self._joinable = False
        if self._last not in ("", "\n"):
            self._out.append("\n")
            self._last = "\n"

    def cell(self) -> None:
        """A table cell ends here: a comma before the next one, if this one had anything in it."""
        self._end_dots()
        self._joinable = False
        if self._last not in ("", "\n"):
            self._cell = True

    def add(self, text: str) -> None:
        """Plain text, markup removed."""
        for match in _TOKEN.finditer(text):
            kind = match.lastgroup
            if kind == "plain":
                self._end_dots()
                self._plain(match.group())
                continue
            if kind == "joiner":
                self._joiner = match.group() if self._joinable and not self._joiner else ""
                if self.wordless:
                    self._without_word(match.group())
                continue
            self._joinable = False
            self._joiner = ""
            if kind == "sign":
                self._end_dots()
                self._push(_SIGN_OF[match.group()])
            elif kind == "space":
                self._end_dots()
                self._space = self._last not in ("", "\n")
            elif kind == "dot":
                self._dots += 1
            elif kind == "mark":
                self._end_dots()
                self._mark("—" if match.group() in _LINES else match.group())
            elif kind == "line":
                self.line()
            else:
                self._junk(match.group())

    def _plain(self, text: str) -> None:
        joiner, self._joiner = self._joiner, ""
        if joiner and not self._space and _joins(self._last) and _joins(text[0]):
            text = joiner + text
        if not self._worded and any(char.isalnum() for char in text):
            self._worded = True
            self.wordless = ""
        self._push(text)
        self._joinable = True

    def _end_dots(self) -> None:
        dots, self._dots = self._dots, 0
        if dots and self._left_out:
            self._space = False
        if dots == 1:
            self._push(".")
        elif dots:
            self._mark("…")

    def _mark(self, char: str) -> None:
        if self._space and char in _CLASS_OF and (self._left_out or is_wide(char)):
            self._space = False
        if self._space or self._cell or not self._last:
            self._push(char)
            return
        alike = _CLASS_OF.get(char)
        if alike is not None:
            if self._last in alike:
                return  # the first of a run stands for all
        elif char == self._last:
            self._repeats += 1
            if self._repeats >= 2:
                return  # a dash or two is punctuation, a row of them is a drawing
            self._out.append(char)
            return
        self._push(char)

    def _push(self, text: str) -> None:
        spaced = self._space or self._cell
        if self._cell:
            wide = is_wide(self._last)
            separated = self._last in _COMMAS or self._last in _ENDS or self._last in ":：."
            self._out.append((" " if not wide else "") if separated else ("，" if wide else ", "))
            self._cell = self._space = False
        elif self._space:
            self._out.append(" ")
            self._space = False
        self._out.append(text)
        self._previous = text[-2:-1] or ("" if spaced else self._last)
        self._last = text[-1]
        self._repeats = 0
        self._left_out = False
        if not self.wide_seen and not text.isascii() and any(is_wide(char) for char in text):
            self.wide_seen = True

    def _junk(self, junk: str) -> None:
        self.left_out()
        self._without_word(junk)
        if self.emotion is not None:
            return
        for char in junk:
            felt = emotion_of_emoji(char)
            if felt is not None:
                self.emotion = felt
                return

    def _without_word(self, drawn: str) -> None:
        if not self._worded and len(self.wordless) < _WORDLESS_MAX:
            self.wordless += drawn


def _joins(char: str) -> bool:
    """Whether a joiner beside `char` may be part of a word."""
    return not char.isascii() and not is_wide(char) and unicodedata.category(char)[0] in "LM"
