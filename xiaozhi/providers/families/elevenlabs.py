"""What the two voices of ElevenLabs share: how their blocks are written, how it refuses. Source:
elevenlabs.io/docs/api-reference."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

from pydantic import AliasChoices, Field

from xiaozhi.errors import VendorBusy, VendorError
from xiaozhi.providers.families.http_options import ApiKey, KeyedOptions
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.families.voice_scales import RateScale, scaled
from xiaozhi.speech.language import named_language

SLOWEST, FASTEST = 0.7, 1.2
_BUSY: Final = ("too_many_concurrent_requests", "rate_limit_exceeded", "system_busy", "max_active_conversations")


class ElevenlabsOptions(RateScale, KeyedOptions):
    """`voice_settings`: stability, similarity_boost, style, speed, use_speaker_boost. `language`: a code (ISO 639-1) or
    a language's name; models that cannot be told ignore it."""

    api_key: ApiKey
    voice_id: str = Field(min_length=1, validation_alias=AliasChoices("private_voice", "voice_id", "voice"))
    model_id: str = Field("eleven_flash_v2_5", validation_alias=AliasChoices("model_id", "model", "model_name"))
    language: str = Field("", validation_alias=AliasChoices("language_code", "language"))
    voice_settings: dict[str, Any] = {}

    def credentials(self) -> dict[str, str]:
        """The key has a header of its own."""
        return {"xi-api-key": self.api_key.get_secret_value()}

    @property
    def language_code(self) -> str:
        """As it is sent, "" for none."""
        return named_language(self.language) or self.language

    def settings(self) -> dict[str, Any]:
        """`voice_settings` as they are sent."""
        if self.rate_percent is None:
            return dict(self.voice_settings)
        return {**self.voice_settings, "speed": scaled(self.rate_percent, SLOWEST, 1.0, FASTEST, otherwise=1.0)}

    def address(self, base: str, end: str, **query: str) -> str:
        """The address of an endpoint of this voice; empty parts of the query are left out."""
        voice = urllib.parse.quote(self.voice_id, safe="")
        asked = urllib.parse.urlencode({name: value for name, value in query.items() if value})
        return f"{base.rstrip('/').removesuffix('/v1')}/v1/text-to-speech/{voice}/{end}?{asked}"


def refusal(vendor: str, status: str, said: Mapping[str, Any]) -> VendorError:
    """The error of an answer's `status` ("quota_exceeded"); `said` is free of secrets."""
    if status in _BUSY:
        return VendorBusy(vendor, f"{status} {said.get('message', '')}".strip())
    return error_in_answer(vendor, {"type": status, "message": said.get("message", "")})
