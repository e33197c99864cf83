"""GPT-SoVITS by its api_v2.py: one request per sentence, in the voice of a reference recording that lies on its server.

Source: github.com/RVC-Boss/GPT-SoVITS, the description at the top of api_v2.py. With `streaming_mode` (true, or 2 or 3
for newer versions) the sound comes while it is made."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field

from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.http_options import HttpUrl, KeyedOptions
from xiaozhi.providers.families.http_voice import HttpVoice, as_sent
from xiaozhi.providers.families.sovits import language_for_sovits
from xiaozhi.providers.families.voice_scales import RateScale, scaled
from xiaozhi.providers.registry import provider

SLOWEST, FASTEST = 0.5, 2.0
_ONLY_OURS = {"api_key", "timeout", "proxy", "verify_tls", "headers", "type", "url", "rate_percent"}

Language = Annotated[str, AfterValidator(language_for_sovits)]


class GptSovitsV2TtsOptions(RateScale, KeyedOptions):
    """The request's own keys. `ref_audio_path` and `aux_ref_audio_paths` are paths on the GPT-SoVITS server.
    `api_key` is for a gateway in front of it."""

    url: HttpUrl = Field("http://127.0.0.1:9880/tts", validation_alias=AliasChoices("url", "api_url"))
    text_lang: Language = Field("zh", validation_alias=AliasChoices("text_lang", "text_language", "language"))
    ref_audio_path: str = Field(
        min_length=1, validation_alias=AliasChoices("ref_audio", "ref_audio_path", "refer_wav_path")
    )
    aux_ref_audio_paths: list[str] = []
    prompt_text: str = Field("", validation_alias=AliasChoices("ref_text", "prompt_text"))
    prompt_lang: Language = Field("zh", validation_alias=AliasChoices("prompt_lang", "prompt_language"))
    top_k: int = 5
    top_p: float = 1.0
    temperature: float = 1.0
    text_split_method: str = "cut0"
    batch_size: int = 1
    batch_threshold: float = 0.75
    split_bucket: bool = True
    return_fragment: bool = False
    speed_factor: float = Field(1.0, gt=0)
    streaming_mode: bool | int = False
    seed: int = -1
    parallel_infer: bool = True
    repetition_penalty: float = 1.35
    media_type: str = Field("wav", pattern="^(wav|ogg|aac)$", validation_alias=AliasChoices("media_type", "format"))


@provider("tts", "gpt_sovits_v2", GptSovitsV2TtsOptions)
class GptSovitsV2Tts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: GptSovitsV2TtsOptions, services: Services) -> None:
        super().__init__(options, services, options.url, form=options.media_type)
        self._body = as_sent(options, set(GptSovitsV2TtsOptions.model_fields) - _ONLY_OURS)
        self._body["speed_factor"] = scaled(options.rate_percent, SLOWEST, 1.0, FASTEST, otherwise=options.speed_factor)

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"json": {**self._body, "text": sentence}}
