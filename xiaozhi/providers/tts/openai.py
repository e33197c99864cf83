"""Any OpenAI-compatible speech: one request per sentence, sound streamed back. Source:
platform.openai.com/docs/api-reference/audio/createSpeech.

Which format to ask for. Opus goes to the device without being decoded and encoded again, the cheapest there is, but
many compatible servers only make wav and mp3, and existing configuration files were written for a server that asked for
wav. Hence wav, unless the block says otherwise (`response_format`, or `format` as existing files spell it) or the
endpoint is OpenAI's own. What arrives is judged by its content."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.http_options import HttpUrl, KeyedOptions
from xiaozhi.providers.families.openai import endpoint, error_in_answer
from xiaozhi.providers.families.voice_scales import RateScale, scaled
from xiaozhi.providers.registry import provider
from xiaozhi.providers.sound import sounds

SLOWEST, FASTEST = 0.25, 4.0


class OpenAiTtsOptions(RateScale, KeyedOptions):
    """`api_url` (or `base_url`) is the full address of the endpoint or the base it hangs on."""

    api_url: HttpUrl = Field(
        "https://api.openai.com/v1/audio/speech", validation_alias=AliasChoices("api_url", "base_url", "url")
    )
    model: str = Field("tts-1", validation_alias=AliasChoices("model", "model_name"))
    voice: str = Field("alloy", validation_alias=AliasChoices("private_voice", "voice"))
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST)
    response_format: Literal["wav", "pcm", "mp3", "opus", "flac", "aac"] | None = Field(
        None, validation_alias=AliasChoices("response_format", "format")
    )
    sample_rate: int = Field(24_000, ge=8_000, le=48_000)
    """Hz of raw pcm, which does not say so itself. Other formats do."""
    instructions: str = ""
    """How to speak, for models that understand it."""
    extra_body: dict[str, Any] = {}


@provider("tts", "openai", OpenAiTtsOptions)
class OpenAiTts(SentenceTts):
    """One request per sentence."""

    needs_services = True

    def __init__(self, options: OpenAiTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        self._url = endpoint(options.api_url, "audio/speech")
        self._http = options.client(self._url)
        self._speed = scaled(options.rate_percent, SLOWEST, 1.0, FASTEST, otherwise=options.speed)
        own = urllib.parse.urlsplit(self._url).hostname == "api.openai.com"
        self.form = options.response_format or ("opus" if own else "wav")
        self.traits = TtsTraits(streaming=False, sample_rate=options.sample_rate)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes."""
        options = self._options
        body: dict[str, Any] = {
            "model": options.model,
            "input": sentence,
            "voice": options.voice,
            "response_format": self.form,
        }
        body["speed"] = self._speed
        if options.instructions:
            body["instructions"] = options.instructions
        with self._http.stream("POST", self._url, json=body | options.extra_body) as reply:
            yield from sounds(
                reply.chunks(),
                vendor=self._http.vendor,
                expected=self.form,
                sample_rate=options.sample_rate,
                inference=self._inference,
                content_type=str(reply.headers.get("content-type", "")),
                refusal=self._refusal,
            )

    def _refusal(self, answer: Any) -> VendorError | None:
        error = answer.get("error") if isinstance(answer, dict) else None
        return error_in_answer(self._http.vendor, error) if error else None

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
