"""Sound as s16le mono PCM: resampling and mixing down. Pure functions and one streaming object.

Not a codec and not a decision about what is speech (`speech/segmenter.py`). "PCM" means signed 16-bit little-endian
samples, one channel, unless a function says otherwise."""

from __future__ import annotations

import io
import wave
from typing import Final

import numpy as np
import soxr

BYTES_PER_SAMPLE: Final = 2


def wav_file(pcm: bytes, rate: int) -> bytes:
    """PCM as a WAV file. Source: RFC 2361, "Multimedia Programming Interface and Data Specifications 1.0"."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(BYTES_PER_SAMPLE)
        sound.setframerate(rate)
        sound.writeframes(pcm)
    return file.getvalue()


def to_mono(pcm: bytes, channels: int) -> bytes:
    """The mean of interleaved channels; an incomplete last frame is dropped. Raises ValueError unless `channels` >=
    1."""
    if channels < 1:
        raise ValueError(f"{channels} channels")
    if channels == 1:
        return pcm
    frames = len(pcm) // (BYTES_PER_SAMPLE * channels)
    samples = np.frombuffer(pcm, dtype="<i2", count=frames * channels).reshape(frames, channels)
    mono: bytes = samples.mean(axis=1).round().astype("<i2").tobytes()
    return mono


def power(pcm: bytes) -> float:
    """The mean square of its samples; 0 for none."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    return float(np.dot(samples, samples)) / len(samples) if len(samples) else 0.0


class Resampler:
    """A stream of PCM at `source` Hz -> the same stream at `target` Hz (soxr, band-limited); passes through when they
    are equal.

    `quality` is soxr's name: "LQ", "MQ", "HQ" or "VHQ". The default keeps everything speech has: LQ and MQ were not
    measurably cheaper."""

    def __init__(self, source: int, target: int, *, quality: str = "HQ") -> None:
        if source <= 0 or target <= 0:
            raise ValueError(f"sample rates {source} and {target}")
        self.source = source
        self.target = target
        self._quality = quality
        self._half = b""
        self._stream = self._open()

    def _open(self) -> soxr.ResampleStream | None:
        if self.source == self.target:
            return None
        return soxr.ResampleStream(self.source, self.target, 1, dtype="int16", quality=self._quality)

    def feed(self, pcm: bytes) -> bytes:
        """What comes out for `pcm` (any number of bytes; half a sample waits). A few ms stay inside until more comes or
        `flush`."""
        return self._through(pcm, last=False)

    def flush(self) -> bytes:
        """The rest; afterwards a new stream begins."""
        rest = self._through(b"", last=True)
        self.reset()
        return rest

    def reset(self) -> None:
        """Forget the past and what stays inside."""
        self._half = b""
        self._stream = self._open()

    def _through(self, pcm: bytes, *, last: bool) -> bytes:
        data = self._half + pcm if self._half else pcm
        whole = len(data) - len(data) % BYTES_PER_SAMPLE
        self._half = data[whole:]
        if self._stream is None:
            return data[:whole]
        samples = np.frombuffer(data, dtype="<i2", count=whole // BYTES_PER_SAMPLE)
        out: bytes = self._stream.resample_chunk(samples, last=last).astype("<i2", copy=False).tobytes()
        return out
