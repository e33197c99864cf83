"""A small trigram model of the offline phrases, and the distance between what was heard and what may be meant.

Pure: text in, ARPA text and numbers out. Part of `pocketsphinx.py`.

Why an n-gram and not a grammar: a grammar forces every sound into some phrase; here the phrases share their probability with the
commonest words of English, so that other speech is heard as other words and can be refused. Why phonemes and not words: the model
confuses what sounds alike ("die", "dice"), and so must the comparison. Format: ARPA back-off models, as `ngram-format(5)` of SRILM
describes them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from rapidfuzz.distance import Levenshtein

BACKGROUND_MASS = 0.2
"""Share of the unigrams' probability that belongs to the common words."""
DISCOUNT = 0.05
"""Share of every context's probability that is left for what does not follow it in any phrase."""
_Context = tuple[str, ...]


def arpa(sentences: Sequence[tuple[Sequence[str], float]], common: Sequence[str]) -> str:
    """A trigram model of weighted sentences, backed off to `common` words (most frequent first)."""
    following: dict[_Context, Counter[str]] = defaultdict(Counter)
    for words, weight in sentences:
        marked = ["<s>", *words, "</s>"]
        for place in range(1, len(marked)):
            for length in range(min(3, place + 1)):
                following[tuple(marked[place - length : place])][marked[place]] += weight  # type: ignore[assignment]
    unigrams = _unigrams(following.pop(()), common)
    bigrams = {context: _spread(counts, lambda word: unigrams[word]) for context, counts in following.items() if len(context) == 1}

    def after(context: str) -> Callable[[str], float]:
        kept, back_off = bigrams[(context,)]
        return lambda word: kept.get(word, back_off * unigrams[word])

    trigrams = {context: _spread(counts, after(context[1])) for context, counts in following.items() if len(context) == 2}
    return _written(unigrams, bigrams, trigrams)


_Spread = tuple[dict[str, float], float]
"""Probabilities after a context, and the weight of the shorter context for all other words."""


def _unigrams(counts: Mapping[str, float], common: Sequence[str]) -> dict[str, float]:
    total = sum(counts.values())
    found = {word: count / total * (1 - BACKGROUND_MASS) for word, count in counts.items()}
    # Zipf: the n-th word is about 1/n as frequent as the first.
    harmonic = sum(1 / rank for rank in range(1, len(common) + 1))
    for rank, word in enumerate(common, 1):
        found[word] = found.get(word, 0.0) + BACKGROUND_MASS / (rank * harmonic)
    return found


def _spread(counts: Mapping[str, float], shorter: Callable[[str], float]) -> _Spread:
    total = sum(counts.values())
    kept = {word: count / total * (1 - DISCOUNT) for word, count in counts.items()}
    return kept, DISCOUNT / max(1e-9, 1 - sum(shorter(word) for word in counts))


def _written(unigrams: Mapping[str, float], bigrams: Mapping[_Context, _Spread], trigrams: Mapping[_Context, _Spread]) -> str:
    def log(probability: float) -> str:
        return f"{math.log10(max(probability, 1e-30)):.4f}"

    def back_off(context: _Context, models: Mapping[_Context, _Spread]) -> str:
        return log(models[context][1]) if context in models else "0"

    words = sorted({*unigrams, "<s>"})
    one = [f"{log(unigrams[word]) if word in unigrams else '-99'} {word} {back_off((word,), bigrams)}" for word in words]
    two = [
        f"{log(kept[word])} {context[0]} {word} {back_off((*context, word), trigrams)}"
        for context, (kept, _) in sorted(bigrams.items())
        for word in sorted(kept)
    ]
    three = [f"{log(kept[word])} {' '.join(context)} {word}" for context, (kept, _) in sorted(trigrams.items()) for word in sorted(kept)]
    sizes = [f"ngram {order}={len(lines)}" for order, lines in ((1, one), (2, two), (3, three))]
    return "\n".join(["\\data\\", *sizes, "", "\\1-grams:", *one, "", "\\2-grams:", *two, "", "\\3-grams:", *three, "", "\\end\\", ""])


class Nearest:
    """Finds the phrase that sounds most like what was heard. `pronunciations`: word -> phonemes ("W AH T")."""

    def __init__(self, phrases: Sequence[str], pronunciations: Mapping[str, str]) -> None:
        self._pronunciations = pronunciations
        self._letters: dict[str, str] = {}
        self._phrases = [(phrase, self._sound(phrase)) for phrase in phrases]

    def find(self, heard: str) -> tuple[str, float]:
        """(the nearest phrase, its distance: 0 the same .. 1 nothing in common); ("", 1.0) for silence."""
        sound = self._sound(heard)
        if not sound:
            return "", 1.0
        best, least = "", 1.0
        for phrase, own in self._phrases:
            longest = max(len(sound), len(own))
            edits = Levenshtein.distance(sound, own, score_cutoff=int(least * longest))
            if edits / longest < least:
                best, least = phrase, edits / longest
        return best, least

    def _sound(self, words: str) -> str:
        # One character per phoneme, so that a fast string distance can be used.
        phonemes = [phoneme for word in words.split() for phoneme in self._pronunciations.get(word, "").split()]
        return "".join(self._letters.setdefault(phoneme, chr(0x100 + len(self._letters))) for phoneme in phonemes)
