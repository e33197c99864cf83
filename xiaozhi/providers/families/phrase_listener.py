"""Hears the English phrases of a phrase file by PocketSphinx.

Anything else is refused (an empty transcript) rather than guessed. The whole utterance is normalised at once; a phrase
costs about 3 % of its length in CPU, in the inference pool, one decoder per worker.

What decided the accuracy was not the search but the sound given to it, see `conditioned`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xiaozhi.errors import Fault, SettingsError, VendorUnavailable
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Transcript
from xiaozhi.providers.families.frequent_words import FREQUENT_WORDS
from xiaozhi.providers.families.offline_phrases import PhraseBook, load
from xiaozhi.providers.families.sphinx import SphinxDecoder, model_path
from xiaozhi.providers.families.sphinx_phrases import SoundIndex, dictionary_text, language_model_text, read_dictionary
from xiaozhi.runtime.inference import InferencePool, PerWorker

SEARCH: Mapping[str, Any] = {"lw": 8.0, "fwdflatlw": 10.0, "bestpathlw": 11.0, "cmn": "batch"}
"""PocketSphinx's search, chosen by measurement (docs/offline.md). Wider beams cost three times as much and found
nothing more."""

SPEECH_LEVEL = 2_000.0
"""RMS of the louder part of speech that the noise floor is added to."""


@dataclass(frozen=True, slots=True)
class Look:
    """One way to present speech.

    `margin_s`: kept before and after it; cepstral means are taken over all that is left, and long silences shift them.
    `noise`: RMS of the floor under it; digital silence has no spectrum, and without a floor nearly half of all clean
    phrases are lost."""

    margin_s: float
    noise: float


LOOKS = (Look(margin_s=0.15, noise=30.0), Look(margin_s=0.3, noise=60.0))
"""What is no phrase at the first look gets a second, which finds two to three phrases in a hundred more. So the
tolerance can be small, and only what is refused in the end costs twice as much."""
SHORTEST_S = 0.15
_BLOCK = ASR_SAMPLE_RATE // 100
_QUIET = 0.04
_AUDIBLE = 30.0

Samples = npt.NDArray[np.float32]


class PhraseListener:
    """The phrases of one file, for all devices."""

    def __init__(
        self, phrases: Path, inference: InferencePool, *, name: str, tolerance: float = 0.15, longest_s: float = 8.0
    ) -> None:
        """`name`: of the file, for faults. Raises SettingsError: the phrase file, or words that nobody can
        pronounce."""
        self._inference = inference
        self._tolerance = tolerance
        self._longest_s = longest_s
        book = load(phrases)
        unspeakable = _unspeakable(book, name)
        if unspeakable:
            raise SettingsError(unspeakable)
        known = _pronunciations(book)
        self._index = SoundIndex(book.spoken, known)
        self._folder = tempfile.TemporaryDirectory(prefix="xiaozhi-phrases-")
        folder = Path(self._folder.name)
        others = [word for word in FREQUENT_WORDS if word in known]
        (folder / "phrases.dict").write_text(dictionary_text(known), encoding="utf-8")
        (folder / "phrases.lm").write_text(language_model_text(book.spoken, others), encoding="utf-8")
        config = {"hmm": model_path() / "en-us", "dict": folder / "phrases.dict", "lm": folder / "phrases.lm"}
        self._config = {**{key: str(path) for key, path in config.items()}, **SEARCH}
        self._decoders: PerWorker[SphinxDecoder] | None = PerWorker(self._new_decoder)

    def warm_up(self) -> None:
        """Load the model once, so that a fault shows now. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        self._inference.run(self._heard, bytes(2 * ASR_SAMPLE_RATE), kind="asr", deadline=60.0)

    def hear(self, pcm: bytes, deadline: float) -> Transcript:
        """The phrase that was said, or an empty text. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        if self._decoders is None:
            raise VendorUnavailable("pocketsphinx", "closed")
        return self._inference.run(self._heard, pcm, kind="asr", deadline=deadline)

    def close(self) -> None:
        """Idempotent."""
        # The decoders go when their last user does; what is running in the pool still holds its own.
        self._decoders = None
        self._folder.cleanup()

    def _new_decoder(self) -> SphinxDecoder:
        return SphinxDecoder(self._config)

    def _heard(self, pcm: bytes) -> Transcript:
        # Runs in a pool thread: plain Python and C.
        decoders = self._decoders
        if decoders is None:
            raise VendorUnavailable("pocketsphinx", "closed")
        decoder = decoders.get()
        for look in LOOKS:
            sound = conditioned(pcm, look, self._longest_s)
            nearest = self._index.nearest(decoder.decode(sound)) if sound else None
            if nearest is not None and nearest.distance <= self._tolerance:
                return Transcript(nearest.phrase, language="en", confidence=round(1 - nearest.distance, 3))
        return Transcript("", language="en")


def faults_of(phrases: Path, config_dir: Path) -> list[Fault]:
    """Those of a phrase file, and words that nobody can pronounce."""
    try:
        return _unspeakable(load(config_dir / phrases), phrases.name)
    except SettingsError as error:
        return list(error.faults)


def conditioned(pcm: bytes, look: Look = LOOKS[0], longest_s: float = 8.0) -> bytes:
    """Speech as the acoustic model likes it: cut to the speech, brought to one level, on a faint and always equal floor
    of noise.

    `pcm` and result: s16le mono 16 kHz. b"" when there is no sound in it, or more than `longest_s` seconds of it."""
    samples: Samples = np.frombuffer(pcm, dtype="<i2", count=len(pcm) // 2).astype(np.float32)
    blocks = len(samples) // _BLOCK
    if blocks * _BLOCK < SHORTEST_S * ASR_SAMPLE_RATE:
        return b""
    loudness = np.sqrt(np.mean(samples[: blocks * _BLOCK].reshape(blocks, _BLOCK) ** 2, axis=1))
    loud = np.flatnonzero(loudness > max(_AUDIBLE, float(loudness.max()) * _QUIET))
    if not len(loud):
        return b""
    if (loud[-1] + 1 - loud[0]) * _BLOCK > longest_s * ASR_SAMPLE_RATE:
        return b""
    margin = int(look.margin_s * ASR_SAMPLE_RATE)
    start, end = max(0, int(loud[0]) * _BLOCK - margin), min(len(samples), (int(loud[-1]) + 1) * _BLOCK + margin)
    level = float(np.percentile(loudness[loud], 70))
    speech = samples[start:end] * np.float32(SPEECH_LEVEL / level)
    noisy = speech + _noise(int((longest_s + 1) * ASR_SAMPLE_RATE))[: len(speech)] * np.float32(look.noise)
    return np.clip(noisy, -32768, 32767).astype("<i2").tobytes()


@cache
def _noise(samples: int) -> Samples:
    # Always the same noise: the same sound is always heard the same way.
    return np.random.default_rng(0).normal(0, 1, samples).astype(np.float32)


@lru_cache(maxsize=2)
def _pronunciations(book: PhraseBook) -> Mapping[str, Sequence[str]]:
    """Every word that may be heard, in phonemes. Looking through the dictionary takes 20 ms of CPU."""
    words = {word for phrase in book.spoken for word in phrase.split()}
    known = read_dictionary(model_path() / "cmudict-en-us.dict", {*words, *FREQUENT_WORDS})
    return {**known, **{word: [sounds] for word, sounds in book.file.pronunciations.items()}}


def _unspeakable(book: PhraseBook, source: str) -> list[Fault]:
    """English words without a sound; or that there is nothing to listen for."""
    if not book.spoken:
        return [Fault(f"{source}: rules", "no English phrases", "at least one phrase under say.en")]
    used = {word: phrase for phrase in reversed(book.spoken) for word in phrase.split()}
    return [
        Fault(
            f"{source}: rules",
            repr(word),
            f"a word of the dictionary, or an entry under pronunciations (in {used[word]!r})",
        )
        for word in sorted(used.keys() - _pronunciations(book).keys())
    ]
