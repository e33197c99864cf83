"""Tencent Cloud's speech (TextToVoice): one request per sentence, its sound in an answer of JSON.

Source: cloud.tencent.com/document/api/1073/37995. A sentence may have at most 150 Chinese characters or 500 letters;
ours are shorter (`speech/sentences.py`). `tts/tencent_stream.py` has the same voices sooner."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final, Literal

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorSilent
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.http_options import HttpUrl
from xiaozhi.providers.families.tencent import TencentApi, TencentOptions, TencentVoiceOptions
from xiaozhi.providers.registry import provider
from xiaozhi.providers.sound import sounds
from xiaozhi.speech.language import named_language

NOTHING_TO_SAY: Final = ("InvalidParameterValue.TextEmpty", "UnsupportedOperation.UnsupportedText")
_LANGUAGES: Final = {"zh": 1, "en": 2, "ja": 3}


class TencentTtsOptions(TencentOptions, TencentVoiceOptions):
    """`language`: of the voice, in any language; unset for the vendor's own choice."""

    region: str = "ap-guangzhou"
    format: Literal["wav", "mp3", "pcm"] = "wav"
    language: str = ""
    url: HttpUrl = "https://tts.tencentcloudapi.com"


@provider("tts", "tencent", TencentTtsOptions)
class TencentTts(SentenceTts):
    """One request per sentence."""

    needs_services = True

    def __init__(self, options: TencentTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        self._api = TencentApi(
            options,
            options.url,
            service="tts",
            action="TextToVoice",
            version="2019-08-23",
            region=options.region,
        )
        self._request: dict[str, Any] = {"Codec": options.format, **options.manner()}
        if language := _LANGUAGES.get(named_language(options.language)):
            self._request["PrimaryLanguage"] = language
        self.traits = TtsTraits(streaming=False, sample_rate=options.sample_rate)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes."""
        request = {**self._request, "Text": sentence, "SessionId": uuid.uuid4().hex}
        try:
            yield from sounds(
                self._api.sound(request, "Audio"),
                vendor=self._api.vendor,
                expected=self._options.format,
                sample_rate=self._options.sample_rate,
                inference=self._inference,
            )
        except VendorError as error:
            if error.details.startswith(NOTHING_TO_SAY):
                raise VendorSilent(self._api.vendor, error.message) from error
            raise

    def close(self) -> None:
        """Break off what runs."""
        self._api.close()
