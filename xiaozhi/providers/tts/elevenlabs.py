"""ElevenLabs: one request per sentence, sound streamed back.

Source: elevenlabs.io/docs/api-reference/text-to-speech/stream. Raw PCM at 24 kHz unless the block says otherwise: it is
in every plan and needs no decoding. The fast models (eleven_flash_v2_5) answer in about the time that a connection for
text as it is written would save, so there is none."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from pydantic import AliasChoices, Field, field_validator

from xiaozhi.errors import VendorBusy, VendorError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_voice import HttpVoice
from xiaozhi.providers.families.openai import ApiKey, HttpUrl, OpenAiOptions, error_in_answer
from xiaozhi.providers.families.voice_scales import RateScale, scaled
from xiaozhi.providers.registry import provider
from xiaozhi.speech.language import named_language

SLOWEST, FASTEST = 0.7, 1.2
_FORMAT = re.compile(r"(pcm|mp3|opus|wav)_(\d{4,5})(?:_\d{2,3})?")
_BUSY = ("too_many_concurrent_requests", "rate_limit_exceeded", "system_busy")


class ElevenlabsTtsOptions(RateScale, OpenAiOptions):
    """`voice_settings`: stability, similarity_boost, style, speed, use_speaker_boost. `language`: a code (ISO 639-1) or
    a language's name; models that cannot be told ignore it."""

    api_key: ApiKey
    base_url: HttpUrl = Field("https://api.elevenlabs.io", validation_alias=AliasChoices("base_url", "api_url", "url"))
    voice_id: str = Field(min_length=1, validation_alias=AliasChoices("private_voice", "voice_id", "voice"))
    model_id: str = Field("eleven_flash_v2_5", validation_alias=AliasChoices("model_id", "model", "model_name"))
    output_format: str = Field("pcm_24000", validation_alias=AliasChoices("output_format", "response_format", "format"))
    """Codec, Hz and kbit/s, such as mp3_22050_32 or opus_48000_32."""
    language: str = Field("", validation_alias=AliasChoices("language_code", "language"))
    voice_settings: dict[str, Any] = {}
    seed: int | None = Field(None, ge=0)
    apply_text_normalization: str = Field("", pattern="^(|auto|on|off)$")

    @field_validator("output_format")
    @classmethod
    def _playable(cls, value: str) -> str:
        if _FORMAT.fullmatch(value) is None:
            raise ValueError("expected pcm_24000, opus_48000_32, mp3_22050_32 or another of pcm, opus, mp3, wav")
        return value

    def credentials(self) -> dict[str, str]:
        """The key has a header of its own."""
        return {"xi-api-key": self.api_key.get_secret_value()}


@provider("tts", "elevenlabs", ElevenlabsTtsOptions)
class ElevenlabsTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: ElevenlabsTtsOptions, services: Services) -> None:
        form, rate, *_ = options.output_format.split("_")
        voice = urllib.parse.quote(options.voice_id, safe="")
        url = f"{options.base_url.removesuffix('/v1')}/v1/text-to-speech/{voice}/stream"
        query = urllib.parse.urlencode({"output_format": options.output_format})
        super().__init__(options, services, f"{url}?{query}", form=form, sample_rate=int(rate))
        settings = dict(options.voice_settings)
        if options.rate_percent is not None:
            settings["speed"] = scaled(options.rate_percent, SLOWEST, 1.0, FASTEST, otherwise=1.0)
        extras = {
            "language_code": named_language(options.language) or options.language,
            "voice_settings": settings,
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
        text = self.http.redact(f"{detail.get('status', '')} {detail.get('message', '')}")
        if detail.get("status") in _BUSY:
            return VendorBusy(self.vendor, text)
        return error_in_answer(self.vendor, detail)
