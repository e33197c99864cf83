"""The neural voices of the offline default, for benches that need speech which is not eSpeak's. They need `make setup`
and `server.py models fetch default`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import soxr

from loadtest.bench import open_speech
from xiaozhi.chat import CallContext
from xiaozhi.models.fetching import is_here
from xiaozhi.models.speech import VOICES
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceTts
from xiaozhi.runtime.inference import InferencePool


def are_here() -> bool:
    """Whether there are any."""
    return _folder() is not None


@cache
def spoken_by(text: str, language: str, speaker: str) -> bytes:
    """The text as s16le mono at 16 kHz. `speaker`: of Mandarin, such as "zf_xiaoxiao"; English has one."""
    tts = _voice(speaker)
    pieces = tts.synthesize(text, CallContext(language=language))
    samples = np.frombuffer(b"".join(piece.data for piece in pieces if isinstance(piece, Pcm)), "<i2")
    sound: bytes = soxr.resample(samples, tts.traits.sample_rate, 16_000).astype("<i2").tobytes()
    return sound


@cache
def _voice(speaker: str) -> SentenceTts:
    pool = InferencePool(workers=1)
    pool.start()
    block = {"type": "local_neural", "model_dir": str(_folder()), "voice": speaker}
    tts: SentenceTts = registry.build("tts", "Voice", block, Services(inference=pool))
    tts.warm_up()
    return tts


def _folder() -> Path | None:
    kokoro = VOICES[0]
    folders = (parent / kokoro.folder for parent in open_speech.PARENTS)
    return next((folder for folder in folders if is_here(kokoro, folder)), None)
