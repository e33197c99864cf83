"""Whisper (speech to text in some 90 languages) on CTranslate2: how sound becomes text, and when it is heard again or
refused. What computes runs in the inference pool.

Whisper was made for windows of 30 s, and most of its work is done for silence. It is given the utterance and 5 s of
silence instead, a quarter of the work: with 3 s or less it loops, with 5 s it hears as well as with 30
(docs/offline.md). Where a short window does loop, or the text is improbable, the whole window is heard; what is
improbable then is noise.

Sources: https://github.com/OpenNMT/CTranslate2 (Python API of 4.8), openai/whisper (prompt, byte-level pieces)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xiaozhi.audio.log_mel import HOP, RATE, log_mel
from xiaozhi.providers.families.whisper_pieces import digits_of, pieces_of_text, read_vocabulary, text_of

FILES: Final = ("model.bin", "config.json", "vocabulary.*")
"""What its folder has; patterns."""
WANTED: Final = "model.bin, config.json and vocabulary (a faster-whisper model)"
WINDOW_S: Final = 30.0
SILENCE_S: Final = 5.0
LONGEST_PIECE_S: Final = 28.0
"""A longer utterance is cut where it is quietest, in the last third of this."""
LEAST_LOG_PROB: Final = -1.0
MOST_NO_SPEECH: Final = 0.6
SURE_OF_LANGUAGE: Final = 0.8
BEAMS: Final = 5
CHINESE: Final = ("zh", "yue")
HABITS: Final = {"zh": "打开台灯。取消闹钟。把声音关了。离元旦还有几天？我想听一首歌。"}
"""What is told to have been said before, to whoever expects short requests: how they sound and are written."""
NEARLY_AS_PROBABLE: Final = 0.3
"""How much less the mean log-probability of another text may be."""
LANGUAGES: Final = frozenset(
    [
        "en",
        "zh",
        "de",
        "es",
        "ru",
        "ko",
        "fr",
        "ja",
        "pt",
        "tr",
        "pl",
        "ca",
        "nl",
        "ar",
        "sv",
        "it",
        "id",
        "hi",
        "fi",
        "vi",
        "he",
        "uk",
        "el",
        "ms",
        "cs",
        "ro",
        "da",
        "hu",
        "ta",
        "no",
        "th",
        "ur",
        "hr",
        "bg",
        "lt",
        "la",
        "mi",
        "ml",
        "cy",
        "sk",
        "te",
        "fa",
        "lv",
        "bn",
        "sr",
        "az",
        "sl",
        "kn",
        "et",
        "mk",
        "br",
        "eu",
        "is",
        "hy",
        "ne",
        "mn",
        "bs",
        "kk",
        "sq",
        "sw",
        "gl",
        "mr",
        "pa",
        "si",
        "km",
        "sn",
        "yo",
        "so",
        "af",
        "oc",
        "ka",
        "be",
        "tg",
        "sd",
        "gu",
        "am",
        "yi",
        "lo",
        "uz",
        "fo",
        "ht",
        "ps",
        "tk",
        "nn",
        "mt",
        "sa",
        "lb",
        "my",
        "bo",
        "tl",
        "mg",
        "as",
        "tt",
        "haw",
        "ln",
        "ha",
        "ba",
        "jw",
        "su",
        "yue",
    ]
)
"""Codes that its vocabulary has; yue only in large-v3."""
_PIECES_PER_S: Final = 12
"""More text is a loop. The quickest Chinese needs 8."""
_MOST_PIECES: Final = 220
_LIBRARY_MOST: Final = 448
_SHORTEST_S: Final = 0.1

Samples = npt.NDArray[np.float32]
_LOOP = re.compile(r"(.{2,60}?)\1{2,}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class WhisperText:
    """`log_prob`: mean of the pieces', natural logarithm. `no_speech`: how probable it is that nobody spoke.
    `others`: other texts that are nearly as probable, the most probable first."""

    text: str
    language: str
    log_prob: float
    no_speech: float
    others: tuple[str, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Whether it should be heard again with the whole window: it is speech, and badly heard."""
        return self.no_speech <= MOST_NO_SPEECH and (self.log_prob < LEAST_LOG_PROB or loops(self.text))

    @property
    def is_noise(self) -> bool:
        """Whether nothing was said, however much text there is."""
        return self.log_prob < LEAST_LOG_PROB or self.no_speech > MOST_NO_SPEECH


class Whisper:
    """One model for all threads of the inference pool."""

    def __init__(self, folder: Path, threads: int) -> None:
        """`threads`: how many may compute at once. `ctranslate2` must have been imported. Raises RuntimeError or
        ValueError for files that it cannot use."""
        import ctranslate2

        self._library: Any = ctranslate2
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", inter_threads=threads, intra_threads=1
        )
        self.is_multilingual: bool = self._model.is_multilingual
        vocabulary = read_vocabulary(folder)
        self._digits = digits_of(vocabulary)
        self._habits = {language: pieces_of_text(text, vocabulary) for language, text in HABITS.items()}

    def hear(
        self,
        samples: Samples,
        language: str = "",
        *,
        expected: Sequence[str] = (),
        requests: bool = False,
        whole_window: bool = False,
    ) -> WhisperText:
        """The text of one piece of at most `LONGEST_PIECE_S`. `language`: a code; "": found out, see
        `language_among`. `requests`: what is said to an assistant is expected, see `HABITS`."""
        encoded = self._encoded(log_mel(samples, frames_for(len(samples), whole_window=whole_window)))
        if self.is_multilingual:
            spoken = language or language_among(self._model.detect_language(encoded)[0], expected)
            prompt = ["<|startoftranscript|>", f"<|{spoken}|>", "<|transcribe|>", "<|notimestamps|>"]
        else:
            spoken, prompt = "en", ["<|startoftranscript|>", "<|notimestamps|>"]
        most = min(_MOST_PIECES, 10 + math.ceil(_PIECES_PER_S * len(samples) / RATE))
        length = 2 * (len(prompt) + most)  # the library counts the prompt, and takes half of it
        habit = self._habits.get(spoken, []) if requests else []
        if habit:
            prompt = ["<|startofprev|>", *habit, *prompt]
        # Numbers of Chinese as they are said: in digits 七是 becomes 70, and 八十的百分之十五 80%的15%.
        refused = [-1, *self._digits] if spoken in CHINESE else [-1]
        (found,) = self._model.generate(
            encoded,
            [prompt],
            beam_size=BEAMS,
            num_hypotheses=BEAMS,
            max_length=min(_LIBRARY_MOST, length + len(habit)),
            suppress_tokens=refused,
            return_scores=True,
            return_no_speech_prob=True,
        )
        text, *others = [text_of(pieces) for pieces in found.sequences]
        log_prob, *less = map(float, found.scores)
        near = [other for other, score in zip(others, less, strict=True) if log_prob - score <= NEARLY_AS_PROBABLE]
        return WhisperText(text, spoken, log_prob, float(found.no_speech_prob), tuple(near))

    def _encoded(self, mel: Samples) -> Any:
        return self._model.encode(self._library.StorageView.from_array(np.ascontiguousarray(mel[None])))


def language_among(probable: Sequence[tuple[str, float]], expected: Sequence[str]) -> str:
    """The code of the language that is spoken. `probable`: ("<|zh|>", probability), most probable first. One that is
    not `expected` must be nearly sure: a word alone sounds like many languages."""
    codes = [(token.strip("<|>"), probability) for token, probability in probable]
    first, probability = codes[0]
    if not expected or first in expected or probability >= SURE_OF_LANGUAGE:
        return first
    return next((code for code, _ in codes if code in expected), first)


def frames_for(samples: int, *, whole_window: bool = False) -> int:
    """How many frames of spectrogram an utterance of so many samples is heard in."""
    most = round(WINDOW_S * RATE) // HOP
    if whole_window:
        return most
    frames = samples // HOP + round(SILENCE_S * RATE) // HOP
    return min(most, frames + frames % 2)  # its first layer halves them


def pieces_of(samples: Samples) -> Iterator[Samples]:
    """An utterance in pieces of at most `LONGEST_PIECE_S`, cut at the quietest tenth of a second."""
    longest, block = round(LONGEST_PIECE_S * RATE), RATE // 10
    while len(samples) > longest:
        first = longest * 2 // 3 // block
        blocks = samples[first * block : longest // block * block].reshape(-1, block)
        quietest = first + int(np.square(blocks).mean(axis=1).argmin())
        cut = quietest * block + block // 2
        yield samples[:cut]
        samples = samples[cut:]
    if len(samples) >= _SHORTEST_S * RATE:
        yield samples


def loops(text: str) -> bool:
    """Whether a phrase comes three times in a row, as it does when Whisper has lost its place."""
    return _LOOP.search(text.replace(" ", "")) is not None


def cost_of(samples: int, *, whole_window: bool = False) -> float:
    """Seconds of one core, about: for the order of work."""
    return 0.1 + 0.05 * (WINDOW_S if whole_window else min(WINDOW_S, samples / RATE + SILENCE_S) * 0.7)
