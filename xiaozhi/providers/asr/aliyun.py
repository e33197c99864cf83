"""Alibaba Cloud's recognition of short utterances (NLS, at most 60 s): the whole utterance in one request.

Source: help.aliyun.com/zh/isi/developer-reference/restful-api-2. The language is that of the project whose `appkey` is
used."""

from __future__ import annotations

from urllib.parse import urlencode

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http_errors import redact
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, SHORTEST_BYTES, AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.families.aliyun_nls import OK, SILENCE, NlsAccess, NlsOptions, nls_refusal
from xiaozhi.providers.families.http_options import HttpOptions
from xiaozhi.providers.registry import provider


class AliyunAsrOptions(NlsOptions, HttpOptions):
    """See `NlsOptions`."""


@provider("asr", "aliyun", AliyunAsrOptions)
class AliyunAsr(BatchAsr):
    """One request per utterance."""

    traits = AsrTraits(streaming=False, longest_s=60)

    def __init__(self, options: AliyunAsrOptions) -> None:
        self._access = NlsAccess(options, proxy=options.proxy, verify=options.verify_tls)
        self._http = options.http("aliyun", self._access.secrets)
        query = {
            "appkey": options.appkey.get_secret_value(),
            "format": "pcm",
            "sample_rate": ASR_SAMPLE_RATE,
            "enable_punctuation_prediction": "true",
            "enable_inverse_text_normalization": "true",
            "enable_voice_detection": "false",
        }
        self._url = f"{options.gateway('http')}/stream/v1/asr?{urlencode(query)}"

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of an utterance."""
        if len(pcm) < SHORTEST_BYTES:
            return Transcript("")
        vendor = self._http.vendor
        with self._access.admitted(vendor) as token:
            headers = {"X-NLS-Token": token, "Content-Type": "application/octet-stream"}
            answer = self._http.json("POST", self._url, data=pcm, headers=headers)
            if isinstance(answer, dict) and answer.get("status") in SILENCE:
                return Transcript("")
            refusal = nls_refusal(vendor, answer, (*self._access.secrets, token))
            if refusal is not None:
                raise refusal
        if not isinstance(answer, dict) or answer.get("status") != OK or not isinstance(answer.get("result"), str):
            raise VendorGarbage(vendor, f"no text in the answer: {redact(str(answer))}")
        return Transcript(answer["result"].strip())

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
        self._access.close()
