"""After how much silence an utterance ends, by what witnesses of a pause say: the last words, and the sound.

Pure. A witness gives a score from -1 (more is to come) to 1 (that was all). It can only move the silence between
bounds: the plain silence, which is the voice detector's, becomes shorter when the speaker has surely finished, longer
when surely not, and stays as it is when a witness is unsure, late, or contradicted by another one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SURE: Final = 0.9
"""A score from here up says "finished", from -SURE down "not finished"; what lies between says nothing."""


@dataclass(frozen=True, slots=True)
class SilenceBounds:
    """How far a silence may be moved, ms. A plain silence outside of them is not moved towards them."""

    min_ms: float = 250.0
    max_ms: float = 1_500.0


def silence_needed(plain_ms: float, bounds: SilenceBounds, scores: Iterable[float]) -> float:
    """ms of silence that end the utterance."""
    finished = unfinished = False
    for score in scores:
        finished |= score >= SURE
        unfinished |= score <= -SURE
    if finished == unfinished:
        return plain_ms
    return min(plain_ms, bounds.min_ms) if finished else max(plain_ms, bounds.max_ms)


def score_of(probability: float, sure: float, unsure: float) -> float:
    """The score of a model that says "finished" from the probability `sure` up and "not finished" from `unsure`
    down."""
    return 1.0 if probability >= sure else -1.0 if probability <= unsure else 0.0
