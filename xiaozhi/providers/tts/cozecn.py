"""Coze's speech (coze.cn): one request per sentence, answered with a sound file.

Source: www.coze.cn/open/docs/developer_guides/text_to_speech and the package cozepy. Coze gives its own error codes,
in the body of a 200 as well (www.coze.cn/open/docs/developer_guides/coze_error_codes)."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import AliasChoices, Field, field_validator

from xiaozhi.errors import VendorBusy, VendorError, VendorRejected, VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.http_voice import HttpVoice
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.families.voice_scales import RateScale, VolumeScale, scaled
from xiaozhi.providers.registry import provider

SLOWEST, FASTEST = 0.5, 2.0
QUIETEST, LOUDEST = -50, 100
_BUSY: Final = (4013, 4016)
_THEIR_FAULT: Final = range(5000, 6000)


class CozeCnTtsOptions(RateScale, VolumeScale, KeyedOptions):
    """`speed`: 0.5 to 2, 1 being the voice's own. The existing server takes the same key for a percentage (-100 to
    100); values outside of the vendor's range are read like that."""

    api_key: ApiKey = Field(validation_alias=AliasChoices("access_token", "api_key"))
    api_url: HttpUrl = Field(
        "https://api.coze.cn/v1/audio/speech", validation_alias=AliasChoices("api_url", "base_url", "url")
    )
    voice: str = Field(min_length=1, validation_alias=AliasChoices("private_voice", "voice", "voice_id"))
    response_format: Literal["wav", "pcm", "mp3", "ogg_opus"] = Field(
        "wav", validation_alias=AliasChoices("response_format", "format")
    )
    sample_rate: Literal[8000, 16000, 22050, 24000, 32000, 44100, 48000] = 24_000
    speed: float = 1.0
    loudness_rate: int = Field(0, ge=QUIETEST, le=LOUDEST)

    @field_validator("speed")
    @classmethod
    def _ratio(cls, value: float) -> float:
        if SLOWEST <= value <= FASTEST:
            return value
        if -100 <= value <= 100:
            return scaled(value, SLOWEST, 1.0, FASTEST, otherwise=1.0)
        raise ValueError(f"expected {SLOWEST} to {FASTEST}, or a percentage from -100 to 100")


@provider("tts", "cozecn", CozeCnTtsOptions)
class CozeCnTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: CozeCnTtsOptions, services: Services) -> None:
        url = endpoint(options.api_url, "audio/speech")
        super().__init__(options, services, url, form=options.response_format, sample_rate=options.sample_rate)
        loudness = scaled(options.volume_percent, QUIETEST, 0, LOUDEST, otherwise=options.loudness_rate)
        self._body = {
            "voice_id": options.voice,
            "response_format": options.response_format,
            "sample_rate": options.sample_rate,
            "speed": scaled(options.rate_percent, SLOWEST, 1.0, FASTEST, otherwise=options.speed),
            "loudness_rate": round(loudness),
        }

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"json": {**self._body, "input": sentence}}

    def refusal(self, answer: Any) -> VendorError | None:
        """The error of a code."""
        code = answer.get("code") if isinstance(answer, dict) else None
        if not isinstance(code, int) or not code:
            return None
        text = self.http.redact(f"{code} {answer.get('msg', '')}")
        if code in _BUSY:
            return VendorBusy(self.vendor, text)
        return VendorUnavailable(self.vendor, text) if code in _THEIR_FAULT else VendorRejected(self.vendor, text)
