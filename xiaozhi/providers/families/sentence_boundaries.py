"""Sentence boundaries: finds where our sentences begin in the sound of a vendor that cuts the text itself. Pure: sound
and marks come in, sentences that begin come out.

The first voice generation names each of its own sentences as it begins: ours are looked for in its text by their first
letters, and counted when the vendor has rewritten them. The second generation marks nothing. There, and where the
vendor has joined several of ours, a sentence begins at the first pause near the time at which it should at an average
pace; far from that time only a long pause will do. Subtitles may be early or late by a few syllables; they never lose
their order, and no sentence is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_S = 0.02
"""Length of the windows whose loudness is told."""
SHORT_PAUSE, LONG_PAUSE = 6, 16
"""Quiet windows in a row that end a sentence: at its expected time, and long before. In between, commas are passed
over."""
SECONDS_PER_UNIT = 0.19
"""How long a Chinese character is spoken at normal speed."""
LATIN_UNIT = 0.4
"""A Latin letter or digit, in Chinese characters."""
EARLIEST, LATEST = 0.6, 1.6
"""A boundary is looked for from the one to the other multiple of its expected time."""
SLACK = 1.5
"""Units by which counted positions may differ."""
LOOK = 4
"""Sentences in which the vendor's text is looked for, and the other way round."""
MATCH = 4
"""Letters that must be the same."""


@dataclass(slots=True)
class _Said:
    text: str
    letters: str
    start: float


class Boundaries:
    """One reply. `marked`: the vendor names its sentences. `speed`: 1 is normal, 2 twice as fast."""

    def __init__(self, *, marked: bool, speed: float = 1.0) -> None:
        self._marked = marked
        self._pace = SECONDS_PER_UNIT / speed
        self._said: list[_Said] = []
        self._next = 0
        self._length = 0.0
        # Time since the last boundary, and where in the text that was: in all of it, or (marked) in the vendor's
        # sentence.
        self._elapsed = 0.0
        self._anchor = 0.0
        self._quiet = 0
        self._inside: dict[int, float] = {}
        """Marked: our sentences within the vendor's, and where they start in it."""
        self._counted = 0.0

    @property
    def unbegun(self) -> int:
        """Sentences said of which no sound has come."""
        return len(self._said) - self._next

    def said(self, text: str) -> None:
        """A sentence was sent to the vendor."""
        letters = _letters(text)
        self._said.append(_Said(text, letters, self._length))
        self._length += _units(letters)

    def vendor_begins(self, text: str) -> list[str]:
        """The vendor begins a sentence of its own: ours that begin with it."""
        letters = _letters(text)
        first = self._first_in(letters)
        if first is None and self.unbegun and self._said[self._next].start <= self._counted + SLACK:
            first = self._next  # rewritten, but its turn
        self._counted = (self._said[first].start if first is not None else self._counted) + _units(letters)
        self._elapsed, self._anchor, self._quiet = 0.0, 0.0, 0
        began = self._begin(first + 1 - self._next) if first is not None else []
        self._inside = self._later_in(letters)
        return began

    def vendor_ends(self) -> list[str]:
        """The vendor's sentence is complete: ours that were part of it and have not been noticed."""
        return self._begin(max(self._inside, default=-1) + 1 - self._next)

    def sound(self, seconds: float, loud: Sequence[bool] = ()) -> list[str]:
        """Sound of `seconds` is next: the sentences that begin in it. `loud`: for each window of 20 ms; without it only
        time decides."""
        if self._next == 0:
            return self._begin(1)
        began: list[str] = []
        step = WINDOW_S if loud else seconds
        for is_loud in loud or (True,):
            self._elapsed += step
            pause = self._quiet if is_loud else 0
            self._quiet = 0 if is_loud else self._quiet + 1
            while (start := self._start_of_next()) is not None and self._is_time(
                (start - self._anchor) * self._pace, pause
            ):
                began += self._begin(1)
                self._anchor, self._elapsed, pause = start, 0.0, 0
        return began

    def _start_of_next(self) -> float | None:
        """Where the next sentence starts, None when it is not part of the present sound."""
        if not self.unbegun:
            return None
        return self._inside.get(self._next) if self._marked else self._said[self._next].start

    def _is_time(self, expected: float, pause: int) -> bool:
        if self._elapsed >= LATEST * expected:
            return True
        if not pause or self._elapsed < EARLIEST * expected:
            return False
        early = max(0.0, (expected - self._elapsed) / ((1 - EARLIEST) * expected))
        return pause >= SHORT_PAUSE + early * (LONG_PAUSE - SHORT_PAUSE)

    def _first_in(self, letters: str) -> int | None:
        for number in range(self._next, min(self._next + LOOK, len(self._said))):
            if letters and self._said[number].letters[:MATCH] == letters[:MATCH][: len(self._said[number].letters)]:
                return number
        return None

    def _later_in(self, letters: str) -> dict[int, float]:
        found: dict[int, float] = {}
        at = 1
        for number in range(self._next, min(self._next + LOOK, len(self._said))):
            start = self._said[number].letters[:MATCH]
            at = letters.find(start, at) if start else -1
            if at < 0:
                break
            found[number] = _units(letters[:at])
            at += len(start)
        return found

    def _begin(self, count: int) -> list[str]:
        began = [said.text for said in self._said[self._next : self._next + max(0, count)]]
        self._next += len(began)
        return began


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _units(letters: str) -> float:
    return sum(1.0 if ord(character) > 0x2E80 else LATIN_UNIT for character in letters)
