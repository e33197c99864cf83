"""What recognisers write for sound that is no speech: Moonshine hears "You" in clicks, knocks and tones, with a
confidence of 0.6 to 0.98, and music notes in hum and typing."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt

INVENTED: Final = frozenset(("you", "oh", "ah"))
LEAST_VOICED_S: Final = 0.1
_FRAME, _HOP = 512, 160
_LAGS: Final = slice(40, 230)
"""Samples at 16 kHz: 400 to 70 Hz, the pitch of a voice."""
_LEAST_PERIODIC: Final = 0.5
_MOST_OF_ONE: Final = 0.93
"""Share of the energy in one place of the spectrum; a tone has more, a vowel has several harmonics."""
_LEAST_RMS: Final = 0.003
_SAME: Final = 4

Samples = npt.NDArray[np.float32]


def is_invented(text: str, samples: Samples) -> bool:
    """Whether nobody said `text` (`samples`: -1..1 at 16 kHz): it has no word, repeats one over and over, or is a known
    invention and the sound is too short for a voice."""
    words = re.findall(r"\w+", text.lower())
    if not words:
        return bool(text)
    if len(words) >= _SAME and len(set(words)) == 1:
        return words[0] in INVENTED
    return len(words) == 1 and words[0] in INVENTED and voiced_s(samples) < LEAST_VOICED_S


def voiced_s(samples: Samples) -> float:
    """Seconds that have the pitch of a voice and more than one harmonic."""
    if len(samples) < _FRAME:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    loud = np.sqrt((frames**2).mean(axis=1))
    frames = frames[loud > max(_LEAST_RMS, 0.1 * float(loud.max()))]
    if not len(frames):
        return 0.0
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, 2 * _FRAME)) ** 2
    alike = np.fft.irfft(power)[:, :_FRAME]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_FRAME), 2 * _FRAME)) ** 2)[:_FRAME]
    alike /= window / window[0]
    periodic = alike[:, _LAGS].max(axis=1) / np.maximum(alike[:, 0], 1e-9)
    place = power.argmax(axis=1)
    near = np.abs(np.arange(power.shape[1]) - place[:, None]) <= 4
    of_one = (power * near).sum(axis=1) / np.maximum(power.sum(axis=1), 1e-9)
    return float(((periodic > _LEAST_PERIODIC) & (of_one < _MOST_OF_ONE)).sum()) * _HOP / 16_000
