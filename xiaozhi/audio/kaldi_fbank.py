"""Kaldi's filter bank features ("fbank"), in numpy. Pure.

16 kHz, frames of 25 ms every 10 ms that lie whole within the sound, mean removed, pre-emphasis 0.97, Povey's window,
512 points, 80 triangles on the mel scale from 20 to 8,000 Hz, natural logarithm; no dither. Source: kaldi-asr/kaldi,
feat/feature-fbank.cc, feature-window.cc and mel-computations.cc."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

RATE = 16_000
FRAME = 400
STEP = 160
BANDS = 80

Samples = npt.NDArray[np.float32]

_POINTS = 512
_LOWEST_HZ, _HIGHEST_HZ = 20.0, 8_000.0
_EMPHASIS = np.float32(0.97)
_FLOOR = np.float32(1.1920929e-07)
_BLOCK = 250
"""Frames transformed at once: no call keeps the interpreter's lock for more than a millisecond."""


def fbank(samples: Samples) -> Samples:
    """`samples`: -1..1 at 16 kHz, at least FRAME of them -> (frames, BANDS)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::STEP]
    found = np.empty((len(frames), BANDS), np.float32)
    window, triangles = _window(), _triangles()
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK]
        block = block - block.mean(axis=1, keepdims=True)
        before = np.concatenate([block[:, :1], block[:, :-1]], axis=1)
        spectrum = np.fft.rfft((block - _EMPHASIS * before) * window, _POINTS)[:, : _POINTS // 2]
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        found[start : start + _BLOCK] = np.log(np.maximum(power @ triangles, _FLOOR))
    return found


@cache
def _triangles() -> Samples:
    """(_POINTS / 2, BANDS)."""
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), BANDS + 2)
    bins = _mel(np.arange(_POINTS // 2) * RATE / _POINTS)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    found: Samples = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return found


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1_127 * np.log1p(np.asarray(hertz, np.float64) / 700)


@cache
def _window() -> Samples:
    window: Samples = (np.hanning(FRAME) ** 0.85).astype(np.float32)
    return window
