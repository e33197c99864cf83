"""A sherpa-onnx model as a provider holds it: shared by all who name the same one, loaded at first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from xiaozhi.errors import Fault, SettingsError, VendorUnavailable
from xiaozhi.providers.families.loaded_models import ModelLease
from xiaozhi.providers.families.sherpa_library import SherpaModel, fault_of, load
from xiaozhi.runtime.inference import InferencePool

LOAD_S = 120.0


class SherpaLease:
    """The use of one model, until `release`. `kind`: its class of work in the pool. `where`: the key of the
    configuration that names it."""

    def __init__(
        self, model: SherpaModel | None, inference: InferencePool, *, kind: str, where: Callable[[], str]
    ) -> None:
        self._model = model
        self._inference = inference
        self._kind = kind
        self._where = where
        self._lease: ModelLease[Any] = ModelLease(model, self._load)

    def get(self) -> Any:
        """The library's object; loading it takes seconds and lets other greenlets run. Raises SettingsError when the
        library cannot use the files, VendorUnavailable after `release`."""
        if self._lease.released:
            raise VendorUnavailable(self._where(), "closed")
        return self._lease.get()

    def release(self) -> None:
        """Idempotent."""
        self._lease.release()

    def _load(self) -> Any:
        if self._model is None:
            raise self._unusable("its files are gone")
        fault = fault_of(self._model)
        if fault:
            raise self._unusable(fault)
        # Here, not in the pool: an import takes locks, and those are monkey-patched.
        importlib.import_module("sherpa_onnx")
        return self._inference.run(load, self._model, kind=self._kind, deadline=LOAD_S)

    def _unusable(self, fault: str) -> SettingsError:
        return SettingsError([Fault(self._where(), "a model", f"one that sherpa-onnx can use ({fault})")])
