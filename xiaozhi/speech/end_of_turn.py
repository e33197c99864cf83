"""After how much silence an utterance ends, by what witnesses of a pause say: the last words, and the sound.

Pure. Each witness gives a score from -1 (more is to come) to 1 (that was all), and the scores are added up. The sum
moves the silence between bounds: the plain silence, which is the voice detector's, becomes shorter the surer it is that
the speaker has finished, the longest when more is to come, and stays as it is when the witnesses are unsure, late, or
contradict each other.

The weights and limits come from recordings of people who pause (`python -m loadtest.bench --only endpointing`,
docs/performance.md). In English, at an equal mean delay of 400 to 700 ms, the words alone cut off less than half as
many speakers as plain silence does, words and sound together some 0.4: a full stop says little, and so does a voice
that falls, but both together are an end. In Chinese the words change little where nobody asks a question, and the sound
does harm: there it is off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FINISHED: Final = 0.9
"""From this sum up the silence is the shortest; from 0 to it, in proportion."""
UNFINISHED: Final = -0.5
"""From this sum down it is the longest: an answer to half a question costs more than a second of waiting."""
_PER_NAT: Final = 0.2
"""What a model's log-odds count."""


@dataclass(frozen=True, slots=True)
class SilenceBounds:
    """How far a silence may be moved, ms. A plain silence outside of them is not moved towards them."""

    min_ms: float = 250.0
    max_ms: float = 1_500.0


def silence_needed(plain_ms: float, bounds: SilenceBounds, score: float) -> float:
    """ms of silence that end the utterance, by the sum of the scores."""
    if score <= UNFINISHED:
        return max(plain_ms, bounds.max_ms)
    spare_ms = max(0.0, plain_ms - bounds.min_ms)
    return plain_ms - spare_ms * min(1.0, max(0.0, score) / FINISHED)


def score_of(probability: float) -> float:
    """The score of a model that says how likely it is (0..1) that the speaker has finished."""
    sure = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-1.0, min(1.0, _PER_NAT * math.log(sure / (1 - sure))))
