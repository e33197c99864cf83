"""Any service that is asked for one sentence by an HTTP request which the configuration describes, and answers with
its sound.

`{prompt_text}` in a value of `params`, at any depth, becomes the sentence. POST sends `params` as JSON, GET as the
query. Nothing is taken out of an answer: it has to be the sound itself, in any format that FFmpeg knows."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_options import HttpUrl, KeyedOptions
from xiaozhi.providers.families.http_voice import HttpVoice
from xiaozhi.providers.registry import provider

PLACEHOLDER: Final = "{prompt_text}"
_SECRET = re.compile("(?i)key|token|secret|password|sign")
"""In the name of a parameter."""


class CustomTtsOptions(KeyedOptions):
    """`params`: a mapping, or JSON of one, as management consoles keep it; `headers` the same. `sample_rate`: Hz of raw
    PCM (`format: pcm`), which does not say so itself."""

    url: HttpUrl
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, Any]
    format: Literal["wav", "mp3", "pcm", "opus", "ogg", "flac", "aac", "m4a"] = "wav"
    sample_rate: int = Field(24_000, ge=8_000, le=48_000)

    def secrets(self) -> list[str]:
        """Parameters may be secret as well."""
        named = [value for name, value in self.params.items() if isinstance(value, str) and _SECRET.search(name)]
        return [*super().secrets(), *(value for value in named if PLACEHOLDER not in value)]

    @field_validator("method", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("params")
    @classmethod
    def _asks_for_the_sentence(cls, value: dict[str, Any]) -> dict[str, Any]:
        if PLACEHOLDER not in str(value):
            raise ValueError(f"expected {PLACEHOLDER} in one of the values, where the sentence is to stand")
        return value


@provider("tts", "custom", CustomTtsOptions)
class CustomTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: CustomTtsOptions, services: Services) -> None:
        super().__init__(options, services, options.url, form=options.format, sample_rate=options.sample_rate)
        self._options = options

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        params = filled(self._options.params, sentence)
        if self._options.method == "POST":
            return {"json": params}
        query = urllib.parse.urlencode(params, doseq=True)
        parts = urllib.parse.urlsplit(self.url)
        joined = f"{parts.query}&{query}" if parts.query else query
        return {"method": "GET", "url": parts._replace(path=parts.path or "/", query=joined, fragment="").geturl()}


def filled(value: Any, sentence: str) -> Any:
    """`value` with the sentence in its places."""
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, sentence)
    if isinstance(value, Mapping):
        return {key: filled(item, sentence) for key, item in value.items()}
    return [filled(item, sentence) for item in value] if isinstance(value, list) else value
