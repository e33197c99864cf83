"""Voices are compared by the angle between their vectors; only those of one model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xiaozhi.speech.voice_likeness import KnownVoice, VoiceSample, closest, likeness, sample_of, together


def at(degrees: float, model: str = "m", seconds: float = 1.0) -> VoiceSample:
    """A sample of two numbers, at an angle."""
    turned = math.radians(degrees)
    return sample_of(np.array([3 * math.cos(turned), 3 * math.sin(turned)], np.float32), model, seconds)


ANNA, BEN = KnownVoice("Anna", at(0)), KnownVoice("Ben", at(90))


@pytest.mark.parametrize(("degrees", "alike"), [(0, 1.0), (60, 0.5), (90, 0.0), (180, -1.0)])
def test_likeness_is_the_cosine(degrees: float, alike: float) -> None:
    assert likeness(at(0), at(degrees)) == pytest.approx(alike, abs=1e-6)


def test_what_another_model_made_cannot_be_compared() -> None:
    assert likeness(at(0), at(0, "other")) == -1.0
    assert likeness(at(0), VoiceSample("m", b"\0" * 4, 1.0)) == -1.0
    assert closest(at(0, "other"), [ANNA, BEN]) is None


@pytest.mark.parametrize(("degrees", "name"), [(10, "Anna"), (44, "Anna"), (46, "Ben"), (120, "Ben")])
def test_the_most_alike_is_found(degrees: float, name: str) -> None:
    found = closest(at(degrees), [ANNA, BEN])

    assert found is not None and found[0].name == name


def test_nobody_is_known() -> None:
    assert closest(at(0), []) is None


def test_longer_samples_count_for_more() -> None:
    mixed = together([at(0, seconds=3.0), at(90, seconds=1.0)])

    assert likeness(mixed, at(0)) > likeness(mixed, at(90)) > 0
    assert likeness(mixed, mixed) == pytest.approx(1.0) and mixed.seconds == 4.0


def test_a_vector_of_nothing_is_no_fault() -> None:
    assert likeness(sample_of(np.zeros(2, np.float32), "m", 1.0), at(0)) == 0.0
