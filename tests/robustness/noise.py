"""Sound that is none: what broken microphones, codecs and firmware send where Opus of speech belongs. Seeded."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import soxr

from loadtest.simulator import opus
from loadtest.simulator.speech import SAMPLE_RATE, Speech


def white(seconds: float, rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    """White noise, s16le, loud."""
    samples = np.random.default_rng(7).normal(0, 6000, int(seconds * rate) * channels)
    return samples.clip(-32768, 32767).astype("<i2").tobytes()


def encoded(pcm: bytes, frame_ms: float, rate: int = SAMPLE_RATE, channels: int = 1) -> list[bytes]:
    """s16le PCM as Opus packets of any legal length."""
    return opus.encode(pcm, frame_ms, sample_rate=rate, channels=channels, bits_per_s=64_000)


def stereo_48k(words: Speech, frame_ms: float = 60) -> list[bytes]:
    """Speech as a browser sends it: 48 kHz, two channels."""
    mono = soxr.resample(np.frombuffer(words.pcm, "<i2"), SAMPLE_RATE, 48_000)
    return encoded(np.repeat(mono, 2).astype("<i2").tobytes(), frame_ms, 48_000, 2)


def hurt(packets: Sequence[bytes], seed: int) -> list[bytes]:
    """Packets with bits turned over, cut short, doubled, out of order."""
    chance = random.Random(seed)
    made = []
    for packet in packets:
        data = bytearray(packet)
        match chance.randrange(4):
            case 0:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case 1:
                del data[chance.randrange(1, len(data)) :]
            case 2:
                data.extend(packet)
            case _:
                made.insert(chance.randrange(len(made) + 1), bytes(data))
        made.append(bytes(data))
    return made


def kinds(words: Speech) -> dict[str, list[bytes]]:
    """Name -> payloads of binary frames, none longer than is allowed."""
    chance = random.Random(5)
    return {
        "random bytes": [chance.randbytes(chance.randrange(1, 400)) for _ in range(200)],
        "one byte": [bytes((value,)) for value in range(256)],
        "white noise": encoded(white(3), 60),
        "white noise in 120 ms": encoded(white(3), 120),
        "white noise in 2.5 ms": encoded(white(0.5), 2.5),
        "white noise, 48 kHz stereo": encoded(white(3, 48_000, 2), 60, 48_000, 2),
        "hurt speech": hurt(words.packets(), 3),
        "silence": encoded(bytes(SAMPLE_RATE), 60),
        "PCM": [white(0.5)[at : at + 1920] for at in range(0, 16_000, 1920)],
        "empty": [b""] * 50,
        "large": [chance.randbytes(16_384) for _ in range(5)],
    }
