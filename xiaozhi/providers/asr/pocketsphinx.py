"""PocketSphinx over the phrases of `config/offline.yaml`: recognition without a network, for a few hundred English sentences and nothing
else.

Open speech is out of its reach; on a small closed set it is quick (a thirtieth of the sound's duration) and honest: what sounds like no
phrase is refused (an empty text), not guessed. `_phrase_model.py` says how. Source: the bundled en-us model of the pocketsphinx package
(5.1).

A decoder is not thread-safe and takes a few MB, so there is one per pool thread, never one per device. `make bench` prints the accuracy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

import numpy as np
from pocketsphinx import Decoder, get_model_path
from pydantic import Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers import _offline_phrases as phrases
from xiaozhi.providers.asr._phrase_model import Nearest, arpa
from xiaozhi.providers.base import BatchAsr, ProviderOptions, Services, Transcript
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.inference import PerWorker

DEADLINE_S = 20.0
WARM_UP_DEADLINE_S = 60.0
COMMON_WORDS = Path(__file__).with_name("_common_words.txt")
_NUMBERS = frozenset(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "fifteen", "twenty", "thirty", "forty", "fifty")
    + ("sixty", "seventy", "eighty", "ninety", "hundred")
)
_NUMBER_WEIGHT = 0.1
"""There are many sentences with numbers; together they should not outweigh the rest."""
_LEVEL = 2_000.0
"""Loudness speech is brought to before decoding (RMS of its louder parts): the model was trained on such recordings."""
_NOISE = 30.0
"""A little noise under everything: digital silence upsets the model's normalisation."""
_FRAME = 320
_MAX_SAMPLES = 30 * 16_000


class Options(ProviderOptions):
    """`phrases`: the phrase file, relative to the configuration directory."""

    phrases: str = "offline.yaml"
    tolerance: float = Field(0.25, ge=0, le=1)
    """How different a phrase may sound from what was heard: share of its phonemes. Higher understands and guesses more."""
    unheard_reply: str = "Sorry, I did not understand that. Say help to hear what I know."
    """Spoken when something was said but not understood; empty: silence."""


@provider("asr", "pocketsphinx", Options)
class PocketSphinx(BatchAsr):
    """See the module. Raises SettingsError for a phrase file with faults or with words that nobody can pronounce."""

    needs_services: ClassVar[bool] = True
    offline: ClassVar[bool] = True

    def __init__(self, options: Options, services: Services) -> None:
        self.unheard_reply = options.unheard_reply
        self._tolerance = options.tolerance
        self._inference = services.inference
        self._book = phrases.load(services.config_dir / options.phrases)
        self._directory: Path | None = None
        self._nearest: Nearest | None = None
        self._decoders: PerWorker[Decoder] = PerWorker(self._new_decoder)
        self._noise = np.random.default_rng(0).normal(0.0, _NOISE, _MAX_SAMPLES).astype(np.float32)

    def warm_up(self) -> None:
        """Build the model of the phrases: about half a second, on a pool thread."""
        if self._nearest is None:
            self._inference.run(self._prepare, kind="asr", deadline=WARM_UP_DEADLINE_S)
        self._inference.run(self._recognise, bytes(32_000), kind="asr", deadline=WARM_UP_DEADLINE_S)

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        if self._nearest is None:
            self.warm_up()
        text, distance = self._inference.run(self._recognise, pcm, kind="asr", deadline=DEADLINE_S)
        if distance > self._tolerance:
            return Transcript("", confidence=1.0 - distance)
        return Transcript(text, language="en", confidence=1.0 - distance)

    def close(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    # --- on pool threads ------------------------------------------------------------------------------------------------

    def _recognise(self, pcm: bytes) -> tuple[str, float]:
        nearest = self._nearest
        if nearest is None or len(pcm) < 2 * _FRAME:
            return "", 1.0
        decoder = self._decoders.get()
        decoder.start_utt()
        decoder.process_raw(self._conditioned(pcm), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return nearest.find(hypothesis.hypstr) if hypothesis is not None else ("", 1.0)

    def _conditioned(self, pcm: bytes) -> bytes:
        """Speech as loud as the model expects it, and never quite silent."""
        samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype="<i2").astype(np.float32)[:_MAX_SAMPLES]
        frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
        energy = np.sqrt((frames * frames).mean(axis=1))
        voiced = energy[energy > energy.max() * 0.05]
        loudness = float(np.percentile(voiced, 70)) if len(voiced) else 0.0
        scaled = samples * (_LEVEL / max(loudness, 1.0)) + self._noise[: len(samples)]
        return np.clip(scaled, -32_768, 32_767).astype("<i2").tobytes()

    def _prepare(self) -> None:
        spoken = self._book.spoken
        common = [
            word for line in COMMON_WORDS.read_text(encoding="utf-8").splitlines() if not line.startswith("#") for word in line.split()
        ]
        wanted = {word for sentence in spoken for word in sentence.split()} | set(common)
        sounds = _pronunciations(wanted, self._book.file.pronunciations)
        unknown = sorted({word for sentence in spoken for word in sentence.split()} - sounds.keys())
        if unknown:
            raise SettingsError(
                [Fault("offline.yaml: pronunciations", word, "an English word of the dictionary, or its phonemes here") for word in unknown]
            )
        weighted = [(sentence.split(), _NUMBER_WEIGHT if _NUMBERS & set(sentence.split()) else 1.0) for sentence in spoken]
        directory = Path(tempfile.mkdtemp(prefix="xiaozhi-phrases-"))
        (directory / "phrases.lm").write_text(arpa(weighted, [word for word in common if word in sounds]), encoding="utf-8")
        lines = [
            f"{word}{f'({place})' if place > 1 else ''} {sound}"
            for word, variants in sorted(sounds.items())
            for place, sound in enumerate(variants, 1)
        ]
        (directory / "phrases.dict").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._directory = directory
        self._nearest = Nearest(spoken, {word: variants[0] for word, variants in sounds.items()})

    def _new_decoder(self) -> Decoder:
        directory = self._directory
        assert directory is not None, "warm_up comes first"
        return Decoder(
            hmm=str(Path(get_model_path(), "en-us", "en-us")),
            dict=str(directory / "phrases.dict"),
            lm=str(directory / "phrases.lm"),
            cmn="batch",
            lw=8,
            fwdflatlw=10,
            bestpathlw=11,
            loglevel="FATAL",
        )


def _pronunciations(wanted: set[str], own: dict[str, str]) -> dict[str, list[str]]:
    """Word -> its pronunciations, from the bundled CMU dictionary and the phrase file's own."""
    found: dict[str, list[str]] = defaultdict(list)
    with Path(get_model_path(), "en-us", "cmudict-en-us.dict").open(encoding="utf-8") as dictionary:
        for line in dictionary:
            word, _, sound = line.partition(" ")
            word = word.partition("(")[0]
            if word in wanted:
                found[word].append(sound.strip())
    for word, sound in own.items():
        if word in wanted:
            found[word] = [sound]
    return dict(found)
