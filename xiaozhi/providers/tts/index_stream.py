"""Index-TTS served by index-tts-vllm: one request per sentence, with the name of a registered speaker.

Source: github.com/Ksuriuri/index-tts-vllm (README, API_USAGE.md). The project answers with a WAV; servers made from it
stream raw PCM at 24 kHz. What comes is judged by its content, so both are right."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field

from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_options import HttpUrl, KeyedOptions
from xiaozhi.providers.families.http_voice import HttpVoice
from xiaozhi.providers.registry import provider


class IndexStreamTtsOptions(KeyedOptions):
    """`voice`: a speaker of the server's assets/speaker.json. `api_key` is for a gateway in front of the server."""

    api_url: HttpUrl = Field("http://127.0.0.1:11996/tts", validation_alias=AliasChoices("api_url", "url"))
    voice: str = Field("xiao_he", validation_alias=AliasChoices("private_voice", "voice"))
    audio_format: Literal["pcm", "wav"] = Field("pcm", validation_alias=AliasChoices("audio_format", "format"))
    sample_rate: int = Field(24_000, ge=8_000, le=48_000)
    """Hz of raw PCM, which does not say so itself."""


@provider("tts", "index_stream", IndexStreamTtsOptions)
class IndexStreamTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: IndexStreamTtsOptions, services: Services) -> None:
        super().__init__(options, services, options.api_url, form=options.audio_format, sample_rate=options.sample_rate)
        self._voice = options.voice

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"json": {"text": sentence, "character": self._voice}}
