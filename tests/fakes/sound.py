"""Sound for tests: tones and silence as s16le mono PCM, and how loud something is."""

from __future__ import annotations

import array
import functools
import math
import sys

import numpy as np


@functools.cache
def tone(ms: int, sample_rate: int = 16_000, hz: float = 440.0, amplitude: int = 8000) -> bytes:
    """A sine of `ms`."""
    step = 2 * math.pi * hz / sample_rate
    return (amplitude * np.sin(step * np.arange(sample_rate * ms // 1000))).astype("<i2").tobytes()


@functools.cache
def silence(ms: int, sample_rate: int = 16_000) -> bytes:
    """Nothing, for `ms`."""
    return bytes(2 * (sample_rate * ms // 1000))


QUIETEST_DBFS = -96.0
"""What digital silence measures: below the 16-bit quantisation noise."""
FULL_SCALE = 32768.0


def loudness(pcm: bytes) -> float:
    """Root mean square, 0..32768."""
    samples = array.array("h", pcm[: len(pcm) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples)) if samples else 0.0


def energy_dbfs(pcm: bytes) -> float:
    """Mean energy (RMS) in dBFS: -96 for silence or nothing, -3 for a full-scale sine."""
    samples = np.frombuffer(pcm, dtype="<i2", count=len(pcm) // 2).astype(np.float32)
    if not samples.size:
        return QUIETEST_DBFS
    mean_square = float(np.dot(samples, samples)) / samples.size
    if mean_square <= 0:
        return QUIETEST_DBFS
    return max(QUIETEST_DBFS, 10 * math.log10(mean_square / (FULL_SCALE * FULL_SCALE)))
