"""Tencent Cloud's recognition of short utterances (SentenceRecognition, at most 60 s): the whole utterance in one
request.

Source: cloud.tencent.com/document/api/1093/35646."""

from __future__ import annotations

import base64

from pydantic import Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage
from xiaozhi.providers.contracts.asr import SHORTEST_BYTES, AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.families.http_options import HttpUrl
from xiaozhi.providers.families.tencent import TencentApi, TencentOptions
from xiaozhi.providers.registry import provider

NOBODY_SPOKE = ("InvalidParameterValue.NoHumanVoice", "FailedOperation.NoHumanVoice")


class TencentAsrOptions(TencentOptions):
    """`language` as the vendor writes it behind "16k_": zh, zh-PY (Mandarin, Cantonese and English), zh_large, en, yue,
    ja, ko, ..."""

    language: str = Field("zh", pattern=r"^[\w-]+$")
    url: HttpUrl = "https://asr.tencentcloudapi.com"


@provider("asr", "tencent", TencentAsrOptions)
class TencentAsr(BatchAsr):
    """One request per utterance."""

    traits = AsrTraits(streaming=False, longest_s=60)

    def __init__(self, options: TencentAsrOptions) -> None:
        self._engine = f"16k_{options.language}"
        self._api = TencentApi(options, options.url, service="asr", action="SentenceRecognition", version="2019-06-14")

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of an utterance."""
        if len(pcm) < SHORTEST_BYTES:
            return Transcript("")
        try:
            answer = self._api.call(
                {
                    "ProjectId": 0,
                    "SubServiceType": 2,
                    "EngSerViceType": self._engine,
                    "SourceType": 1,
                    "VoiceFormat": "pcm",
                    "Data": base64.b64encode(pcm).decode(),
                    "DataLen": len(pcm),
                }
            )
        except VendorError as error:
            if error.details.startswith(NOBODY_SPOKE):
                return Transcript("")
            raise
        text = answer.get("Result")
        if not isinstance(text, str):
            raise VendorGarbage(self._api.vendor, "no Result in the answer")
        return Transcript(text.strip())

    def close(self) -> None:
        """Break off what runs."""
        self._api.close()
