"""Opus packets <-> s16le PCM for simulated devices, by PyAV: another way to the codec than the product's own."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np

VOICE_BITS_PER_S = 17_000
"""What libopus itself chooses for a voice at 16 kHz in frames of 60 ms."""


def encode(
    pcm: bytes,
    frame_ms: float = 60,
    *,
    sample_rate: int = 16_000,
    channels: int = 1,
    bits_per_s: int = VOICE_BITS_PER_S,
) -> list[bytes]:
    """Packets of `frame_ms` (2.5, 5, 10, 20, 40, 60 or 120); the last one is filled up with silence."""
    layout = ("mono", "stereo")[channels - 1]
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate = sample_rate
    encoder.layout = layout
    encoder.format = "s16"
    encoder.bit_rate = bits_per_s
    encoder.time_base = Fraction(1, sample_rate)
    encoder.options = {"application": "voip", "frame_duration": f"{frame_ms:g}"}
    size = 2 * channels * int(sample_rate * frame_ms / 1000)
    packets = []
    for start in range(0, len(pcm), size):
        samples = np.frombuffer(pcm[start : start + size].ljust(size, b"\0"), dtype="<i2")
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = sample_rate
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def decode(packets: Iterable[bytes], sample_rate: int) -> bytes:
    """Mono sound of `sample_rate`. Raises av.FFmpegError for what is no Opus."""
    decoder = av.AudioCodecContext.create("libopus", "r")
    resampler = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
    frames = (frame for packet in packets for frame in decoder.decode(av.Packet(packet)))
    pieces = [piece for frame in frames for piece in resampler.resample(frame)]
    pieces += resampler.resample(None) if pieces else []
    return b"".join(piece.to_ndarray().tobytes() for piece in pieces)
