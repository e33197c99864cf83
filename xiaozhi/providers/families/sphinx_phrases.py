"""What a small recogniser needs to listen for phrases: a dictionary, a language model, and the way from what it heard
to a phrase.

Pure data in, files and answers out; no sound. The language model is an ARPA trigram model in which the phrases have
nearly all the probability, and common English words the rest. A grammar finds as many phrases but makes one out of
everything it hears, and without the common words more phrases are taken for others (docs/offline.md has the figures).
What is heard is then compared with the phrases by its sounds, not its letters: "what time is it" and "what time's it"
are near, whatever the spelling.

Format: ARPA, as PocketSphinx reads it (cmusphinx.github.io, "ARPA language models"); phonemes as in the CMU dictionary.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from xiaozhi.providers.families.offline_patterns import canonical_words

BACKGROUND = 0.2
"""Share of single-word probability that goes to words outside the phrases."""
BACK_OFF = 0.05
"""Share kept, after any beginning, for words that do not follow in a phrase."""
_NUMBER_WEIGHT = 0.1
"""Weight of one phrase with a number; there are dozens of each, and they must not drown the others."""
_ZIPF = 5
_ALTERNATE = re.compile(r"\(\d+\)$")

Ngram = tuple[str, ...]


# --- dictionary ----------------------------------------------------------------------------------------------------


def read_dictionary(path: Path, words: Iterable[str]) -> dict[str, list[str]]:
    """The pronunciations of `words` (those that are there) in a CMU dictionary: word -> "HH AH L OW", ..."""
    wanted = set(words)
    found: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            written, _, sounds = line.partition(" ")
            word = _ALTERNATE.sub("", written) if written.endswith(")") else written
            if word in wanted:
                found[word].append(sounds.strip())
    return dict(found)


def dictionary_text(pronunciations: Mapping[str, Sequence[str]]) -> str:
    """A CMU dictionary; second pronunciations are marked "word(2)"."""
    lines = []
    for word in sorted(pronunciations):
        for place, sounds in enumerate(pronunciations[word], start=1):
            lines.append(f"{word}{'' if place == 1 else f'({place})'} {sounds}\n")
    return "".join(lines)


# --- language model ------------------------------------------------------------------------------------------------


def language_model_text(phrases: Sequence[str], others: Sequence[str]) -> str:
    """An ARPA trigram model of `phrases` (lower-case words) and, faintly, of the words `others` (most frequent
    first)."""
    counts: list[dict[Ngram, Counter[str]]] = [defaultdict(Counter), defaultdict(Counter), defaultdict(Counter)]
    for phrase in phrases:
        words = ["<s>", *phrase.split(), "</s>"]
        weight = _NUMBER_WEIGHT if any(isinstance(part, int) for part in canonical_words(phrase, "en")) else 1.0
        for at in range(1, len(words)):
            for order in range(min(at, 2) + 1):
                # Counter of floats
                counts[order][tuple(words[at - order : at])][words[at]] += weight  # type: ignore[assignment]
    single = _single_words(counts[0][()], others)
    pairs = {history: _smoothed(found, single) for history, found in counts[1].items()}

    def after(history: Ngram) -> Mapping[str, float]:
        # What a bigram model says after the last word of `history`, for words that were seen after all of it.
        known, back_off = pairs[history[-1:]]
        return {word: known.get(word, back_off * single[word]) for word in counts[2][history]}

    triples = {history: _smoothed(found, after(history)) for history, found in counts[2].items()}
    return _arpa(single, pairs, triples)


def _single_words(counted: Mapping[str, float], others: Sequence[str]) -> dict[str, float]:
    total = sum(counted.values())
    single = {word: (1 - BACKGROUND) * count / total for word, count in counted.items()}
    # Frequency falls with rank (Zipf's law); the first few are flattened.
    shares = [1 / (rank + _ZIPF) for rank in range(len(others))]
    for word, share in zip(others, shares, strict=True):
        single[word] = single.get(word, 0.0) + BACKGROUND * share / sum(shares)
    return single


def _smoothed(counted: Mapping[str, float], lower: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """Probabilities after one history, and the weight with which anything else comes from the next shorter one."""
    total = sum(counted.values())
    known = {word: (1 - BACK_OFF) * count / total for word, count in counted.items()}
    return known, BACK_OFF / max(1e-9, 1 - sum(lower[word] for word in known))


_Smoothed = Mapping[Ngram, tuple[Mapping[str, float], float]]


def _arpa(single: Mapping[str, float], pairs: _Smoothed, triples: _Smoothed) -> str:
    words = sorted({*single, "<s>"})
    lines = ["\\data\\", f"ngram 1={len(words)}"]
    lines += [
        f"ngram {order}={sum(len(known) for known, _ in grams.values())}" for order, grams in ((2, pairs), (3, triples))
    ]
    lines += ["", "\\1-grams:"]
    for word in words:
        back_off = pairs[(word,)][1] if (word,) in pairs else 1.0
        lines.append(f"{_log(single.get(word, 0.0))} {word} {_log(back_off)}")
    lines += ["", "\\2-grams:"]
    for history in sorted(pairs):
        for word, probability in sorted(pairs[history][0].items()):
            whole = (*history, word)
            back_off = triples[whole][1] if whole in triples else 1.0
            lines.append(f"{_log(probability)} {' '.join(whole)} {_log(back_off)}")
    lines += ["", "\\3-grams:"]
    for history in sorted(triples):
        for word, probability in sorted(triples[history][0].items()):
            lines.append(f"{_log(probability)} {' '.join((*history, word))}")
    return "\n".join([*lines, "", "\\end\\", ""])


def _log(probability: float) -> str:
    return f"{math.log10(probability):.4f}" if probability > 0 else "-99"


# --- from what was heard to a phrase -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Nearest:
    """The phrase that sounds most like what was heard; `distance` 0 (the same) to 1 (nothing in common)."""

    phrase: str
    distance: float


class SoundIndex:
    """Finds the phrase that sounds most like given words. Immutable; use from any thread."""

    def __init__(self, phrases: Iterable[str], pronunciations: Mapping[str, Sequence[str]]) -> None:
        self._letters: dict[str, str] = {}
        self._sounds = {word: self._spelt(variants[0]) for word, variants in pronunciations.items()}
        self._phrases = [(phrase, self._sound_of(phrase), _numbers(phrase)) for phrase in phrases]
        self._known = {phrase for phrase, _, _ in self._phrases}

    def nearest(self, heard: str) -> Nearest | None:
        """The nearest phrase that has the same numbers in it; None when nothing was heard or no phrase has."""
        if heard in self._known:
            return Nearest(heard, 0.0)
        sounds, numbers = self._sound_of(heard), _numbers(heard)
        if not sounds:
            return None
        best: Nearest | None = None
        for phrase, other, other_numbers in self._phrases:
            # A wrong number is worse than none: it would be acted upon.
            if numbers != other_numbers:
                continue
            longest = max(len(sounds), len(other))
            limit = longest if best is None else int(best.distance * longest)
            apart = Levenshtein.distance(sounds, other, score_cutoff=limit)
            if apart <= limit and (best is None or apart / longest < best.distance):
                best = Nearest(phrase, apart / longest)
        return best

    def _sound_of(self, words: str) -> str:
        return "".join(self._sounds.get(word, "") for word in words.split())

    def _spelt(self, phonemes: str) -> str:
        # One private letter per phoneme, so that edit distance counts phonemes.
        return "".join(
            self._letters.setdefault(phoneme, chr(0xE000 + len(self._letters))) for phoneme in phonemes.split()
        )


def _numbers(words: str) -> tuple[int, ...]:
    return tuple(part for part in canonical_words(words, "en") if isinstance(part, int))
