"""The echo canceller's wrapper: shapes, and that an echo goes while a voice stays."""

from __future__ import annotations

import numpy as np
import pytest

from xiaozhi.audio.echo import Aec3, likeness

RATE = 16_000


def noise(seconds: float, seed: int) -> np.ndarray:
    """Sound that comes and goes, as speech does."""
    samples = np.random.default_rng(seed).standard_normal(int(seconds * RATE)) * 2_000
    return samples * (np.sin(np.arange(len(samples)) / 3_000) > -0.3)


def through(microphone: np.ndarray, loudspeaker: np.ndarray) -> np.ndarray:
    aec, out = Aec3(), []
    for at in range(0, len(microphone), 960):
        pieces = [sound[at : at + 960].astype("<i2").tobytes() for sound in (microphone, loudspeaker)]
        out.append(aec.cancel(*pieces))
        assert len(out[-1]) == len(pieces[0])
    return np.frombuffer(b"".join(out), "<i2").astype(float)


@pytest.mark.parametrize("delay_ms", [40, 300])
def test_an_echo_goes(delay_ms: int) -> None:
    played = noise(4, 1)
    echo = 0.5 * np.concatenate([np.zeros(delay_ms * 16), played])[: len(played)]

    left = through(echo, played)

    assert np.mean(left[-RATE:] ** 2) < np.mean(echo[-RATE:] ** 2) / 100, "20 dB at least"


def test_a_voice_stays_where_nothing_is_played() -> None:
    voice = noise(2, 2)

    left = through(voice, np.zeros(len(voice)))

    assert np.mean(left[-RATE:] ** 2) > np.mean(voice[-RATE:] ** 2) / 4


def test_both_have_the_same_length() -> None:
    with pytest.raises(ValueError):
        Aec3().cancel(bytes(1_920), bytes(960))


def test_an_echo_is_like_what_was_played_wherever_it_lies_and_a_voice_is_not() -> None:
    played = noise(1, 3)
    echo = 0.3 * played[4_000:7_000]

    def as_bytes(sound: np.ndarray) -> bytes:
        return sound.astype("<i2").tobytes()

    assert likeness(as_bytes(echo), as_bytes(played)) > 0.95
    assert likeness(as_bytes(noise(1, 4)[:3_000]), as_bytes(played)) < 0.2
    both = likeness(as_bytes(echo + 0.3 * noise(1, 4)[4_000:7_000]), as_bytes(played))
    assert 0.5 < both < 0.85
    assert likeness(as_bytes(echo), bytes(16_000)) == 0
    assert likeness(b"", as_bytes(played)) == likeness(as_bytes(played), b"") == 0
