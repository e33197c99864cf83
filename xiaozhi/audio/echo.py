"""Acoustic echo cancelling: what a loudspeaker plays is taken out of what the microphone beside it hears. WebRTC's AEC3
by the package pywebrtc-audio; https://github.com/strands-labs/pywebrtc-audio.

It finds the delay of the echo by itself, from 0 to `MAX_DELAY_MS` (measured: at 500 ms it cancels as at 40, at 600 ms
not at all), but never an echo that comes before its reference. To align the two well enough for that is its caller's
business."""

from __future__ import annotations

from typing import Final

import numpy as np

SAMPLE_RATE: Final = 16_000
"""Hz, of everything here."""
MAX_DELAY_MS: Final = 500
"""The longest delay of an echo behind its reference."""


def likeness(sound: bytes, played: bytes) -> float:
    """How much `sound` is like the part of `played` (longer, it reaches further back) that it resembles most: 0..1, the
    highest normalised cross-correlation. Both s16le mono at 16 kHz. What is below some hundred Hz counts less: it is
    alike in all voices. Costs 1 ms for half a second."""
    near = np.diff(np.frombuffer(sound, dtype="<i2").astype(np.float32))
    far = np.diff(np.frombuffer(played, dtype="<i2").astype(np.float32))
    if len(near) == 0 or len(far) < len(near):
        return 0.0
    size = 1 << (len(far) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(far, size) * np.fft.rfft(near, size).conj(), size)[: len(far) - len(near) + 1]
    sums = np.concatenate(([0.0], np.cumsum(far.astype(np.float64) ** 2)))
    powers = (sums[len(near) :] - sums[: len(far) - len(near) + 1]) * float(np.dot(near, near))
    # Parts of next to no power would be like anything.
    return float(np.max(np.abs(products) / np.sqrt(powers + powers.max() / 100 + 1.0)))


class Aec3:
    """One microphone with one loudspeaker. Holds 0.4 MB; a second of sound costs 8 ms of CPU, without the GIL. One
    thread at a time."""

    def __init__(self) -> None:
        # Loaded by the first device that needs it, in a millisecond.
        from pywebrtc_audio import EchoCanceller

        self._native = EchoCanceller(SAMPLE_RATE, 1)

    def cancel(self, microphone: bytes, loudspeaker: bytes) -> bytes:
        """The microphone's sound without the echo. All are s16le mono at 16 kHz and of the same length, any whole
        number of samples; pieces follow each other. Raises ValueError for lengths that differ."""
        near, far = np.frombuffer(microphone, dtype="<i2"), np.frombuffer(loudspeaker, dtype="<i2")
        cleaned: bytes = self._native.process(near, far).tobytes()
        return cleaned
