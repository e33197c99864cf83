"""Two small neural voices on onnxruntime: Kokoro-82M (int8) for Mandarin, hibari for English. Text in, PCM out.

Every method runs in a thread of the inference pool; one object of each serves all devices. Both models have one
phonetic alphabet (hibari was made from Kokoro), but the Chinese speakers cannot speak English with it: of Chinese
sentences with English words a recogniser heard 40 % of the characters wrong, and 9 % where hibari spoke the English
words. Sources: github.com/hexgrad/kokoro, github.com/thewh1teagle/kokoro-onnx (the int8 export),
github.com/MMWilliams/hibari; all Apache-2.0 or MIT.

Memory: a session of onnxruntime keeps the memory of its longest run, unless it is told to give it back after each."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xiaozhi.providers.families.freed_memory import give_back
from xiaozhi.providers.families.kokoro_alphabet import LONGEST, NUMBERS
from xiaozhi.providers.families.mandarin_pinyin import Readings
from xiaozhi.providers.families.mandarin_speech import phonemes_of_text
from xiaozhi.providers.families.onnx_convolutions import multiplies_signed_bytes, rewrite
from xiaozhi.providers.families.onnx_sessions import open_session
from xiaozhi.providers.families.packed_words import PackedWords

RATE_HZ: Final = 24_000
KOKORO_FILE: Final = "kokoro-v1.0.int8.onnx"
ENGLISH_PACKAGE: Final = "hibari"
LEAD_MS: Final = 30
"""Silence kept in front of a piece of speech: Kokoro makes 400 ms of it, hibari 300."""
TAIL_MS: Final = 160
"""And behind it; the pause at a comma. They make 500 to 800."""
_AUDIBLE: Final = 0.01
_FADE: Final = RATE_HZ // 200
_STYLE: Final = 256
_PEAK: Final = 32_767
_LONGEST_ENGLISH: Final = 400
# Speech of all voices is as loud: 0.1 (RMS) where it is audible, as eSpeak's; measured on a sentence of each.
_GAINS: Final = {"zf_xiaoxiao": 0.6}
_ENGLISH_GAIN: Final = 1.85
_LETTER_A: Final = "ˈA"

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class KokoroSpeaker:
    """A speaker of Kokoro: `style` has one vector for each number of phonemes, `gain` makes it as loud as the
    others."""

    style: Samples
    gain: float = 1.0

    @classmethod
    def of(cls, file: Path) -> KokoroSpeaker:
        """Raises OSError, ValueError."""
        return cls(np.fromfile(file, "<f4").reshape(-1, 1, _STYLE), _GAINS.get(file.stem, 1.0))


class ChineseVoice:
    """Kokoro with one table of readings. Raises what onnxruntime raises for a file that it cannot use."""

    def __init__(self, model: Path, readings: Readings) -> None:
        self._session, self._run = _quickest_session(model)
        self._readings = readings
        give_back()

    def speak(self, text: str, speaker: KokoroSpeaker, speed: float, tail_ms: int = TAIL_MS) -> bytes:
        """s16le mono PCM at RATE_HZ of a clause; b"" when there is nothing to say in it. Takes about half as long
        as it sounds."""
        phonemes = phonemes_of_text(text, self._readings)
        sound = b""
        for place in range(0, len(phonemes), LONGEST):
            numbers = [NUMBERS[char] for char in phonemes[place : place + LONGEST]]
            given = {
                "tokens": np.array([[0, *numbers, 0]], np.int64),
                "style": speaker.style[min(len(numbers), len(speaker.style) - 1)],
                "speed": np.array([speed], np.float32),
            }
            (samples,) = self._session.run(None, given, self._run)
            sound += pcm_of(samples.reshape(-1), speaker.gain, tail_ms)
        give_back()
        return sound


class EnglishVoice:
    """hibari, with its lexicon and the model that reads unknown words."""

    def __init__(self, modules: dict[str, Any]) -> None:
        """`modules`: from `english_modules`: an import takes locks, which do not belong into a pool thread."""
        assets = Path(modules["g2p"].ASSETS)
        self._session, self._run = _session(assets / "hibari.onnx")
        unknown, _ = _session(assets / "oov.onnx")
        self._g2p = modules["g2p"].G2P(oov=modules["oov"].OOV(str(assets / "oov.onnx"), session=unknown))
        pack_tables(self._g2p)
        self._synth = modules["dsp"].synth
        give_back()

    def speak(self, text: str, speed: float, tail_ms: int = TAIL_MS) -> bytes:
        """s16le mono PCM at RATE_HZ; b"" when there is nothing to say. About 10 ms per second of sound."""
        phonemes = _LETTER_A if text.strip() == "A" else self._g2p(text)
        numbers = [NUMBERS[char] for char in phonemes if char in NUMBERS]
        sound = b""
        for place in range(0, len(numbers), _LONGEST_ENGLISH):
            ids = np.array([[0, *numbers[place : place + _LONGEST_ENGLISH], 0]], np.int64)
            outputs = self._session.run(None, {"ids": ids, "speed": np.array([speed], np.float32)}, self._run)
            # The same text sounds the same: its noise begins at the same place.
            sound += pcm_of(
                self._synth(*(output[0] for output in outputs), np.random.default_rng(0)), _ENGLISH_GAIN, tail_ms
            )
        return sound


def pack_tables(g2p: Any) -> None:
    """Keep the tables of hibari's `G2P` (lexicons, and weights of its tagger) packed: as dicts of strings they take
    78 MB, packed 24."""
    tagger = g2p.tagger
    # The largest first: what is made later then lies where it was.
    tagger.weights = PackedWords(tagger.weights)
    tagger.tagdict = PackedWords(tagger.tagdict)
    tagger.vocab = PackedWords(dict.fromkeys(tagger.vocab, True))
    for words in (g2p.lexicon.golds, g2p.lexicon.silvers):
        words.d = PackedWords(words.d)


def english_modules() -> dict[str, Any]:
    """The parts of the package that are used; in the greenlet, not in the pool."""
    return {
        name: importlib.import_module(f"{ENGLISH_PACKAGE}.{path}")
        for name, path in {"g2p": "g2p", "oov": "g2p.oov", "dsp": "dsp"}.items()
    }


@cache
def library_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: they have no common class."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (RuntimeError, state.RuntimeException, *(getattr(state, name) for name in names))


def is_installed(package: str) -> bool:
    """Without importing it."""
    return importlib.util.find_spec(package) is not None


def pcm_of(samples: Samples, gain: float = 1.0, tail_ms: int = TAIL_MS) -> bytes:
    """`samples` (-1..1) as s16le, `gain` times as loud, without the silence that the models put around speech; b"" when
    all is silence."""
    loud = np.flatnonzero(np.abs(samples) > _AUDIBLE)
    if not len(loud):
        return b""
    start = max(0, int(loud[0]) - RATE_HZ * LEAD_MS // 1000)
    end = min(len(samples), int(loud[-1]) + 1 + RATE_HZ * tail_ms // 1000)
    kept = np.clip(samples[start:end] * np.float32(gain), -1.0, 1.0)
    fade = min(_FADE, len(kept))
    # What is cut off was not quite silent: no click at the ends.
    kept[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
    kept[len(kept) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return bytes((kept * _PEAK).astype("<i2").tobytes())


def _quickest_session(model: Path) -> tuple[Any, Any]:
    """Of a copy in memory that is computed faster, where this processor can."""
    if not multiplies_signed_bytes():
        return _session(model)
    with open(os.memfd_create(model.name), "wb") as copy:
        rewrite(model, copy)
        copy.flush()
        return _session(Path(f"/proc/self/fd/{copy.fileno()}"))


def _session(model: Path) -> tuple[Any, Any]:
    """One thread, no spinning, and memory that is given back after each run."""
    import onnxruntime

    session = open_session(model, lean=True)
    run = onnxruntime.RunOptions()
    # An arena that is emptied after the run costs a tenth less CPU than none: no page is faulted in twice.
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return session, run
