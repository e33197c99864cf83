"""Speech synthesis on this machine by sherpa-onnx: VITS (Melo, Piper, ...), Kokoro and Matcha voices.

The library's own streaming (a callback) hands out whole sentences only, and one sentence is what a voice is given here.
So a sentence is cut into clauses, each is one job of the pool, and the first is heard while the second is made. An
interruption ends the job that waits; the clause that is being made is finished and dropped.

Source: https://k2-fsa.github.io/sherpa/onnx/tts/ and the Python API of k2-fsa/sherpa-onnx 1.13. The library is imported
when such a block is used: make setup WITH=sherpa. Nothing is downloaded here: server.py models fetch ..."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault, SettingsError, VendorSilent, VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.clauses import clauses
from xiaozhi.providers.families.model_files import checked, missing_model, missing_package
from xiaozhi.providers.families.sherpa_library import LIBRARY_ERRORS
from xiaozhi.providers.families.sherpa_models import SherpaLease
from xiaozhi.providers.families.sherpa_voices import FETCHED, WANTED, kind_of, speakers_of, spoken, voice
from xiaozhi.providers.families.voice_scales import RateScale, scaled
from xiaozhi.providers.registry import provider

_PIECE_S = 0.5
"""Small enough that encoding starts before a long clause has been looked at whole."""


class SherpaOnnxLocalTtsOptions(RateScale):
    """`model_type`: "" for what the folder's files say. `speaker`: its number; consoles call it private_voice.
    `vocoder`: a file, for Matcha, where it is not in `model_dir`. `speed`: more is faster."""

    model_type: Literal["", "vits", "kokoro", "matcha"] = ""
    vocoder: str = ""
    model_dir: str = Field("", validate_default=True)
    speaker: int = Field(
        0, ge=0, validation_alias=AliasChoices("private_voice", "speaker", "speaker_id", "sid", "voice")
    )
    speed: float = Field(1.0, ge=0.5, le=2.0)
    timeout: float = Field(30.0, gt=0, le=120)

    @field_validator("speaker", "speed", "timeout", "rate_percent", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[info.field_name or ""].default if value == "" else value

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str, info: ValidationInfo) -> str:
        kind = info.data.get("model_type") or kind_of(Path(model_dir))
        found = model_dir and voice(kind, Path(model_dir), _path(info.data.get("vocoder", "")))
        model = "" if found else missing_model(model_dir, WANTED[kind], FETCHED[kind])
        return checked(model_dir, missing_package("sherpa_onnx", "sherpa"), model)


def _path(text: str) -> Path | None:
    return Path(text) if text else None


@provider("tts", "sherpa_onnx_local", SherpaOnnxLocalTtsOptions)
class SherpaOnnxLocalTts(SentenceTts):
    """Speaks in the inference pool (kind "tts"). Each sound carries its model's rate."""

    needs_services: ClassVar[bool] = True
    traits = TtsTraits(offline=True, streaming=False)

    def __init__(self, options: SherpaOnnxLocalTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        self._speed = scaled(options.rate_percent, 0.5, 1.0, 2.0, otherwise=options.speed)
        folder = Path(options.model_dir)
        model = voice(options.model_type or kind_of(folder), folder, _path(options.vocoder))
        self._model = SherpaLease(model, services.inference, kind="tts", where=lambda: self._where("model_dir"))

    def warm_up(self) -> None:
        """Load the model. Raises SettingsError when the library cannot use it, or has no such speaker."""
        known = speakers_of(self._model.get())
        if self._options.speaker >= known:
            expected = f"a speaker of this model: 0 to {known - 1}"
            raise SettingsError([Fault(self._where("speaker"), str(self._options.speaker), expected)])

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """Yield s16le mono PCM. Raises VendorUnavailable, VendorSilent, VendorTimeout, Overloaded."""
        heard = False
        for clause in clauses(sentence):
            model = self._model.get()
            try:
                pcm, rate = self._inference.run(
                    spoken,
                    model,
                    clause,
                    self._options.speaker,
                    self._speed,
                    kind="tts",
                    deadline=self._options.timeout,
                )
            except LIBRARY_ERRORS as error:
                raise VendorUnavailable(self.name, f"its library failed: {error}"[:300]) from error
            piece = int(_PIECE_S * rate) * 2 or 2
            for start in range(0, len(pcm), piece):
                heard = True
                yield Pcm(pcm[start : start + piece], rate)
        if not heard:
            raise VendorSilent(self.name, "the model knows no sound for this text")

    def close(self) -> None:
        self._model.release()

    def _where(self, key: str) -> str:
        return f"TTS.{self.name or self.type_name}.{key}"
