"""Spoken words for simulated devices: text -> 16 kHz PCM -> Opus packets, made once and kept.

espeak-ng speaks. It is one global state per process, and the server under test may well use it in this very process, so
it runs in a child process here (`python -m loadtest.simulator.speech` is that child, nothing for people). API:
espeak-ng's speak_lib.h."""

from __future__ import annotations

import array
import ctypes
import functools
import json
import struct
import subprocess
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest import ROOT
from loadtest.simulator import opus

SAMPLE_RATE = 16_000
"""Hz: what devices send."""
CHILD_SECONDS = 60
ENGLISH, MANDARIN = "en-us", "cmn"
_QUIET_SHARE = 0.02
"""A 10 ms window below this share of the loudest one is not voice."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Something said: s16le mono PCM at 16 kHz, and where in it the voice really is (ms from the start)."""

    text: str
    pcm: bytes
    voice_from_ms: int
    voice_until_ms: int

    @property
    def duration_ms(self) -> int:
        """Of the whole sound."""
        return len(self.pcm) // 2 * 1000 // SAMPLE_RATE

    def packets(self, frame_ms: int = 60) -> tuple[bytes, ...]:
        """The sound as Opus packets of `frame_ms`; encoded once per speech and length."""
        return _encoded(self.pcm, frame_ms)


def speak(text: str, *, voice: str = "", words_per_minute: int = 160) -> Speech:
    """`text` spoken by espeak; `voice` "" picks English or Mandarin by the text. Raises RuntimeError when espeak
    fails."""
    return speak_all([text], voice=voice, words_per_minute=words_per_minute)[0]


_spoken: dict[tuple[str, str, int], Speech] = {}


def speak_all(texts: Sequence[str], *, voice: str = "", words_per_minute: int = 160) -> list[Speech]:
    """Many texts at the price of one child process; what was spoken before comes from memory."""
    wanted = [(text, voice or voice_for(text), words_per_minute) for text in texts]
    missing = [key for key in dict.fromkeys(wanted) if key not in _spoken]
    if missing:
        for key, pcm in zip(missing, _ask_child(missing), strict=True):
            _spoken[key] = from_pcm(pcm, text=key[0])
    return [_spoken[key] for key in wanted]


def voice_for(text: str) -> str:
    """espeak's voice for a text: Mandarin as soon as there is one Chinese character in it."""
    return MANDARIN if any("\u4e00" <= character <= "\u9fff" for character in text) else ENGLISH


def from_pcm(pcm: bytes, *, text: str = "") -> Speech:
    """Speech from s16le mono PCM at 16 kHz."""
    start, end = _voiced_range(pcm)
    return Speech(text, pcm, start, end)


def from_wav(path: Path) -> Speech:
    """Speech from a PCM WAV file of any rate and number of channels. Raises ValueError when it is none, OSError when it
    cannot be read."""
    import numpy as np
    import soxr

    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is not a PCM WAV file ({error})") from error
    if width not in (1, 2, 4):
        raise ValueError(f"{path} has {8 * width}-bit samples; 8, 16 and 32 are understood")
    samples = np.frombuffer(data, dtype={1: "<u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float32)
    if width == 1:
        samples -= 128
    samples = samples.reshape(-1, channels).mean(axis=1) / float(1 << (8 * width - 1))
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    pcm = (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
    if not pcm:
        raise ValueError(f"{path} is empty")
    return from_pcm(pcm, text=path.name)


@functools.cache
def silence(frame_ms: int = 60) -> bytes:
    """One Opus packet of silence, as an encoder makes it once it has settled."""
    return _encoded(bytes(2 * SAMPLE_RATE), frame_ms)[-1]


@functools.lru_cache(maxsize=512)
def _encoded(pcm: bytes, frame_ms: int) -> tuple[bytes, ...]:
    return tuple(opus.encode(pcm, frame_ms, sample_rate=SAMPLE_RATE))


def _voiced_range(pcm: bytes) -> tuple[int, int]:
    """(ms from, ms until) of what is loud enough to be voice; the whole sound when nothing is."""
    samples = array.array("h", pcm[: len(pcm) // 2 * 2])
    window = SAMPLE_RATE // 100
    peaks = [max(map(abs, samples[at : at + window])) for at in range(0, len(samples), window)]
    floor = max(peaks, default=0) * _QUIET_SHARE
    loud = [index for index, peak in enumerate(peaks) if peak > floor]
    if not loud:
        return 0, 10 * len(peaks)
    return 10 * loud[0], 10 * (loud[-1] + 1)


# --- the child --------------------------------------------------------------------------------------------------------


def _ask_child(wanted: Sequence[tuple[str, str, int]]) -> list[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.simulator.speech"],
        input=json.dumps(wanted).encode(),
        capture_output=True,
        cwd=ROOT,
        timeout=CHILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"espeak failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    sounds, data = [], done.stdout
    while data:
        (size,) = struct.unpack_from("!I", data)
        sounds.append(data[4 : 4 + size])
        data = data[4 + size :]
    return sounds


def _child() -> None:
    import espeakng_loader
    import numpy as np
    import soxr

    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, within the call.
    rate = espeak.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise SystemExit(f"espeak_Initialize returned {rate}")
    pieces: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(samples: object, count: int, events: object) -> int:
        if samples and count:
            pieces.append(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
        return 0

    espeak.espeak_SetSynthCallback(collect)
    for text, voice, words_per_minute in json.load(sys.stdin):
        if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SystemExit(f"espeak has no voice {voice!r}")
        espeak.espeak_SetParameter(1, words_per_minute, 0)  # 1: espeakRATE
        pieces.clear()
        data = text.encode() + b"\0"
        # Position type 1 (characters), flags 1 (UTF-8).
        if espeak.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, 1, None, None) != 0:
            raise SystemExit(f"espeak could not say {text!r}")
        espeak.espeak_Synchronize()
        pcm = soxr.resample(np.frombuffer(b"".join(pieces), dtype="<i2"), rate, SAMPLE_RATE).tobytes()
        sys.stdout.buffer.write(struct.pack("!I", len(pcm)) + pcm)


if __name__ == "__main__":
    _child()
