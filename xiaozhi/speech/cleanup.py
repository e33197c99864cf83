"""From what a language model writes to what is said: the whole way of a reply's text, one object per answer.

    pieces ─► markup.py (markdown, code, links, reasoning out) ─► tidy.py (emoji, punctuation)
           ─► sentences.py ─► replacement words

Not a synthesiser's normaliser: numbers, units and dates are read by the voice itself. Replacement words
(`correct_words`, "src|dst") change what is spoken and never what is shown. They are applied to whole sentences, and the
splitter is told not to cut inside one, so a word that the model sent in three pieces is replaced like any other and
subtitles need no restoring afterwards."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from xiaozhi.speech.emotion import DEFAULT, Emotion, spoken_of
from xiaozhi.speech.markup import SpeechCleaner
from xiaozhi.speech.sentences import HARD_ENDS, SOFT_ENDS, Sentence, SentenceSplitter
from xiaozhi.speech.tidy import SIGNS

SLICE_CHARS: Final = 200
"""Cleaning so much takes a few milliseconds."""

# A sentence does not begin with what closed the one before it.
_CLOSED: Final = re.escape(" ”’」』）】》»:" + "".join(set(HARD_ENDS + SOFT_ENDS) - set("—~～")))
_LEADING: Final = re.compile(rf"(?:[{_CLOSED}]|[~～](?!\d))+")  # "~5" is about five
_SIGNS: Final = re.compile(f" ?[{SIGNS}]+")
# Has a word, a sign, or at least something that is not punctuation.
_SHOWN: Final = re.compile(rf"[^\W_]|[{SIGNS}°%√∞±=+<>≤≥≠≈×÷$€£¥₹→←↑↓♪]")
_MAX_UNSAID: Final = 8
# Where the guess at an emotion stops looking when the text shows none.
_GUESSED_SENTENCES: Final = 3


def slices(text: str) -> Iterator[str]:
    """`text` in pieces that are cleaned without keeping others waiting; most texts are one. The sentences do not depend
    on the pieces."""
    return (text[start : start + SLICE_CHARS] for start in range(0, len(text), SLICE_CHARS))


def speakable(text: str) -> bool:
    """Whether a voice has anything to say of `text`: a letter, a syllable or a digit. Marks, emoji, signs and prolonged
    sound marks on their own are nothing, and vendors answer them with an error or with no sound."""
    return any(char.isalnum() and unicodedata.category(char) != "Lm" for char in text)


class CorrectWords:
    """Replacement words from entries "src|dst". Longer ones win; Latin ones match whole words only."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._words: dict[str, str] = {}
        rejected: list[str] = []
        for entry in entries:
            source, bar, target = entry.partition("|")
            if bar and source.strip():
                self._words[source.strip()] = target.strip()
            else:
                rejected.append(entry)
        self.rejected: tuple[str, ...] = tuple(rejected)
        """Entries that are not of the form "src|dst"."""
        self._pattern = (
            re.compile("|".join(map(_whole_word, sorted(self._words, key=len, reverse=True)))) if self._words else None
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """The words that are replaced."""
        return tuple(self._words)

    def apply(self, text: str) -> str:
        """`text` as it is to be spoken."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._words[match.group()], text)


def _whole_word(word: str) -> str:
    before = r"(?<![A-Za-z0-9])" if word[0].isascii() and word[0].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if word[-1].isascii() and word[-1].isalnum() else ""
    return before + re.escape(word) + after


@lru_cache(maxsize=256)
def _compiled(entries: tuple[str, ...]) -> CorrectWords:
    # The same list comes with every answer of a device.
    return CorrectWords(entries)


class ReplyText:
    """`feed` the model's pieces, speak the sentences that come back, `flush` at the end (of each round, if there are
    several). Each sentence has something to say; what has not is shown with the next one, or left in `only_shown`."""

    def __init__(self, *, correct_words: Iterable[str] = ()) -> None:
        self._words = _compiled(tuple(correct_words))
        self._cleaner = SpeechCleaner()
        self._splitter = SentenceSplitter(protect=self._words.sources)
        self._guess: Emotion | None = None
        self._guessed = 0
        self._unsaid: list[str] = []
        """Sentences that are to be shown and cannot be said."""
        self.only_shown = ""
        """After `flush`: what the answer showed at its end without a word to say, such as a row of stars, or the emoji
        of an answer that is nothing else. No request for a voice; "" as a rule."""

    @property
    def emotion(self) -> Emotion:
        """The feeling of the first emoji that shows one, else a guess from the first sentences so far, else happy."""
        return self._cleaner.emotion or self._guess or DEFAULT

    def feed(self, piece: str) -> list[Sentence]:
        """The sentences that `piece` completes, in order. A long piece is better fed in `slices`."""
        clean = self._cleaner.feed(piece)
        return self._speakable(self._splitter.feed(clean)) if clean else []

    def flush(self) -> list[Sentence]:
        """The answer is complete: what is left of it. The next `feed` begins another one, with a short first
        sentence."""
        clean = self._cleaner.flush()
        sentences = self._speakable([*self._splitter.feed(clean), *self._splitter.flush()])
        self.only_shown = " ".join(self._unsaid) or self._cleaner.wordless
        self._unsaid.clear()
        return sentences

    def _speakable(self, texts: list[str]) -> list[Sentence]:
        sentences = []
        for text in texts:
            leading = _LEADING.match(text)
            shown = text if leading is None else text[leading.end() :]
            if not _SHOWN.search(shown):
                continue
            spoken = _SIGNS.sub("", self._words.apply(shown)).strip()
            if not speakable(spoken):
                if len(self._unsaid) < _MAX_UNSAID:
                    self._unsaid.append(shown)
                continue
            if self._guess is None and self._guessed < _GUESSED_SENTENCES:
                self._guessed += 1
                self._guess = spoken_of(shown)
            sentences.append(Sentence(" ".join([*self._unsaid, shown]), spoken))
            self._unsaid.clear()
        return sentences
