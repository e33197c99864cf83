"""From what a language model writes to what is said: the whole way of a reply's text, one object per answer.

    pieces ─► markup.py (markdown, code, links, reasoning out) ─► tidy.py (emoji, punctuation)
           ─► sentences.py ─► replacement words

Not a synthesiser's normaliser: numbers, units and dates are read by the voice itself. Replacement words
(`correct_words`, "src|dst") change what is spoken and never what is shown. They are applied to whole sentences, and the
splitter is told not to cut inside one, so a word that the model sent in three pieces is replaced like any other and
subtitles need no restoring afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from xiaozhi.speech.emotion import NEUTRAL, Emotion, guess
from xiaozhi.speech.markup import SpeechCleaner
from xiaozhi.speech.sentences import Sentence, SentenceSplitter

# A sentence does not begin with what closed the one before it.
_LEADING: Final = " ，。！？；：、”’」』）】》…～~!?;:,"
# Where the guess at an emotion stops looking when the text shows none.
_GUESSED_SENTENCES: Final = 3


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
    several)."""

    def __init__(self, *, correct_words: Iterable[str] = ()) -> None:
        self._words = _compiled(tuple(correct_words))
        self._cleaner = SpeechCleaner()
        self._splitter = SentenceSplitter(protect=self._words.sources)
        self._guess = NEUTRAL
        self._guessed = 0

    @property
    def emotion(self) -> Emotion:
        """The feeling of the first emoji that shows one, else a guess from the first sentences so far, else neutral."""
        return self._cleaner.emotion or self._guess

    def feed(self, piece: str) -> list[Sentence]:
        """The sentences that `piece` completes, in order; none of them is empty of words."""
        clean = self._cleaner.feed(piece)
        return self._speakable(self._splitter.feed(clean)) if clean else []

    def flush(self) -> list[Sentence]:
        """The answer is complete: what is left of it. The next `feed` begins another one, with a short first
        sentence."""
        clean = self._cleaner.flush()
        return self._speakable([*self._splitter.feed(clean), *self._splitter.flush()])

    def _speakable(self, texts: list[str]) -> list[Sentence]:
        sentences = []
        for text in texts:
            shown = text.lstrip(_LEADING)
            if not any(char.isalnum() for char in shown):
                continue
            if self._guess is NEUTRAL and self._guessed < _GUESSED_SENTENCES:
                self._guessed += 1
                self._guess = guess(shown)
            sentences.append(Sentence(shown, self._words.apply(shown)))
        return sentences
