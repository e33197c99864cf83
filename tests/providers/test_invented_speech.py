"""What recognisers invent for noise is refused, and what somebody says is not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from xiaozhi.providers.families.invented_speech import is_invented, voiced_s

RATE = 16_000
SILENCE = np.zeros(RATE // 2, np.float32)


def vowel(seconds: float) -> npt.NDArray[np.float32]:
    """A voice of 150 to 120 Hz with eight harmonics."""
    pitch = np.linspace(150, 120, int(seconds * RATE))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = sum(np.sin(number * phase) / number for number in range(1, 9))
    return np.concatenate([SILENCE, 0.1 * wave, SILENCE]).astype(np.float32)


def noises() -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(5)
    found = {"nothing": np.zeros(100, np.float32), "silence": SILENCE}
    for size in (32, 320, 3_200, 16_000):
        sound = random.standard_normal(size) * np.exp(-np.arange(size) / size * 3)
        found[f"burst of {size} samples"] = np.concatenate([SILENCE, 0.3 * sound, SILENCE]).astype(np.float32)
    for hertz in (440, 1_000, 3_000):
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
        found[f"tone of {hertz} Hz"] = np.concatenate([SILENCE, tone, SILENCE]).astype(np.float32)
    return found


@pytest.mark.parametrize("name", noises())
def test_you_is_not_in_a_noise(name: str) -> None:
    assert is_invented("You.", noises()[name])
    assert not is_invented("You are late.", noises()[name])


def test_a_voice_may_say_you() -> None:
    assert not is_invented("You", vowel(0.3))
    assert voiced_s(vowel(0.3)) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("text", ["♪♪", "♪ ♪ ♪\ufffd", "Oh, oh, oh, oh, oh"])
def test_music_notes_are_nobodys_words(text: str) -> None:
    assert is_invented(text, vowel(1.0))


@pytest.mark.parametrize("text", ["", "Yes.", "好", "no no no no"])
def test_other_words_stay(text: str) -> None:
    assert not is_invented(text, SILENCE)
