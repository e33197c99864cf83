"""Short ready-made sounds: the chime that says "your turn", computed rather than shipped, or a sound file of the user's
own.

Not a music player (that streams, through the speaker). A clip is a second or so; it is decoded and encoded once per
format and kept. Pure computation: it may run in the inference pool, and should when the source is a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from xiaozhi.audio.opus import Encoder

Decode = Callable[[bytes, int], bytes]
"""(a whole sound file of any known container, Hz) -> s16le mono PCM at that rate; raises ValueError.
`audio.decode.decode_file`."""

# Two notes a fourth apart, rising: (Hz, when it begins, s).
_NOTES: Final = ((987.77, 0.0), (1318.51, 0.11))
_CHIME_S: Final = 0.42
_ATTACK_S: Final = 0.005
_DECAY_S: Final = 0.09
_FADE_S: Final = 0.03
# Of full scale: clearly heard after speech, never startling.
_LEVEL: Final = 0.22
# Overtones, relative to the fundamental, that make a sine sound like a small bell.
_OVERTONES: Final = ((1, 1.0), (2, 0.25), (3, 0.08))
_MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_MAX_CLIP_S: Final = 10
_MAX_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class ClipFormat:
    """What a device plays: "opus" or "pcm" (s16le), mono, Hz, and ms per frame."""

    format: str = "opus"
    sample_rate: int = 24_000
    frame_ms: int = 60


def chime(sample_rate: int = 24_000) -> bytes:
    """The built-in chime as s16le mono PCM: two soft bell notes, 0.42 s, beginning and ending in silence."""
    time = np.arange(int(_CHIME_S * sample_rate)) / sample_rate
    wave = np.zeros_like(time)
    for pitch, begins in _NOTES:
        since = np.clip(time - begins, 0.0, None)
        envelope = np.minimum(since / _ATTACK_S, 1.0) * np.exp(-since / _DECAY_S)
        for multiple, strength in _OVERTONES:
            if pitch * multiple < sample_rate / 2:
                wave += strength * envelope * np.sin(2 * np.pi * pitch * multiple * since)
    wave *= np.minimum((_CHIME_S - time) / _FADE_S, 1.0) * (_LEVEL / np.abs(wave).max())
    return (wave * 32_767).astype("<i2").tobytes()


def load(path: Path, sample_rate: int, decode: Decode) -> bytes:
    """A sound file (wav, mp3, ...) as s16le mono PCM, at most 10 s of it. Raises OSError, ValueError."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"{path.name}: larger than {_MAX_FILE_BYTES} bytes")
    pcm = decode(path.read_bytes(), sample_rate)
    if not pcm:
        raise ValueError(f"{path.name}: no sound in it")
    return pcm[: _MAX_CLIP_S * sample_rate * 2]


def to_frames(pcm: bytes, form: ClipFormat) -> tuple[bytes, ...]:
    """PCM at the format's rate as whole frames, the last one filled up with silence."""
    if form.format == "pcm":
        size = form.sample_rate * form.frame_ms // 1000 * 2
        return tuple(pcm[start : start + size].ljust(size, b"\0") for start in range(0, len(pcm), size))
    encoder = Encoder(form.sample_rate, form.frame_ms)
    return tuple(encoder.encode(pcm) + encoder.flush())


class Clips:
    """Frames of clips by source and format, made once. Shared by all devices."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._kept: dict[tuple[str, ClipFormat], tuple[bytes, ...]] = {}

    def frames(self, source: str, form: ClipFormat) -> tuple[bytes, ...]:
        """The frames of the sound file `source`, or of the built-in chime when it is "". Raises OSError, ValueError."""
        key = (source, form)
        frames = self._kept.get(key)
        if frames is None:
            pcm = load(Path(source), form.sample_rate, self._decode) if source else chime(form.sample_rate)
            frames = to_frames(pcm, form)
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()  # a handful of clips and formats exist; this many means that sources keep changing
            self._kept[key] = frames
        return frames
