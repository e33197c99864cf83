"""Any OpenAI-compatible transcription: the whole utterance as a WAV in one request. Source:
platform.openai.com/docs/api-reference/audio.

`base_url` is the full address of the endpoint in existing configuration files; a base such as https://api.openai.com/v1
is accepted as well."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

from xiaozhi.audio.pcm import wav_file
from xiaozhi.chat import CallContext
from xiaozhi.net.http import multipart
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, SHORTEST_BYTES, BatchAsr, Transcript
from xiaozhi.providers.families.http_options import HttpUrl, KeyedOptions
from xiaozhi.providers.families.openai import endpoint
from xiaozhi.providers.families.transcription import transcript_in
from xiaozhi.providers.registry import provider


class OpenAiAsrOptions(KeyedOptions):
    """`language` (ISO 639-1) and `prompt` are hints for the recogniser."""

    base_url: HttpUrl = Field(validation_alias=AliasChoices("base_url", "url", "api_url"))
    model_name: str = Field(min_length=1, validation_alias=AliasChoices("model_name", "model"))
    language: str = ""
    prompt: str = ""
    temperature: float | None = Field(None, ge=0, le=1)


@provider("asr", "openai", OpenAiAsrOptions)
class OpenAiAsr(BatchAsr):
    """One multipart request per utterance."""

    def __init__(self, options: OpenAiAsrOptions) -> None:
        self._url = endpoint(options.base_url, "audio/transcriptions")
        self._http = options.client(self._url)
        self._fields: dict[str, str] = {"model": options.model_name}
        for key, value in (
            ("language", options.language),
            ("prompt", options.prompt),
            ("temperature", options.temperature),
        ):
            if value not in ("", None):
                self._fields[key] = str(value)

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of an utterance."""
        if len(pcm) < SHORTEST_BYTES:
            return Transcript("")
        fields: dict[str, Any] = {
            **self._fields,
            "file": ("utterance.wav", wav_file(pcm, ASR_SAMPLE_RATE), "audio/wav"),
        }
        body, content_type = multipart(fields)
        with self._http.stream("POST", self._url, data=body, headers={"Content-Type": content_type}) as reply:
            return transcript_in(reply.read(), self._http.vendor, reply.content_type)

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
