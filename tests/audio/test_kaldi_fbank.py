"""Kaldi's filter bank, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from xiaozhi.audio.kaldi_fbank import BANDS, FRAME, RATE, STEP, fbank


def mel(hertz: float) -> float:
    return float(1_127 * np.log(1 + hertz / 700))


def test_frames_lie_whole_within_the_sound() -> None:
    sound = np.random.default_rng(1).standard_normal(FRAME + 2 * STEP + STEP - 1).astype(np.float32)

    assert fbank(sound).shape == (3, BANDS)
    assert fbank(sound[:FRAME]).shape == (1, BANDS)
    assert np.allclose(fbank(sound)[1], fbank(sound[STEP:])[0], atol=1e-5)
    long = np.tile(sound, 80)
    assert np.allclose(fbank(long)[300], fbank(long[300 * STEP :])[0], atol=1e-4), "what is computed in pieces"


@pytest.mark.parametrize("hertz", [200.0, 1_000.0, 5_000.0])
def test_a_tone_is_in_the_band_of_its_pitch(hertz: float) -> None:
    tone = (0.1 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.float32)
    edges = np.linspace(mel(20), mel(8_000), BANDS + 2)

    loudest = int(fbank(tone)[50].argmax())

    assert edges[loudest] <= mel(hertz) <= edges[loudest + 2]


def test_one_frame_is_what_the_definition_says() -> None:
    frame = np.random.default_rng(3).standard_normal(FRAME)
    even = frame - frame.mean()
    sharp = even - 0.97 * np.concatenate([even[:1], even[:-1]])
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / (FRAME - 1))) ** 0.85
    power = np.abs(np.fft.rfft(sharp * window, 512)) ** 2
    edges = np.linspace(mel(20), mel(8_000), BANDS + 2)
    expected = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        energy = 0.0
        for bin_, each in enumerate(power[:256]):
            place = mel(bin_ * RATE / 512)
            if low < place < high:
                energy += each * (
                    (place - low) / (middle - low) if place <= middle else (high - place) / (high - middle)
                )
        expected.append(np.log(max(energy, 1.1920929e-07)))

    assert fbank(frame.astype(np.float32))[0] == pytest.approx(expected, abs=1e-3)


def test_silence_is_the_floor() -> None:
    assert fbank(np.zeros(FRAME, np.float32)) == pytest.approx(np.log(1.1920929e-07))
