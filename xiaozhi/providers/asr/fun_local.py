"""SenseVoiceSmall on this machine, as existing configurations name it: `type: fun_local, model_dir:
models/SenseVoiceSmall`.

Two ways to run it, found out by what the folder holds. model.int8.onnx and tokens.txt: by sherpa-onnx (make setup
WITH=sherpa; 240 MB of memory). Else model.pt, which existing set-ups have downloaded: by FunASR and PyTorch (make setup
WITH=funasr; gigabytes on the disk, some 2 GB of memory). Weights and text are the same but for the quantisation. The
libraries are imported when such a block is used.

Source: https://github.com/modelscope/FunASR (AutoModel) and https://github.com/FunAudioLLM/SenseVoice."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

from gevent.lock import BoundedSemaphore
from pydantic import AliasChoices, Field, field_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault, SettingsError, VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.models.catalogue import COMMAND
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.loaded_models import ModelLease
from xiaozhi.providers.families.model_files import first_of, missing_model, missing_package
from xiaozhi.providers.families.sensevoice_tags import transcript
from xiaozhi.providers.families.sherpa_library import LIBRARY_ERRORS
from xiaozhi.providers.families.sherpa_models import SherpaLease
from xiaozhi.providers.families.sherpa_recognisers import WANTED, as_floats, checked_language, heard, recogniser
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.deadlines import at_most

LOAD_S = 300.0
SHORTEST_BYTES = ASR_SAMPLE_RATE // 20 * 2
"""50 ms: of less, FunASR makes no frame and fails."""
_PARTS = ("configuration.json", "config.yaml", "am.mvn", "chn_jpn_yue_eng_ko_spectok.bpe.model")
"""What FunASR needs beside model.pt."""


class FunLocalAsrOptions(ProviderOptions):
    """`language`: "auto" or zh, en, yue, ja, ko. `use_itn`: numbers as digits, and punctuation."""

    model_dir: str = Field("models/SenseVoiceSmall", validate_default=True)
    language: str = "auto"
    use_itn: bool = Field(True, validation_alias=AliasChoices("use_itn", "itn"))
    timeout: float = Field(15.0, gt=0, le=120)

    @field_validator("language", "use_itn", "timeout", "model_dir", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value == "" else value

    @field_validator("language")
    @classmethod
    def _is_heard(cls, language: str) -> str:
        return checked_language("sense_voice", language)

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str) -> str:
        missing = _missing_of(model_dir)
        if missing:
            raise ValueError(missing)
        return model_dir


def _missing_of(model_dir: str) -> str:
    """What keeps the model of a folder from being run, "" for nothing."""
    folder = Path(model_dir)
    lighter = f"{COMMAND} sense-voice-int8 --into {model_dir}"
    if recogniser("sense_voice", folder, language="auto", itn=True, streaming=False) is not None:
        return missing_package("sherpa_onnx", "sherpa")
    if first_of(folder, "model.pt") is None:
        wanted = f"{WANTED['sense_voice']} ({lighter}), or with model.pt"
        return missing_model(model_dir, wanted, "sense-voice-small")
    parts = [name for name in _PARTS if first_of(folder, name) is None]
    if parts:
        return missing_model(model_dir, f"{', '.join(parts)} beside model.pt", "sense-voice-small")
    missing = missing_package("funasr", "funasr")
    return f"{missing} (or, much lighter:  make setup WITH=sherpa,  {lighter})" if missing else ""


@provider("asr", "fun_local", FunLocalAsrOptions)
class FunLocalAsr(BatchAsr):
    """Hears in the inference pool (kind "asr")."""

    needs_services: ClassVar[bool] = True
    traits = AsrTraits(offline=True, streaming=False)

    def __init__(self, options: FunLocalAsrOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        folder = Path(options.model_dir)
        light = recogniser("sense_voice", folder, language=options.language, itn=options.use_itn, streaming=False)
        self._light = SherpaLease(light, services.inference, kind="asr", where=self._where) if light else None
        key = ("funasr", folder.resolve(), "" if light else (folder / "model.pt").stat().st_mtime_ns)
        self._heavy: ModelLease[_FunAsr] | None = None if light else ModelLease(key, self._load)

    def warm_up(self) -> None:
        """Load the model. Raises SettingsError when its library cannot use it."""
        if self._light is not None:
            self._light.get()
        elif self._heavy is not None:
            self._heavy.get()

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """Raises VendorUnavailable, VendorTimeout, VendorGarbage, Overloaded."""
        vendor, timeout = self.name or self.type_name, self._options.timeout
        try:
            if self._light is not None:
                return self._inference.run(heard, self._light.get(), "sense_voice", pcm, kind="asr", deadline=timeout)
            if self._heavy is None or self._heavy.released:
                raise VendorUnavailable(vendor, "closed")
            model = self._heavy.get()
            with at_most(timeout, VendorTimeout(vendor, f"no text within {timeout:g} s")), model.turn:
                return self._inference.run(
                    model.heard, pcm, self._options.language, self._options.use_itn, kind="asr", deadline=timeout
                )
        except LIBRARY_ERRORS as error:
            raise VendorUnavailable(vendor, f"its library failed: {error}"[:300]) from error

    def close(self) -> None:
        for lease in (self._light, self._heavy):
            if lease is not None:
                lease.release()

    def _load(self) -> _FunAsr:
        model_dir = self._options.model_dir
        try:
            # Here, not in the pool: an import takes locks, and those are monkey-patched. This one takes seconds.
            library: Any = importlib.import_module("funasr")
            return _FunAsr(self._inference.run(_auto_model, library, model_dir, kind="asr", deadline=LOAD_S))
        except (AssertionError, ImportError, KeyError, OSError, RuntimeError, ValueError) as error:
            fault = Fault(self._where(), repr(model_dir), f"a model that FunASR can use ({error})"[:400])
            raise SettingsError([fault]) from error

    def _where(self) -> str:
        return f"ASR.{self.name or self.type_name}.model_dir"


def _auto_model(library: Any, model_dir: str) -> Any:
    # In a pool thread.
    return library.AutoModel(
        model=model_dir, device="cpu", ncpu=1, disable_update=True, disable_pbar=True, log_level="ERROR"
    )


class _FunAsr:
    """A model in FunASR. Its `generate` changes what belongs to the model, so one caller at a time has its `turn`."""

    def __init__(self, model: Any) -> None:
        self.turn = BoundedSemaphore(1)
        self._model = model

    def heard(self, pcm: bytes, language: str, itn: bool) -> Transcript:
        """In a pool thread. Raises VendorGarbage."""
        if len(pcm) < SHORTEST_BYTES:
            return Transcript("")
        found = self._model.generate(input=as_floats(pcm), cache={}, language=language, use_itn=itn, batch_size_s=60)
        try:
            return transcript(str(found[0]["text"]))
        except (IndexError, KeyError, TypeError) as error:
            raise VendorGarbage("fun_local", f"FunASR gave no text but {type(found).__name__}") from error
