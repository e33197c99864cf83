"""After how much silence an utterance ends, by what witnesses of a pause say: the last words, and the sound.

Pure. What each witness says is weighed as evidence: the logarithm of how much more often it is said at ends than at
pauses (above 0: that was all; below: more is to come). The two are added up, and the sum moves the silence between
bounds: the plain silence, which is the voice detector's, is multiplied, by less than 1 the surer it is that the speaker
has finished, by more the surer it is that more is to come. It stays as it is when the witnesses are unsure, late, or
contradict each other.

The weights come from recordings of people who pause (`python -m loadtest.bench --only endpointing`,
docs/performance.md), and are judged by other recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

_SHORTEST_PART: Final = 0.42
"""Of the plain silence: who set a long one has slow speakers."""
_END, _PAUSE = 1.2, 2.3
"""The evidence in words that surely close (score 1), and in words that surely open (score -1)."""
_NEUTRAL: Final = 0.9
"""The probability at which a model says nothing: it takes many a pause for an end."""
_PER_NAT_ABOVE, _PER_NAT_BELOW = 0.85, 0.27
"""What a model's log-odds count, from there on."""
_MOST: Final = 2.0
_BY_WORDS, _BY_BOTH = 0.75, 0.33
"""How far evidence moves the silence. Words alone have to do what they can: they know few degrees, and an answer that
waits in spite of a question mark is late. Where the sound is heard as well, a gentle slope makes fewer mistakes."""


@dataclass(frozen=True, slots=True)
class SilenceBounds:
    """How far a silence may be moved, ms. A plain silence outside of them is not moved towards them."""

    min_ms: float = 250.0
    max_ms: float = 1_500.0


def silence_needed(plain_ms: float, bounds: SilenceBounds, words: float, probability: float | None = None) -> float:
    """ms of silence that end the utterance. `words`: -1..1, as `last_words.py` scores them. `probability`: of a model
    that hears how likely it is (0..1) that the speaker has finished; None: nobody has heard it."""
    evidence = words * (_END if words > 0 else _PAUSE)
    if probability is None:
        moved = evidence * _BY_WORDS
    else:
        moved = (evidence + evidence_of(probability)) * _BY_BOTH
    shortest_ms = min(plain_ms, max(bounds.min_ms, plain_ms * _SHORTEST_PART))
    return min(max(plain_ms * math.exp(-moved), shortest_ms), max(plain_ms, bounds.max_ms))


def evidence_of(probability: float) -> float:
    """What a model says, as evidence."""
    sure = min(max(probability, 1e-9), 1 - 1e-9)
    nats = math.log(sure / (1 - sure)) - math.log(_NEUTRAL / (1 - _NEUTRAL))
    return max(-_MOST, min(_MOST, nats * (_PER_NAT_ABOVE if nats > 0 else _PER_NAT_BELOW)))
