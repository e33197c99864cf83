"""ElevenLabs: one request per sentence, sound streamed back. `elevenlabs_stream` sends the text while it is written.

Source: elevenlabs.io/docs/api-reference/text-to-speech/stream. Raw PCM at 24 kHz unless the block says otherwise: it is
in every plan and needs no decoding."""

from __future__ import annotations

import re
from typing import Any

from pydantic import AliasChoices, Field, field_validator

from xiaozhi.errors import VendorError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.elevenlabs import ElevenlabsOptions, refusal
from xiaozhi.providers.families.http_options import HttpUrl
from xiaozhi.providers.families.http_voice import HttpVoice
from xiaozhi.providers.registry import provider

_FORMAT = re.compile(r"(pcm|mp3|opus|wav)_(\d{4,5})(?:_\d{2,3})?")


class ElevenlabsTtsOptions(ElevenlabsOptions):
    """`output_format`: codec, Hz and kbit/s, such as mp3_22050_32 or opus_48000_32."""

    base_url: HttpUrl = Field("https://api.elevenlabs.io", validation_alias=AliasChoices("base_url", "api_url", "url"))
    output_format: str = Field("pcm_24000", validation_alias=AliasChoices("output_format", "response_format", "format"))
    seed: int | None = Field(None, ge=0)
    apply_text_normalization: str = Field("", pattern="^(|auto|on|off)$")

    @field_validator("output_format")
    @classmethod
    def _playable(cls, value: str) -> str:
        if _FORMAT.fullmatch(value) is None:
            raise ValueError("expected pcm_24000, opus_48000_32, mp3_22050_32 or another of pcm, opus, mp3, wav")
        return value


@provider("tts", "elevenlabs", ElevenlabsTtsOptions)
class ElevenlabsTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: ElevenlabsTtsOptions, services: Services) -> None:
        form, rate, *_ = options.output_format.split("_")
        url = options.address(options.base_url, "stream", output_format=options.output_format)
        super().__init__(options, services, url, form=form, sample_rate=int(rate))
        extras = {
            "language_code": options.language_code,
            "voice_settings": options.settings(),
            "apply_text_normalization": options.apply_text_normalization,
            "seed": options.seed,
        }
        self._body = {"model_id": options.model_id} | {
            key: value for key, value in extras.items() if value not in ("", None, {})
        }

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"json": {**self._body, "text": sentence}}

    def refusal(self, answer: Any) -> VendorError | None:
        """The error that `detail` stands for."""
        detail = answer.get("detail") if isinstance(answer, dict) else None
        if not isinstance(detail, dict):
            return super().refusal(answer)
        said = {"message": self.http.redact(str(detail.get("message", "")))}
        return refusal(self.vendor, str(detail.get("status", "")), said)
