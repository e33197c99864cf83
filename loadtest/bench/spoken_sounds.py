"""Sentences as sound for benches, by the voices of the offline default; made once and kept in `tmp/`, until the voices
are changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import gevent
import numpy as np
import soxr

from loadtest import ROOT
from loadtest.bench import open_speech
from xiaozhi.chat import CallContext
from xiaozhi.models.fetching import is_here
from xiaozhi.models.speech import VOICES
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceTts
from xiaozhi.runtime.inference import InferencePool

RATE_HZ = 16_000
AT_ONCE = 2
"""Sentences that are made at the same time."""
KEPT = ROOT / "tmp/bench/sounds"
_SOURCES = ("tts/local_neural.py", "families/neural_voices.py", "families/kokoro*.py", "families/mandarin*.py")


def mandarin_block(speaker: str) -> Mapping[str, Any] | None:
    """Options of the voice that speaks Mandarin as `speaker`; None where its model is not."""
    model = VOICES[0]
    folder = next(
        (parent / model.folder for parent in open_speech.PARENTS if is_here(model, parent / model.folder)), None
    )
    return None if folder is None else {"model_dir": str(folder), "voice": speaker, "overflow_s": 30, "timeout": 120}


def said(pool: InferencePool, block: Mapping[str, Any], texts: Sequence[str], language: str) -> list[bytes]:
    """Each text as s16le mono 16 kHz, by `local_neural` with the options `block`. Raises RuntimeError when eSpeak would
    have to speak instead."""
    files = {text: KEPT / f"{_key(block, text)}.pcm" for text in texts}
    missing = [text for text, file in files.items() if not file.exists()]
    if missing:
        KEPT.mkdir(parents=True, exist_ok=True)
        services = Services(inference=pool, config_dir=ROOT / "config")
        tts: SentenceTts = registry.build("tts", "Voice", {"type": "local_neural", **block}, services)
        try:
            tts.warm_up()
            makers = [
                gevent.spawn(
                    lambda some: [files[text].write_bytes(_spoken(tts, text, language)) for text in some], part
                )
                for part in (missing[place::AT_ONCE] for place in range(AT_ONCE))
            ]
            gevent.joinall(makers, raise_error=True)
        finally:
            tts.close()
    return [file.read_bytes() for file in files.values()]


def _spoken(tts: SentenceTts, text: str, language: str) -> bytes:
    pieces = [piece for piece in tts.synthesize(text, CallContext(language=language)) if isinstance(piece, Pcm)]
    if any(piece.substitute or piece.rate not in (0, tts.traits.sample_rate) for piece in pieces):
        raise RuntimeError(f"another voice spoke {text!r}; nothing is measured with it")
    samples = np.frombuffer(b"".join(piece.data for piece in pieces), "<i2")
    return bytes(soxr.resample(samples, tts.traits.sample_rate, RATE_HZ).astype("<i2").tobytes())


def _key(block: Mapping[str, Any], text: str) -> str:
    return hashlib.sha256(f"{_state()} {sorted(block.items())} {text}".encode()).hexdigest()[:32]


@cache
def _state() -> str:
    """Changes with the voices."""
    folder = ROOT / "xiaozhi/providers"
    files = sorted(file for pattern in _SOURCES for file in folder.glob(pattern))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest() + version("hibari-tts")
