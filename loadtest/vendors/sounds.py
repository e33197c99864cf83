"""Speech-like sound for scripted vendors, prepared once: synthesised in a second, encoded once per format and length,
then only sliced.

Not speech: a harmonic hum with syllables and pauses, enough energy and structure for a voice detector, an encoder and a
human ear to take it seriously."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np

SAMPLE_RATE = 24_000
LONGEST_S = 30.0
SYLLABLE_S = 0.18
"""How long one character is spoken, about the pace of Mandarin."""
STEP_S = 0.25
"""Lengths are rounded to this, so that few bodies cover all texts."""

FORMATS = {"wav": "audio/wav", "pcm": "audio/pcm", "mp3": "audio/mpeg", "opus": "audio/ogg"}


class Sounds:
    """Bodies of every format and length, made on first use and kept."""

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        self.sample_rate = sample_rate
        self._master = hum(LONGEST_S, sample_rate)
        self._made: dict[tuple[str, int], bytes] = {}

    def seconds_for(self, text: str) -> float:
        """How long `text` takes to say: proportional to its characters, words in Latin letters counting less."""
        weight = sum(1.0 if ord(character) > 0x2E80 else 0.35 for character in text if character.isalnum())
        return min(LONGEST_S, max(STEP_S, STEP_S * round(weight * SYLLABLE_S / STEP_S)))

    def body(self, form: str, seconds: float) -> bytes:
        """`seconds` of sound as the body of an HTTP answer in `form`: wav, pcm (s16le mono), mp3 or opus (Ogg)."""
        key = form, round(seconds / STEP_S)
        body = self._made.get(key)
        if body is None:
            pcm = self._master[: round(seconds * self.sample_rate) * 2]
            body = self._made[key] = self._encode(form, pcm)
        return body

    def prepare(self, *forms: str, longest: float = 10.0) -> None:
        """Make every length up to `longest` seconds in these formats now rather than under load."""
        for form in forms:
            for step in range(1, round(longest / STEP_S) + 1):
                self.body(form, step * STEP_S)

    def _encode(self, form: str, pcm: bytes) -> bytes:
        if form == "pcm":
            return pcm
        if form == "wav":
            return wav(pcm, self.sample_rate)
        if form == "mp3":
            return _through_av(pcm, self.sample_rate, "mp3", "libmp3lame")
        if form == "opus":
            return _through_av(
                pcm, self.sample_rate, "ogg", "libopus", page_duration="200000"
            )  # us: as a streaming vendor would
        raise ValueError(f"no such format: {form!r}")


def hum(seconds: float, sample_rate: int = SAMPLE_RATE) -> bytes:
    """Speech-like s16le mono PCM: a gliding pitch with harmonics, about five syllables a second, a pause every
    eight."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = 140 + 25 * np.sin(2 * np.pi * 0.6 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voice = sum(np.sin(phase * harmonic) / harmonic for harmonic in range(1, 9))
    syllable = t / SYLLABLE_S
    envelope = np.sin(np.pi * (syllable % 1.0)) ** 0.7 * (np.floor(syllable) % 8 < 7)
    return (voice * envelope * 7000).astype("<i2").tobytes()


def wav(pcm: bytes, sample_rate: int, *, size: int | None = None) -> bytes:
    """A RIFF file around s16le mono PCM; `size` overrides the sizes in the header, as streaming vendors do
    (0xFFFFFFFF)."""
    data = len(pcm) if size is None else size
    riff = min(0xFFFFFFFF, data + 36)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        sample_rate,
        sample_rate * 2,
        2,
        16,
        b"data",
        data,
    )
    return head + pcm


def _through_av(pcm: bytes, sample_rate: int, container: str, codec: str, **options: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options) as target:
        stream: Any = target.add_stream(codec, rate=sample_rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = sample_rate
        # Encoders take their own frame size and sample format.
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=sample_rate, frame_size=0)
        fifo = av.AudioFifo()
        for piece in resampler.resample(frame) + resampler.resample(None):
            piece.pts = None
            fifo.write(piece)
        size = stream.codec_context.frame_size or 1024
        while (whole := fifo.read(size, partial=False)) is not None:
            target.mux(stream.encode(whole))
        if (rest := fifo.read(0, partial=True)) is not None:
            target.mux(stream.encode(rest))
        target.mux(stream.encode(None))
    return out.getvalue()
