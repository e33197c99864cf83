"""MiniMax speech over HTTP (T2A V2): one request per sentence, sound as hexadecimal digits in server-sent events.

Source: platform.minimaxi.com/docs/api-reference/speech-t2a-http, platform.minimax.io/docs/api-reference/errorcode. The
last event repeats the whole sound unless it is asked not to. Not taken over from the existing server: its default
`pronunciation_dict`, an example of the vendor's that makes a Chinese word English."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorSilent,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.net.http import HttpReply
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.http_voice import HttpVoice
from xiaozhi.providers.families.voice_scales import VoiceScales, scaled
from xiaozhi.providers.registry import provider
from xiaozhi.speech.language import named_language

_TIMED_OUT: Final = (1001,)
_BUSY: Final = (1002, 1039, 1041, 2045, 2056)
_THEIR_FAULT: Final = (1000, 1013, 1024, 1033)
_NOTHING_TO_SAY: Final = (1042,)
"""The text has too few characters that can be spoken."""
# `language_boost` by the language's code.
_BOOSTS: Final[dict[str, str]] = {
    "zh": "Chinese",
    "en": "English",
    "ja": "Japanese",
    "ko": "Korean",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "pt": "Portuguese",
    "it": "Italian",
    "nl": "Dutch",
    "ru": "Russian",
    "uk": "Ukrainian",
    "pl": "Polish",
    "tr": "Turkish",
    "vi": "Vietnamese",
    "id": "Indonesian",
    "th": "Thai",
    "ar": "Arabic",
    "hi": "Hindi",
}


def _ascii(value: str) -> str:
    if not value.isascii():
        raise ValueError("expected the group's number; the sample text is still there")
    return value


class MinimaxVoiceSetting(BaseModel):
    """`voice_setting` of the vendor; further keys (latex_read, english_normalization, ...) are passed on."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)

    voice_id: str = "female-shaonv"
    speed: float = Field(1.0, ge=0.5, le=2.0)
    vol: float = Field(1.0, gt=0, le=10)
    pitch: int = Field(0, ge=-12, le=12)
    emotion: str | None = "happy"


class MinimaxAudioSetting(BaseModel):
    """`audio_setting` of the vendor; further keys are passed on."""

    model_config = ConfigDict(extra="allow", frozen=True)

    sample_rate: Literal[8000, 16000, 22050, 24000, 32000, 44100] = 24_000
    bitrate: Literal[32000, 64000, 128000, 256000] = 128_000
    format: Literal["pcm", "mp3", "flac"] = "pcm"
    channel: Literal[1] = 1


class MinimaxTtsOptions(VoiceScales, KeyedOptions):
    """`voice_id` comes before `voice_setting.voice_id`. `timber_weights` mixes voices: then no single one is sent."""

    api_key: ApiKey
    group_id: Annotated[str, AfterValidator(_ascii)] = ""
    """Not needed by newer keys."""
    api_url: HttpUrl = Field(
        "https://api.minimaxi.com/v1/t2a_v2", validation_alias=AliasChoices("api_url", "base_url", "url")
    )
    """Outside of China: https://api.minimax.io/v1/t2a_v2."""
    model: str = Field("speech-01-turbo", validation_alias=AliasChoices("model", "model_name"))
    voice_id: str = Field("", validation_alias=AliasChoices("private_voice", "voice_id", "voice"))
    voice_setting: MinimaxVoiceSetting = MinimaxVoiceSetting()
    audio_setting: MinimaxAudioSetting = MinimaxAudioSetting()
    pronunciation_dict: dict[str, list[str]] = {}
    timber_weights: list[dict[str, Any]] = Field([], validation_alias=AliasChoices("timber_weights", "timbre_weights"))
    language_boost: str = ""
    language: str = ""
    """A language's name in any language; `language_boost` comes before it."""

    def request_body(self) -> dict[str, Any]:
        """What is sent with every sentence."""
        voice = self.voice_setting.model_dump(exclude_none=True)
        voice["voice_id"] = "" if self.timber_weights else self.voice_id or voice["voice_id"]
        voice["speed"] = scaled(self.rate_percent, 0.5, 1.0, 2.0, otherwise=voice["speed"])
        voice["vol"] = scaled(self.volume_percent, 0.1, 1.0, 10.0, otherwise=voice["vol"])
        voice["pitch"] = round(scaled(self.pitch_percent, -12, 0, 12, otherwise=voice["pitch"]))
        extras = {
            "pronunciation_dict": self.pronunciation_dict,
            "timber_weights": self.timber_weights,
            "language_boost": self.language_boost or _BOOSTS.get(named_language(self.language), ""),
        }
        return {
            "model": self.model,
            "stream": True,
            "stream_options": {"exclude_aggregated_audio": True},
            "voice_setting": voice,
            "audio_setting": self.audio_setting.model_dump(),
            **{key: value for key, value in extras.items() if value},
        }


@provider("tts", "minimax_httpstream", MinimaxTtsOptions)
class MinimaxTts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: MinimaxTtsOptions, services: Services) -> None:
        audio = options.audio_setting
        url = options.api_url
        if options.group_id:
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode({"GroupId": options.group_id})
        super().__init__(options, services, url, form=audio.format, sample_rate=audio.sample_rate)
        self._body = options.request_body()

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"json": {**self._body, "text": sentence}}

    def body(self, reply: HttpReply) -> Iterator[bytes]:
        """The sound of the events. Refusals come as one event, or as plain JSON."""
        if reply.content_type == "application/json":
            yield from self._sound_of(reply.json(), heard=False)
            return
        heard = found = False
        for data in reply.sse():
            found = True
            try:
                event = orjson.loads(data)
            except orjson.JSONDecodeError:
                reply.garbage("an event that is not JSON", data)
            for piece in self._sound_of(event, heard=heard):
                heard = True
                yield piece
        if not found:
            raise VendorGarbage(self.vendor, f"no events ({reply.content_type})")

    def _sound_of(self, event: Any, *, heard: bool) -> Iterator[bytes]:
        error = self.refusal(event)
        if error is not None:
            raise error
        data = event.get("data") if isinstance(event, dict) else None
        sound = data.get("audio") if isinstance(data, dict) else None
        if not sound or (data is not None and data.get("status") == 2 and heard):
            return  # the last event, with all of it once more
        try:
            yield bytes.fromhex(sound)
        except (TypeError, ValueError):
            raise VendorGarbage(self.vendor, "sound that is not hexadecimal") from None

    def refusal(self, answer: Any) -> VendorError | None:
        """The error of a status code."""
        status = answer.get("base_resp") if isinstance(answer, dict) else None
        code = status.get("status_code") if isinstance(status, dict) else 0
        if not isinstance(status, dict) or not code:
            return None
        text = self.http.redact(f"{code} {status.get('status_msg', '')}")
        made: type[VendorError] = VendorRejected
        for kind, codes in (
            (VendorBusy, _BUSY),
            (VendorTimeout, _TIMED_OUT),
            (VendorUnavailable, _THEIR_FAULT),
            (VendorSilent, _NOTHING_TO_SAY),
        ):
            if code in codes:
                made = kind
        return made(self.vendor, text)
