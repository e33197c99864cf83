"""Sentences by eSpeak NG: cut so that one voice speaks one script, made in the inference pool, handed on in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from xiaozhi.providers.contracts.tts import Pcm
from xiaozhi.providers.families.espeak_ng import NATIVE_HZ, engine
from xiaozhi.runtime.inference import InferencePool

PIECE_BYTES: Final = NATIVE_HZ // 2 * 2
"""Half a second: small enough that encoding starts before a long sentence has been looked at whole."""
LONGEST_RUN: Final = 300
"""Characters spoken in one call (about 20 s of speech, 30 ms of CPU); more is cut where a word ends."""
JOINT_MS: Final = 60
"""Silence kept where one voice hands over to the other."""
_AUDIBLE = 200
_HAN = r"\u3400-\u9fff\uf900-\ufaff"
_LATIN_RUN = re.compile(r"[A-Za-zÀ-ɏ][^" + _HAN + r"。，！？；：、…“”《》]*")
_HAS_HAN = re.compile(f"[{_HAN}]")
_HAS_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")


@dataclass(frozen=True, slots=True)
class EspeakVoices:
    """How it speaks. `other`: for what has no Chinese character; `rate`, `rate_zh`: words per minute."""

    other: str = "en-us"
    chinese: str = "cmn"
    rate: int = 165
    rate_zh: int = 210
    pitch: int = 50
    pitch_range: int = 50
    volume: int = 80


def espeak_sounds(sentence: str, voices: EspeakVoices, inference: InferencePool, deadline: float) -> Iterator[Pcm]:
    """s16le mono PCM at NATIVE_HZ. Raises VendorUnavailable, VendorTimeout, Overloaded."""
    runs = list(chain.from_iterable(_bounded(voice_runs(sentence))))
    for place, text in enumerate(runs):
        pcm = inference.run(espeak_pcm, text, voices, kind="tts", deadline=deadline)
        if place < len(runs) - 1:
            pcm = _without_tail(pcm)
        for start in range(0, len(pcm), PIECE_BYTES):
            yield Pcm(pcm[start : start + PIECE_BYTES], NATIVE_HZ)


def espeak_pcm(text: str, voices: EspeakVoices) -> bytes:
    """The sound of a text in one script, in a pool thread."""
    chinese = _HAS_HAN.search(text) is not None
    return engine().say(
        text,
        voice=voices.chinese if chinese else voices.other,
        words_per_minute=voices.rate_zh if chinese else voices.rate,
        pitch=voices.pitch,
        pitch_range=voices.pitch_range,
        volume=voices.volume,
    )


def voice_runs(text: str) -> list[str]:
    """`text` in the pieces that one voice speaks: Han characters with the digits and signs around them, and Latin
    words."""
    if not _HAS_HAN.search(text):
        return [text] if text.strip() else []
    runs: list[str] = []
    end = 0
    for match in _LATIN_RUN.finditer(text):
        runs += [text[end : match.start()], match[0]]
        end = match.end()
    runs.append(text[end:])
    # Digits and signs between two Latin runs, or at the ends, need no voice of their own.
    whole: list[str] = []
    for run in runs:
        if whole and not (_HAS_HAN.search(run) or _HAS_LATIN.search(run)):
            whole[-1] += run
        elif run.strip():
            whole.append(run)
    if len(whole) > 1 and not (_HAS_HAN.search(whole[0]) or _HAS_LATIN.search(whole[0])):
        whole[:2] = [whole[0] + whole[1]]
    return whole


def _bounded(runs: list[str]) -> Iterator[list[str]]:
    for run in runs:
        pieces = []
        while len(run) > LONGEST_RUN:
            cut = (
                max((run.rfind(sign, LONGEST_RUN // 2, LONGEST_RUN) + 1 for sign in " ，。、,;；"), default=0)
                or LONGEST_RUN
            )
            pieces.append(run[:cut])
            run = run[cut:]
        yield [*pieces, run]


def _without_tail(pcm: bytes) -> bytes:
    """`pcm` with no more than JOINT_MS of silence at its end."""
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm, dtype="<i2").astype(np.int32)) > _AUDIBLE)
    if not len(loud):
        return pcm
    return pcm[: (int(loud[-1]) + 1 + NATIVE_HZ * JOINT_MS // 1000) * 2]
