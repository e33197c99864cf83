"""What a page has played, as sound that a test can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.runtime.inference import InferencePool

SAMPLE_RATE = 16_000
_SECOND = 2 * SAMPLE_RATE
_AUDIBLE = 200
"""Of 32767."""


@dataclass(frozen=True, slots=True)
class PlayedSound:
    """s16le mono of 16 kHz; sources that sounded at the same time stand behind one another."""

    pcm: bytes

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, bytes]]) -> PlayedSound:
        """From (sample rate, s16le mono) of each source."""
        pieces = [soxr.resample(np.frombuffer(pcm, dtype="<i2"), rate, SAMPLE_RATE) for rate, pcm in parts]
        return cls(b"".join(piece.astype("<i2").tobytes() for piece in pieces))

    @property
    def audible_ms(self) -> int:
        """How long it is not silent, in steps of 10 ms."""
        samples = np.abs(np.frombuffer(self.pcm, dtype="<i2").astype(np.int32))
        windows = samples[: len(samples) // 160 * 160].reshape(-1, 160)
        return int((windows.max(axis=1, initial=0) > _AUDIBLE).sum()) * 10

    @property
    def speech_ms(self) -> int:
        """How long it is speech, by the server's own voice detector."""
        pool = InferencePool(workers=1)
        pool.start()
        vad = registry.build("vad", "Ears", {"type": "silero"}, Services(pool))
        try:
            vad.warm_up()
            stream = vad.open()
            seconds = [self.pcm[start : start + _SECOND] for start in range(0, len(self.pcm), _SECOND)]
            probabilities = [probability for second in seconds for probability in stream.feed(second)]
        finally:
            vad.close()
            pool.close()
        voiced: int = sum(probability >= vad.traits.threshold for probability in probabilities)
        return voiced * vad.traits.window_samples * 1000 // SAMPLE_RATE
