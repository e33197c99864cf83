"""Speech recognition on this machine by Whisper on CTranslate2: some 90 languages, whole utterances, in a window that
is hardly longer than they are.

The library is imported when such a block is used: make setup WITH=speech. The folder is one of the faster-whisper
models, of any size: server.py models fetch faster-whisper-base, or Systran/faster-whisper-small and larger ones from
Hugging Face. Nothing is downloaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.models.catalogue import FOLDER
from xiaozhi.models.speech import WHISPER_BASE
from xiaozhi.providers.contracts.asr import AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.model_files import checked, missing_model, missing_package
from xiaozhi.providers.families.sherpa_recognisers import as_floats, checked_language
from xiaozhi.providers.families.whisper import LANGUAGES, WANTED
from xiaozhi.providers.families.whisper_listener import WhisperListener, is_whisper
from xiaozhi.providers.registry import provider


class WhisperAsrOptions(ProviderOptions):
    """`model_dir`: the folder of a model. `language`: "auto", or a code such as zh. `timeout`: seconds from the end of
    speech to its text."""

    model_dir: str = Field(str(FOLDER / WHISPER_BASE), validate_default=True)
    language: str = "auto"
    timeout: float = Field(20.0, gt=0, le=120)

    @field_validator("model_dir", "language", "timeout", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[info.field_name or ""].default if value == "" else value

    @field_validator("language")
    @classmethod
    def _is_a_code(cls, language: str) -> str:
        code = checked_language("whisper", language)
        if code != "auto" and code not in LANGUAGES:
            raise ValueError("auto, or a code of two letters such as zh or en")
        return code

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str) -> str:
        model = "" if is_whisper(Path(model_dir)) else missing_model(model_dir, WANTED, WHISPER_BASE)
        return checked(model_dir, missing_package("ctranslate2", "speech"), model)


@provider("asr", "whisper", WhisperAsrOptions)
class WhisperAsr(BatchAsr):
    """Hears in the inference pool (kind "asr")."""

    needs_services: ClassVar[bool] = True
    traits = AsrTraits(offline=True, streaming=False)

    def __init__(self, options: WhisperAsrOptions, services: Services) -> None:
        self._language = "" if options.language == "auto" else options.language
        self._timeout = options.timeout
        self._listener = WhisperListener(Path(options.model_dir), services.inference, self._where)

    def warm_up(self) -> None:
        """Load the model. Raises SettingsError when the library cannot use it, or it does not know the language."""
        if not self._listener.get().is_multilingual and self._language not in ("", "en"):
            key = f"ASR.{self.name or self.type_name}.language"
            raise SettingsError([Fault(key, self._language, "en: this model hears English only")])

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """Raises VendorUnavailable, VendorTimeout, Overloaded."""
        return self._listener.hear(as_floats(pcm), self._language, self._timeout)

    def close(self) -> None:
        self._listener.release()

    def _where(self) -> str:
        return f"ASR.{self.name or self.type_name}.model_dir"
