"""After how much silence an utterance ends, by what witnesses of a pause say: the last words, and the sound.

Pure. Each witness gives a score from -1 (more is to come) to 1 (that was all), and the scores are added up. The sum
moves the silence between bounds, in proportion: the plain silence, which is the voice detector's, becomes shorter the
surer it is that the speaker has finished, longer the surer it is that more is to come, and stays as it is when the
witnesses are unsure, late, or contradict each other.

The weights and limits come from recordings of people who pause (`python -m loadtest.bench --only endpointing`,
docs/performance.md), and are judged by other recordings: at an equal mean delay of 600 ms the words alone cut off half
as many speakers as plain silence does in English and two thirds in Chinese, words and sound together a third and
half."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FINISHED: Final = 0.9
"""From this sum up the silence is the shortest; from 0 to it, in proportion."""
_SHORTEST_PART: Final = 0.42
"""Of the plain silence: who set a long one has slow speakers."""
_NEUTRAL: Final = 0.9
"""The probability at which a model says nothing: it takes many a pause for an end."""
_PER_NAT_ABOVE, _PER_NAT_BELOW = 0.5, 0.2
"""What a model's log-odds count, from there on."""


@dataclass(frozen=True, slots=True)
class SilenceBounds:
    """How far a silence may be moved, ms. A plain silence outside of them is not moved towards them."""

    min_ms: float = 250.0
    max_ms: float = 1_500.0


def silence_needed(plain_ms: float, bounds: SilenceBounds, score: float) -> float:
    """ms of silence that end the utterance, by the sum of the scores."""
    if score < 0:
        return plain_ms + (max(plain_ms, bounds.max_ms) - plain_ms) * min(1.0, -score)
    shortest_ms = min(plain_ms, max(bounds.min_ms, plain_ms * _SHORTEST_PART))
    return plain_ms - (plain_ms - shortest_ms) * min(1.0, score / FINISHED)


def score_of(probability: float) -> float:
    """The score of a model that says how likely it is (0..1) that the speaker has finished."""
    sure = min(max(probability, 1e-9), 1 - 1e-9)
    nats = math.log(sure / (1 - sure)) - math.log(_NEUTRAL / (1 - _NEUTRAL))
    return max(-1.0, min(1.0, nats * (_PER_NAT_ABOVE if nats > 0 else _PER_NAT_BELOW)))
