"""SiliconFlow's speech (CosyVoice 2 and others): one request per sentence, sound streamed back.

Source: docs.siliconflow.cn/cn/api-reference/audio/create-speech and .../userguide/capabilities/text-to-speech. The
existing server reads `speed` and `gain` and never sends them; here they count."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import AliasChoices, Field

from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.http_voice import HttpVoice
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.families.voice_scales import RateScale, VolumeScale, scaled
from xiaozhi.providers.registry import provider

SLOWEST, FASTEST = 0.25, 4.0
QUIETEST_DB, LOUDEST_DB = -10.0, 10.0
# What each format is offered at, in Hz; the rest is left to the service.
_RATES: Final[dict[str, int]] = {"pcm": 24_000, "wav": 24_000, "opus": 48_000}


class SiliconflowTtsOptions(RateScale, VolumeScale, KeyedOptions):
    """`voice` is the model's name and the voice's ("FunAudioLLM/CosyVoice2-0.5B:alex"), or that of an uploaded voice
    ("speech:...")."""

    api_key: ApiKey = Field(validation_alias=AliasChoices("access_token", "api_key"))
    api_url: HttpUrl = Field(
        "https://api.siliconflow.cn/v1/audio/speech", validation_alias=AliasChoices("api_url", "base_url", "url")
    )
    model: str = Field("FunAudioLLM/CosyVoice2-0.5B", validation_alias=AliasChoices("model", "model_name"))
    voice: str = Field("FunAudioLLM/CosyVoice2-0.5B:alex", validation_alias=AliasChoices("private_voice", "voice"))
    response_format: Literal["pcm", "wav", "mp3", "opus"] = Field(
        "pcm", validation_alias=AliasChoices("response_format", "format")
    )
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST)
    gain: float = Field(0.0, ge=QUIETEST_DB, le=LOUDEST_DB)
    """dB."""


@provider("tts", "siliconflow", SiliconflowTtsOptions)
class SiliconflowTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: SiliconflowTtsOptions, services: Services) -> None:
        form = options.response_format
        super().__init__(options, services, endpoint(options.api_url, "audio/speech"), form=form)
        self._body: dict[str, Any] = {
            "model": options.model,
            "voice": options.voice,
            "response_format": form,
            "stream": True,
            "speed": scaled(options.rate_percent, SLOWEST, 1.0, FASTEST, otherwise=options.speed),
            "gain": scaled(options.volume_percent, QUIETEST_DB, 0.0, LOUDEST_DB, otherwise=options.gain),
        }
        if form in _RATES:
            self._body["sample_rate"] = _RATES[form]

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"json": {**self._body, "input": sentence}}
