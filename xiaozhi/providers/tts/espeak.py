"""eSpeak NG as a voice: on this machine, without a network, English and Mandarin; clear but robotic. The default.

Not streaming: espeak speaks a hundred times faster than real time, so a sentence is made at once in the inference pool
and handed on in pieces. A sentence with both scripts is spoken by two voices, each for its own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.espeak_ng import NATIVE_HZ, checked_voice, engine
from xiaozhi.providers.registry import provider

PIECE_BYTES = NATIVE_HZ // 2 * 2
"""Half a second: small enough that encoding starts before a long sentence has been looked at whole."""
LONGEST_RUN = 300
"""Characters spoken in one call (about 20 s of speech, 30 ms of CPU); more is cut where a word ends."""
JOINT_MS = 60
"""Silence kept where one voice hands over to the other."""
_AUDIBLE = 200
_HAN = r"\u3400-\u9fff\uf900-\ufaff"
_LATIN_RUN = re.compile(r"[A-Za-zÀ-ɏ][^" + _HAN + r"。，！？；：、…“”《》]*")
_HAS_HAN = re.compile(f"[{_HAN}]")
_HAS_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")

Voice = Annotated[str, AfterValidator(checked_voice)]


class EspeakTtsOptions(ProviderOptions):
    """`voice`, `voice_zh`: espeak-ng's names, with a variant if you like ("en-gb+f3"). `rate`, `rate_zh`: words per
    minute, as espeak-ng counts them; its Mandarin needs more of them for the same pace."""

    voice: Voice = Field("en-us", validation_alias=AliasChoices("voice", "voice_en"))
    voice_zh: Voice = "cmn"
    rate: int = Field(165, ge=80, le=450)
    rate_zh: int = Field(210, ge=80, le=450)
    pitch: int = Field(50, ge=0, le=99)
    pitch_range: int = Field(50, ge=0, le=99)
    volume: int = Field(80, ge=1, le=200)
    timeout: float = Field(10.0, gt=0, le=60)


@provider("tts", "espeak", EspeakTtsOptions)
class EspeakTts(SentenceTts):
    """Speaks in the inference pool (kind "tts")."""

    needs_services: ClassVar[bool] = True

    def __init__(self, options: EspeakTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        self._closed = False
        self.traits = TtsTraits(offline=True, streaming=False, sample_rate=NATIVE_HZ)

    def warm_up(self) -> None:
        """Load the library and both voices' dictionaries. Raises VendorUnavailable."""
        for text in ("hello", "你好"):
            self._inference.run(self._spoken, text, kind="tts", deadline=30.0)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """Yield s16le mono PCM at 22,050 Hz. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        runs = list(chain.from_iterable(_bounded(voice_runs(sentence))))
        for place, text in enumerate(runs):
            if self._closed:
                raise VendorUnavailable("espeak", "closed")
            pcm = self._inference.run(self._spoken, text, kind="tts", deadline=self._options.timeout)
            if place < len(runs) - 1:
                pcm = _without_tail(pcm)
            for start in range(0, len(pcm), PIECE_BYTES):
                yield Pcm(pcm[start : start + PIECE_BYTES])

    def close(self) -> None:
        # espeak itself belongs to the process, and other providers may speak with it.
        self._closed = True

    def _spoken(self, text: str) -> bytes:
        options = self._options
        chinese = _HAS_HAN.search(text) is not None
        return engine().say(
            text,
            voice=options.voice_zh if chinese else options.voice,
            words_per_minute=options.rate_zh if chinese else options.rate,
            pitch=options.pitch,
            pitch_range=options.pitch_range,
            volume=options.volume,
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
