"""Fish Speech: a server of one's own, or fish.audio: one request per sentence, in MessagePack, because reference
recordings are bytes.

Source: github.com/fishaudio/fish-speech (tools/server, fish_speech/utils/schema.py), docs.fish.audio/api-reference/
endpoint/openapi-v1/text-to-speech. A server of one's own streams WAV only, when `streaming` says so; fish.audio always
streams, and takes its `model` in a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import ormsgpack
from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.http_voice import HttpVoice, as_sent
from xiaozhi.providers.registry import provider

_SENT: Final = (
    "reference_id",
    "normalize",
    "max_new_tokens",
    "chunk_length",
    "top_p",
    "repetition_penalty",
    "temperature",
    "streaming",
    "use_memory_cache",
    "seed",
)


class FishspeechTtsOptions(KeyedOptions):
    """`reference_audio`: sound files on this machine; `reference_text`: what is said in each, or a text file with it.
    `rate`: Hz of raw PCM (`response_format: pcm`), which does not say so itself."""

    api_key: ApiKey = SecretStr("")
    api_url: HttpUrl = Field("http://127.0.0.1:8080/v1/tts", validation_alias=AliasChoices("api_url", "url"))
    model: str = Field("", pattern=r"^[\w.-]*$")
    """Of fish.audio, such as s1; servers of one's own have one only."""
    response_format: Literal["wav", "pcm", "mp3", "opus"] = Field(
        "wav", validation_alias=AliasChoices("response_format", "format")
    )
    reference_id: str | None = Field(None, validation_alias=AliasChoices("private_voice", "reference_id"))
    reference_audio: list[str] = Field([], validation_alias=AliasChoices("ref_audio", "reference_audio"))
    reference_text: list[str] = Field([], validation_alias=AliasChoices("ref_text", "reference_text"))
    normalize: bool = True
    max_new_tokens: int = Field(1024, ge=0)
    chunk_length: int = Field(200, ge=100, le=300)
    top_p: float = Field(0.7, ge=0.1, le=1.0)
    repetition_penalty: float = Field(1.2, ge=0.9, le=2.0)
    temperature: float = Field(0.7, ge=0.1, le=1.0)
    streaming: bool = False
    use_memory_cache: Literal["on", "off"] = "on"
    seed: int | None = None
    rate: int = Field(44_100, ge=8_000, le=48_000)

    @field_validator("use_memory_cache", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        return ("on" if value else "off") if isinstance(value, bool) else value  # YAML reads on and off as booleans

    @model_validator(mode="after")
    def _fitting(self) -> FishspeechTtsOptions:
        if len(self.reference_audio) != len(self.reference_text):
            raise ValueError("expected as many texts in reference_text as there are files in reference_audio")
        if self.streaming and self.response_format != "wav" and not self.model:
            raise ValueError("expected response_format wav with streaming: the server streams nothing else")
        return self


@provider("tts", "fishspeech", FishspeechTtsOptions)
class FishspeechTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: FishspeechTtsOptions, services: Services) -> None:
        super().__init__(options, services, options.api_url, form=options.response_format, sample_rate=options.rate)
        missing = self.faults(options, services.config_dir)
        if missing:
            raise SettingsError(missing)
        self._headers = {"Content-Type": "application/msgpack"} | ({"model": options.model} if options.model else {})
        self._body: dict[str, Any] = {
            "format": options.response_format,
            "references": [
                {"audio": Path(audio).read_bytes(), "text": _text_of(text)}
                for audio, text in zip(options.reference_audio, options.reference_text, strict=True)
            ],
            **as_sent(options, _SENT),
        }
        if options.model and options.response_format == "pcm":
            self._body["sample_rate"] = options.rate

    @classmethod
    def faults(cls, options: FishspeechTtsOptions, config_dir: Path) -> list[Fault]:
        """Recordings that are not there."""
        return [
            Fault(
                "reference_audio", repr(path), "a sound file on this machine (relative to where the server is started)"
            )
            for path in options.reference_audio
            if not Path(path).is_file()
        ]

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"data": ormsgpack.packb({**self._body, "text": sentence}), "headers": self._headers}


def _text_of(text: str) -> str:
    """The text, or what stands in the file that it names."""
    if text.endswith(".txt") and Path(text).is_file():
        return Path(text).read_text("utf-8").strip()
    return text
