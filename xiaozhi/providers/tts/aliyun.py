"""Alibaba Cloud's speech (NLS): one request per sentence, sound streamed back.

Source: help.aliyun.com/zh/isi/developer-reference/restful-api-3. A sentence may have at most 300 characters;
ours are shorter (`speech/sentences.py`). The header calls everything audio/mpeg; what arrives is judged by its
content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import AliasChoices, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.aliyun_nls import NlsAccess, NlsVoiceOptions, nls_refusal
from xiaozhi.providers.families.http_options import HttpOptions
from xiaozhi.providers.registry import provider
from xiaozhi.providers.sound import sounds


class AliyunTtsOptions(NlsVoiceOptions, HttpOptions):
    """See `NlsOptions` and `NlsVoiceOptions`."""

    voice: str = Field("xiaoyun", validation_alias=AliasChoices("private_voice", "voice"))
    format: Literal["wav", "pcm", "mp3"] = "wav"


@provider("tts", "aliyun", AliyunTtsOptions)
class AliyunTts(SentenceTts):
    """One request per sentence."""

    needs_services = True

    def __init__(self, options: AliyunTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        self._access = NlsAccess(options, proxy=options.proxy, verify=options.verify_tls)
        self._http = options.http("aliyun", self._access.secrets)
        self._url = f"{options.gateway('http')}/stream/v1/tts"
        self._body: dict[str, Any] = {
            "appkey": options.appkey.get_secret_value(),
            "format": options.format,
            "sample_rate": options.sample_rate,
            "voice": options.voice,
            **options.manner(),
        }
        self.traits = TtsTraits(streaming=False, sample_rate=options.sample_rate)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes."""
        vendor = self._http.vendor
        with self._access.admitted(vendor) as token:

            def refusal(answer: Any) -> VendorError | None:
                return nls_refusal(vendor, answer, (*self._access.secrets, token))

            body = {**self._body, "token": token, "text": sentence}
            with self._http.stream("POST", self._url, json=body) as reply:
                yield from sounds(
                    reply.chunks(),
                    vendor=vendor,
                    expected=self._options.format,
                    sample_rate=self._options.sample_rate,
                    inference=self._inference,
                    refusal=refusal,
                )

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
        self._access.close()
