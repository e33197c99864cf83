"""GPT-SoVITS by its api.py: one request per sentence, in the voice of a reference recording that lies on its server.

Source: github.com/RVC-Boss/GPT-SoVITS, the description at the top of api.py. Asked by POST, which carries what GET
carries in an address that logs would keep. Whether the sound streams, and in which format, is decided where api.py is
started (`-sm`, `-mt`); what comes is judged by its content."""

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
_ONLY_OURS = {"api_key", "timeout", "proxy", "verify_tls", "headers", "type", "url", "rate_percent", "form"}

Language = Annotated[str, AfterValidator(language_for_sovits)]


class GptSovitsV3TtsOptions(RateScale, KeyedOptions):
    """The request's own keys. `refer_wav_path` and `inp_refs` are paths on the GPT-SoVITS server, which takes the
    recording it was started with unless it is given path, text and language. `api_key` is for a gateway."""

    url: HttpUrl = Field("http://127.0.0.1:9880", validation_alias=AliasChoices("url", "api_url"))
    text_language: Language = Field("auto", validation_alias=AliasChoices("text_language", "text_lang", "language"))
    refer_wav_path: str = Field("", validation_alias=AliasChoices("ref_audio", "refer_wav_path", "ref_audio_path"))
    prompt_text: str = Field("", validation_alias=AliasChoices("ref_text", "prompt_text"))
    prompt_language: Language = Field("", validation_alias=AliasChoices("prompt_language", "prompt_lang"))
    top_k: int = 15
    top_p: float = 1.0
    temperature: float = 1.0
    cut_punc: str = ""
    speed: float = Field(1.0, gt=0)
    inp_refs: list[str] = []
    sample_steps: int = 32
    if_sr: bool = False
    form: str = Field("wav", pattern="^(wav|ogg|aac)$", validation_alias=AliasChoices("format", "form"))


@provider("tts", "gpt_sovits_v3", GptSovitsV3TtsOptions)
class GptSovitsV3Tts(HttpVoice):
    """One request per sentence."""

    def __init__(self, options: GptSovitsV3TtsOptions, services: Services) -> None:
        super().__init__(options, services, options.url, form=options.form)
        self._body = as_sent(options, set(GptSovitsV3TtsOptions.model_fields) - _ONLY_OURS)
        self._body["speed"] = scaled(options.rate_percent, SLOWEST, 1.0, FASTEST, otherwise=options.speed)

    def request(self, sentence: str) -> dict[str, Any]:
        """What is asked for."""
        return {"json": {**self._body, "text": sentence}}
