"""Speech recognition on this machine by Vosk (https://alphacephei.com/vosk, Apache-2.0): small models, hears while the
user speaks.

The library is imported when such a block is used: make setup WITH=vosk. Its model is shared by all devices, its
recogniser belongs to one utterance. It gives the interpreter's lock back while it computes (cffi does)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import orjson
from pydantic import AliasChoices, Field, field_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault, SettingsError, VendorUnavailable
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Asr, AsrTraits, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.loaded_models import ModelLease
from xiaozhi.providers.families.local_utterance import Hearing, LocalUtterance, readable
from xiaozhi.providers.families.model_files import checked, first_of, missing_model, missing_package
from xiaozhi.providers.registry import provider

LOAD_S = 300.0
_FETCHED = "vosk-small-cn"
_WANTED = "am/final.mdl and conf/model.conf (an unpacked Vosk model)"
_ACOUSTIC_MODEL = ("am/final.mdl", "final.mdl")
"""Where it lies: in models of today, and in those of before 2020, which the library still takes."""


class VoskAsrOptions(ProviderOptions):
    """`model_path`: the folder of an unpacked model."""

    model_path: str = Field("", validation_alias=AliasChoices("model_path", "model_dir"), validate_default=True)
    timeout: float = Field(15.0, gt=0, le=120)

    @field_validator("timeout", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        return 15.0 if value == "" else value

    @field_validator("model_path")
    @classmethod
    def _is_there(cls, model_path: str) -> str:
        found = model_path and first_of(Path(model_path), *_ACOUSTIC_MODEL)
        model = "" if found else missing_model(model_path, _WANTED, _FETCHED)
        return checked(model_path, missing_package("vosk", "vosk"), model)


@provider("asr", "vosk", VoskAsrOptions)
class VoskAsr(Asr):
    """Hears in the inference pool (kind "asr")."""

    needs_services: ClassVar[bool] = True
    traits = AsrTraits(offline=True, streaming=True)

    def __init__(self, options: VoskAsrOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        folder = Path(options.model_path).resolve()
        self._model: ModelLease[Any] = ModelLease(("vosk", folder, folder.stat().st_mtime_ns), self._load)

    def warm_up(self) -> None:
        """Load the model. Raises SettingsError when the library cannot use it."""
        self._model.get()

    def open(self, context: CallContext) -> LocalUtterance:
        """Raises VendorUnavailable."""
        vendor = self.name or self.type_name
        if self._model.released:
            raise VendorUnavailable(vendor, "closed")
        hearing = _Listening(self._model.get())
        return LocalUtterance(hearing, self._inference, vendor=vendor, timeout=self._options.timeout)

    def close(self) -> None:
        self._model.release()

    def _load(self) -> Any:
        try:
            # Here, not in the pool: an import takes locks, and those are monkey-patched.
            library: Any = importlib.import_module("vosk")
            library.SetLogLevel(-1)
            return self._inference.run(library.Model, self._options.model_path, kind="asr", deadline=LOAD_S)
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, ImportError | OSError):
                raise  # the library's own are nothing more than an Exception
            key = f"ASR.{self.name or self.type_name}.model_path"
            raise SettingsError(
                [Fault(key, repr(self._options.model_path), f"a model that Vosk can use ({error})")]
            ) from error


class _Listening(Hearing):
    """One utterance."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._recogniser: Any = None
        self._said: list[str] = []

    def hear(self, pcm: bytes) -> str:
        """Everything heard so far."""
        recogniser = self._opened()
        # The library ends a sentence by itself when the speaker pauses; what it has said of it does not come again.
        if recogniser.AcceptWaveform(pcm):
            self._said.append(_text(recogniser.Result(), "text"))
            return self._all()
        return self._all(_text(recogniser.PartialResult(), "partial"))

    def end(self, pcm: bytes) -> Transcript:
        """Hear the last of it; the text."""
        if pcm:
            self.hear(pcm)
        self._said.append(_text(self._opened().FinalResult(), "text"))
        return Transcript(self._all())

    def _opened(self) -> Any:
        if self._recogniser is None:
            library: Any = importlib.import_module("vosk")
            self._recogniser = library.KaldiRecognizer(self._model, ASR_SAMPLE_RATE)
        return self._recogniser

    def _all(self, newest: str = "") -> str:
        return readable(" ".join(filter(None, [*self._said, newest])))


def _text(said: str, key: str) -> str:
    return str(orjson.loads(said).get(key, ""))
