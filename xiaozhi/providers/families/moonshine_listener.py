"""Moonshine as a provider holds it: one model for all who name its folder, loaded at first use, heard in the inference
pool (kind "asr")."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from xiaozhi.errors import Fault, SettingsError, VendorUnavailable
from xiaozhi.providers.families.freed_memory import give_back
from xiaozhi.providers.families.loaded_models import ModelLease
from xiaozhi.providers.families.model_files import first_of, unsound
from xiaozhi.providers.families.moonshine import FILES, Moonshine, MoonshineText
from xiaozhi.providers.families.onnx_sessions import load_library
from xiaozhi.runtime.inference import InferencePool

LOAD_S: Final = 60.0
_COST: Final = 0.03
"""Seconds of one core per second of sound."""


class MoonshineListener:
    """The use of the model in one folder, until `release`. `where`: the key of the configuration that names it."""

    def __init__(self, folder: Path, inference: InferencePool, where: Callable[[], str]) -> None:
        self._folder = folder.resolve()
        self._inference = inference
        self._where = where
        self._lease: ModelLease[Moonshine] = ModelLease(("moonshine", self._folder), self._load)

    def get(self) -> Moonshine:
        """The model, loaded. Raises SettingsError when its files cannot be used, VendorUnavailable after `release`."""
        if self._lease.released:
            raise VendorUnavailable(self._where(), "closed")
        return self._lease.get()

    def hear(self, samples: npt.NDArray[np.float32], deadline_s: float) -> MoonshineText:
        """What it makes of a piece of at most half a minute (-1..1 at 16 kHz), English or not. Raises
        VendorUnavailable, VendorTimeout, Overloaded."""
        cost = 0.02 + _COST * len(samples) / 16_000
        return self._inference.run(self.get().hear, samples, kind="asr", deadline=deadline_s, cost=cost)

    def release(self) -> None:
        """Idempotent."""
        self._lease.release()

    def _load(self) -> Moonshine:
        load_library()
        try:
            return self._inference.run(_loaded, self._folder, kind="asr", deadline=LOAD_S)
        except (OSError, RuntimeError, ValueError) as error:
            raise SettingsError(
                [Fault(self._where(), str(self._folder), f"a Moonshine model that can be used ({error})"[:400])]
            ) from error


def _loaded(folder: Path) -> Moonshine:
    wrong = unsound(folder)
    if wrong:
        raise ValueError(wrong)
    model = Moonshine(folder)
    give_back()
    return model


def is_moonshine(folder: Path) -> bool:
    """Whether a folder has the files of a model."""
    return all(first_of(folder, name) for name in FILES)
