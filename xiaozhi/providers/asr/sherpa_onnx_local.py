"""Speech recognition on this machine by sherpa-onnx: SenseVoice, Paraformer, Whisper and Zipformer models, of which the
streaming ones hear while the user speaks.

Source: https://k2-fsa.github.io/sherpa/onnx/ and the Python API of k2-fsa/sherpa-onnx 1.13. The library is imported
when such a block is used: make setup WITH=sherpa. Nothing is downloaded here: server.py models fetch ..."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.asr import AsrStream, AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.local_utterance import LocalUtterance
from xiaozhi.providers.families.model_files import checked, missing_model, missing_package
from xiaozhi.providers.families.sherpa_library import LIBRARY_ERRORS
from xiaozhi.providers.families.sherpa_models import SherpaLease
from xiaozhi.providers.families.sherpa_recognisers import (
    FETCHED,
    STREAMING_TYPES,
    WANTED,
    Listening,
    checked_language,
    heard,
    recogniser,
)
from xiaozhi.providers.registry import provider


class SherpaOnnxLocalAsrOptions(ProviderOptions):
    """`model_type` as existing files have it. `streaming`: whether the model hears while the user speaks; None: when
    its folder is called so. `language`: "auto", or a code for SenseVoice and Whisper. `use_itn`: SenseVoice writes
    numbers as digits, and punctuation."""

    model_type: Literal["sense_voice", "paraformer", "whisper", "zipformer"] = "sense_voice"
    language: str = "auto"
    use_itn: bool = Field(True, validation_alias=AliasChoices("use_itn", "itn"))
    streaming: bool | None = None
    model_dir: str = Field("", validate_default=True)
    timeout: float = Field(15.0, gt=0, le=120)

    @field_validator("model_type", "language", "use_itn", "streaming", "timeout", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "":
            return cls.model_fields[info.field_name or ""].default
        return "zipformer" if info.field_name == "model_type" and value == "transducer" else value

    @field_validator("language")
    @classmethod
    def _is_heard(cls, language: str, info: ValidationInfo) -> str:
        return checked_language(info.data.get("model_type", "whisper"), language)

    @field_validator("streaming")
    @classmethod
    def _can_stream(cls, streaming: bool | None, info: ValidationInfo) -> bool | None:
        if streaming and info.data.get("model_type", "zipformer") not in STREAMING_TYPES:
            raise ValueError(f"false: only {' and '.join(STREAMING_TYPES)} models hear while the user speaks")
        return streaming

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str, info: ValidationInfo) -> str:
        kind = info.data.get("model_type", "sense_voice")
        folder, streaming = Path(model_dir), streams(model_dir, kind, info.data.get("streaming"))
        found = model_dir and recogniser(kind, folder, language="auto", itn=True, streaming=streaming)
        model = "" if found else missing_model(model_dir, WANTED[kind], FETCHED[kind])
        return checked(model_dir, missing_package("sherpa_onnx", "sherpa"), model)


def streams(model_dir: str, kind: str, wanted: bool | None) -> bool:
    """Whether the model in a folder hears while the user speaks: as `wanted`, else by the folder's name."""
    by_name = kind in STREAMING_TYPES and "streaming" in Path(model_dir).name.lower()
    return by_name if wanted is None else wanted


@provider("asr", "sherpa_onnx_local", SherpaOnnxLocalAsrOptions)
class SherpaOnnxLocalAsr(BatchAsr):
    """Hears in the inference pool (kind "asr")."""

    needs_services: ClassVar[bool] = True

    def __init__(self, options: SherpaOnnxLocalAsrOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        streaming = streams(options.model_dir, options.model_type, options.streaming)
        self.traits = AsrTraits(offline=True, streaming=streaming)
        model = recogniser(
            options.model_type,
            Path(options.model_dir),
            language=options.language,
            itn=options.use_itn,
            streaming=streaming,
        )
        self._model = SherpaLease(model, services.inference, kind="asr", where=self._where)

    def warm_up(self) -> None:
        """Load the model. Raises SettingsError when the library cannot use it."""
        self._model.get()

    def open(self, context: CallContext) -> AsrStream:
        """Raises VendorUnavailable."""
        if not self.traits.streaming:
            return super().open(context)
        model = self._model.get()
        return LocalUtterance(
            Listening(model), self._inference, vendor=self.name or self.type_name, timeout=self._options.timeout
        )

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """Raises VendorUnavailable, VendorTimeout, Overloaded."""
        model = self._model.get()
        if self.traits.streaming:
            return self._run(Listening(model).end, pcm)
        return self._run(heard, model, self._options.model_type, pcm)

    def close(self) -> None:
        self._model.release()

    def _run(self, function: Any, *args: Any) -> Transcript:
        try:
            found: Transcript = self._inference.run(function, *args, kind="asr", deadline=self._options.timeout)
        except LIBRARY_ERRORS as error:
            raise VendorUnavailable(self.name, f"its library failed: {error}"[:300]) from error
        return found

    def _where(self) -> str:
        return f"ASR.{self.name or self.type_name}.model_dir"
