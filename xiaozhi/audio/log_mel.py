"""The log-mel spectrogram that Whisper and Smart Turn hear, in numpy. Pure.

As openai/whisper's `audio.py`: 16 kHz, windows of 25 ms (Hann, periodic) every 10 ms with reflected ends, 80 mel bands
by Slaney's scale and norm, logarithm to base 10, floor 8 below the highest, then (x + 4) / 4."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

RATE = 16_000
WINDOW = 400
HOP = 160
BANDS = 80

Samples = npt.NDArray[np.float32]
_FLOOR = np.float32(1e-10)
_BLOCK = 250
"""Frames transformed at once: no call keeps the interpreter's lock for more than a millisecond."""


def log_mel(samples: Samples, frames: int = 0) -> Samples:
    """`samples`: -1..1 at 16 kHz, at least 201 of them -> (80, len // 160). `frames`: as many, where that is more: as
    if silence followed, at no cost."""
    heard = len(samples) // HOP
    if frames > heard:
        samples = np.pad(samples, (0, WINDOW))
        heard = min(frames, len(samples) // HOP)
    padded = np.pad(samples, WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:heard]
    filters, window = mel_filters(), _window()
    mel = np.full((BANDS, max(frames, heard)), _FLOOR, np.float32)
    for start in range(0, heard, _BLOCK):
        spectrum = np.fft.rfft(windows[start : start + _BLOCK] * window)
        power = spectrum.real**2 + spectrum.imag**2
        mel[:, start : min(start + _BLOCK, heard)] = filters @ power.T
    np.maximum(mel, _FLOOR, out=mel)
    np.log10(mel, out=mel)
    np.maximum(mel, mel.max(initial=-10) - np.float32(8), out=mel)
    mel += np.float32(4)
    mel *= np.float32(0.25)
    return mel


@cache
def mel_filters() -> Samples:
    """(80, 201): triangles that are even on the mel scale, of equal area. Source: Slaney's Auditory Toolbox."""
    edges = _hertz(np.linspace(_mel(0.0), _mel(RATE / 2), BANDS + 2))
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    width = np.diff(edges)
    slopes = edges[:, None] - bins[None, :]
    rising = -slopes[:-2] / width[:-1, None]
    falling = slopes[2:] / width[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    found: Samples = filters.astype(np.float32)
    return found


_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1_000.0
_STEP = float(np.log(6.4) / 27)


def _mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ
    return _BREAK_HZ / _LINEAR_HZ + float(np.log(hertz / _BREAK_HZ)) / _STEP


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    broken = _BREAK_HZ / _LINEAR_HZ
    return np.where(mels < broken, mels * _LINEAR_HZ, _BREAK_HZ * np.exp(_STEP * (mels - broken)))


@cache
def _window() -> Samples:
    window: Samples = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    return window
