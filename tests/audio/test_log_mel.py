"""The spectrogram against values of another implementation (that of faster-whisper 1.2.1, which gave the same to the
last digit of float32 for 7 s of noise and silence)."""

from __future__ import annotations

import numpy as np
import pytest

from xiaozhi.audio.log_mel import BANDS, HOP, RATE, log_mel, mel_filters


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Half as loud as can be."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def test_a_tone_of_440_hz_has_the_values_of_another_implementation() -> None:
    mel = log_mel(tone(440))

    assert mel.shape == (BANDS, 100)
    assert mel[:12, 50] == pytest.approx([-0.5618] * 9 + [1.1594, 1.3487, 1.4382], abs=1e-4)
    assert float(mel.sum()) == pytest.approx(-3595.37, abs=0.05)


def test_silence_that_is_only_counted_is_silence_that_is_heard() -> None:
    heard = log_mel(np.concatenate([tone(300), np.zeros(5 * RATE, np.float32)]))

    assert log_mel(tone(300), frames=600) == pytest.approx(heard, abs=1e-5)


def test_no_more_frames_than_there_is_sound() -> None:
    assert log_mel(tone(300), frames=20).shape == (BANDS, 100)
    assert log_mel(np.zeros(3 * HOP, np.float32)) == pytest.approx(np.full((BANDS, 3), -1.5), abs=1e-5)


def test_a_long_sound_is_the_same_in_blocks() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 25 * RATE).astype(np.float32)

    whole, late = log_mel(noise), log_mel(noise[15 * RATE :])

    assert whole.shape == (BANDS, 2_500)
    assert whole[:, 1_510:2_490] == pytest.approx(late[:, 10:990], abs=1e-3)


def test_the_filters_are_triangles_of_equal_area() -> None:
    filters = mel_filters()

    assert filters.shape == (BANDS, 201) and filters.min() == 0
    assert (filters.max(axis=1) > 0).all()
    assert filters.sum() == pytest.approx(2.0, abs=0.05)
