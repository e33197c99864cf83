"""Whose voice it is: vectors that a model made of voices, compared. Pure.

A sample is a unit vector; two are as alike as their cosine is large. Samples of different models say nothing about each
other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_FORMAT = "<f4"


@dataclass(frozen=True, slots=True)
class VoiceSample:
    """What a voice can be known by. `vector`: float32, little endian, of length 1; no sound can be made of it.
    `seconds`: of voice that it was made of. `model`: what made it."""

    model: str
    vector: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class KnownVoice:
    """A person whose voice is kept."""

    name: str
    sample: VoiceSample


def sample_of(vector: npt.NDArray[np.float32], model: str, seconds: float) -> VoiceSample:
    """A sample of a vector of any length but 0."""
    length = float(np.linalg.norm(vector))
    return VoiceSample(model, (vector / max(length, 1e-9)).astype(_FORMAT).tobytes(), seconds)


def likeness(one: VoiceSample, other: VoiceSample) -> float:
    """-1 to 1; -1 for samples that cannot be compared."""
    if one.model != other.model or len(one.vector) != len(other.vector):
        return -1.0
    return float(np.frombuffer(one.vector, _FORMAT) @ np.frombuffer(other.vector, _FORMAT))


def closest(sample: VoiceSample, voices: Iterable[KnownVoice]) -> tuple[KnownVoice, float] | None:
    """The most alike of these voices, and how alike; None: there is none that can be compared."""
    rated = [(voice, likeness(sample, voice.sample)) for voice in voices if voice.sample.model == sample.model]
    return max(rated, key=lambda pair: pair[1], default=None)


def together(samples: Sequence[VoiceSample]) -> VoiceSample:
    """One sample of several of one voice (at least one, of one model), the longer ones counting for more."""
    weighted = [np.frombuffer(each.vector, _FORMAT) * max(each.seconds, 0.1) for each in samples]
    return sample_of(np.sum(weighted, axis=0), samples[0].model, sum(each.seconds for each in samples))
