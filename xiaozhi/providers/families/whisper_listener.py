"""Whisper as a provider holds it: one model for all blocks that name its folder, loaded at first use; utterances are
heard in the inference pool (kind "asr"), piece by piece, so that long speech lets short speech go first."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xiaozhi.errors import Fault, SettingsError, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.families.freed_memory import give_back
from xiaozhi.providers.families.loaded_models import ModelLease
from xiaozhi.providers.families.local_utterance import readable
from xiaozhi.providers.families.model_files import first_of, unsound
from xiaozhi.providers.families.whisper import CHINESE, FILES, Whisper, WhisperText, cost_of, pieces_of
from xiaozhi.runtime.inference import InferencePool

LOAD_S: Final = 120.0
LIBRARY_ERRORS: Final = (RuntimeError, ValueError)

Samples = npt.NDArray[np.float32]


class WhisperListener:
    """The use of the model in one folder, until `release`. `where`: the key of the configuration that names it."""

    def __init__(self, folder: Path, inference: InferencePool, where: Callable[[], str]) -> None:
        self._folder = folder.resolve()
        self._inference = inference
        self._where = where
        self._lease: ModelLease[Whisper] = ModelLease(("whisper", self._folder), self._load)

    def get(self) -> Whisper:
        """The model; loading it takes a second or two and lets other greenlets run. Raises SettingsError when its
        files cannot be used, VendorUnavailable after `release`."""
        if self._lease.released:
            raise VendorUnavailable(self._where(), "closed")
        return self._lease.get()

    def hear(
        self,
        samples: Samples,
        language: str,
        deadline_s: float,
        *,
        expected: Sequence[str] = (),
        second_look: bool = True,
        known: Callable[[str], bool] | None = None,
    ) -> Transcript:
        """What was said; nothing for noise. `samples`: -1..1 at 16 kHz, of any length. `language`: a code; "": the one
        that its beginning sounds like, of those `expected` if there are any and no other is nearly sure. `second_look`:
        hear what is improbable once more, with the whole window, which takes four times as long. `known`: whether a
        text is a request that is understood, for whoever expects such: of texts that are nearly as probable the first
        that is known counts. It runs in a thread of the pool.

        Raises VendorUnavailable, VendorTimeout, Overloaded."""
        model, ends = self.get(), time.monotonic() + deadline_s
        if known is not None:
            _converter()  # its import does not belong into the pool, see `_load`
        spoken = language
        texts: list[WhisperText] = []
        for piece in pieces_of(samples):
            hear = partial(_heard, model, known, piece, spoken, expected=expected)
            text = self._run(ends, cost_of(len(piece)), hear)
            if second_look and text.is_doubtful:
                text = self._run(ends, cost_of(len(piece), whole_window=True), partial(hear, whole_window=True))
            if not text.is_noise:
                texts.append(text)
                spoken = spoken or text.language
        return transcript_of(texts)

    def release(self) -> None:
        """Idempotent."""
        self._lease.release()

    def _run(self, ends: float, cost: float, function: Callable[[], WhisperText]) -> WhisperText:
        left = ends - time.monotonic()
        if left <= 0:
            raise VendorTimeout(self._where(), "no time is left for the rest of a long utterance")
        try:
            return self._inference.run(function, kind="asr", deadline=left, cost=cost)
        except LIBRARY_ERRORS as error:
            raise VendorUnavailable(self._where(), f"its library failed: {error}"[:300]) from error

    def _load(self) -> Whisper:
        # Here, not in the pool: an import takes locks, and those are monkey-patched.
        importlib.import_module("ctranslate2")
        threads = self._inference.slow_workers
        try:
            return self._inference.run(_loaded, self._folder, threads, kind="asr", deadline=LOAD_S)
        except LIBRARY_ERRORS as error:
            raise SettingsError(
                [Fault(self._where(), str(self._folder), f"a model that CTranslate2 can use ({error})"[:400])]
            ) from error


def _heard(
    model: Whisper, known: Callable[[str], bool] | None, piece: Samples, language: str, **options: Any
) -> WhisperText:
    # The library leaves 30 MB free in the allocator after an utterance; to give them back takes 3 ms.
    try:
        text = model.hear(piece, language, requests=known is not None, **options)
    finally:
        give_back()
    return text if known is None or text.is_noise else likelier(text, known)


def _loaded(folder: Path, threads: int) -> Whisper:
    wrong = unsound(folder)
    if wrong:
        raise ValueError(wrong)
    model = Whisper(folder, threads)
    give_back()
    return model


def is_whisper(folder: Path) -> bool:
    """Whether a folder has the files of a model."""
    return all(first_of(folder, pattern) for pattern in FILES)


def likelier(text: WhisperText, known: Callable[[str], bool]) -> WhisperText:
    """The first of the nearly as probable texts that is `known`, the most probable where none is."""
    for other in dict.fromkeys((text.text, *text.others)):
        if known(simplified(other) if text.language in CHINESE else other):
            return replace(text, text=other)
    return text


def transcript_of(texts: list[WhisperText]) -> Transcript:
    """The pieces of one utterance together: Chinese in simplified characters, the language and the confidence of the
    worst."""
    if not texts:
        return Transcript("")
    joined = readable(" ".join(text.text for text in texts))
    worst = min(texts, key=lambda text: text.log_prob)
    if worst.language in CHINESE:
        joined = simplified(joined)
    return Transcript(joined, language=worst.language, confidence=round(float(np.exp(worst.log_prob)), 3))


def simplified(text: str) -> str:
    """Traditional characters as simplified ones; Whisper writes either, as it likes."""
    return str(_converter().convert(text))


@cache
def _converter() -> Any:
    return importlib.import_module("opencc").OpenCC("t2s")
