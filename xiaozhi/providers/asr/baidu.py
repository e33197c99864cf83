"""Baidu's recognition of short utterances (at most 60 s): the whole utterance in one request.

Sources: ai.baidu.com/ai-doc/SPEECH/0lbxfnc9b (request, models), cloud.baidu.com/doc/SPEECH/s/lk38lxosv (error codes),
ai.baidu.com/ai-doc/REFERENCE/Ck3dwjhhu (access token). The keys say whose application it is; `app_id` of existing files
means nothing to the service."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.net.http import VendorHttp
from xiaozhi.net.http_errors import MAX_DETAILS, redact
from xiaozhi.providers.access_tokens import AccessToken, GrantedToken, access_tokens
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, SHORTEST_BYTES, AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.families.http_options import ApiKey, HttpOptions, HttpUrl
from xiaozhi.providers.registry import provider

_NOTHING_HEARD: Final = (3301, 3314)
_BUSY: Final = (18, 3304)
_QUOTA: Final = (17, 19, 3305)
"""Of a day, or for good: waiting does not help."""
_TOKEN: Final = (110, 111, 3302)
_THEIR_FAULT: Final = (3303, 3307)
_TIMED_OUT: Final = (3313, 3315)


class BaiduAsrOptions(HttpOptions):
    """`dev_pid`: the vendor's number of a language and its model, such as 1537 Mandarin, 1737 English, 1637
    Cantonese."""

    api_key: ApiKey
    secret_key: ApiKey
    dev_pid: int = 1537
    url: HttpUrl = "https://vop.baidu.com/server_api"
    token_url: HttpUrl = "https://aip.baidubce.com/oauth/2.0/token"


@provider("asr", "baidu", BaiduAsrOptions)
class BaiduAsr(BatchAsr):
    """One request per utterance."""

    traits = AsrTraits(streaming=False, longest_s=60)

    def __init__(self, options: BaiduAsrOptions) -> None:
        self._url = options.url
        self._dev_pid = options.dev_pid
        key, secret = options.api_key.get_secret_value(), options.secret_key.get_secret_value()
        self._keys = "baidu", key, secret, options.token_url, options.proxy, options.verify_tls
        self._token = access_tokens.lend(self._keys, lambda: AccessToken("baidu", partial(_grant, *self._keys[1:])))
        self._closed = False
        self._secrets = key, secret
        self._http = options.http("baidu", self._secrets)

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The text of an utterance."""
        if len(pcm) < SHORTEST_BYTES:
            return Transcript("")
        token = self._token.get()
        answer = self._http.json("POST", self._url, json=asr_request(pcm, token, self._dev_pid, context.device_id))
        if not isinstance(answer, dict):
            raise VendorGarbage(self._http.vendor, "the answer is no JSON object")
        code = answer.get("err_no", answer.get("error_code"))
        if code in _NOTHING_HEARD:
            return Transcript("")
        if code != 0:
            if code in _TOKEN:
                self._token.refused(token)
            raise self._failure(code, str(answer.get("err_msg") or answer.get("error_msg") or ""), token)
        texts = answer.get("result")
        if not isinstance(texts, list) or not texts or not isinstance(texts[0], str):
            raise VendorGarbage(self._http.vendor, f"no text in the answer: {self._http.redact(str(answer))}")
        return Transcript(texts[0].strip())

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
        if not self._closed:
            self._closed = True
            access_tokens.give_back(self._keys)

    def _failure(self, code: Any, message: str, token: str) -> VendorError:
        """The typed error of an error code: what is not known is our fault."""
        made: type[VendorError] = VendorRejected
        said = f"{code} {message}"
        if code in _BUSY:
            made = VendorBusy
        elif code in _THEIR_FAULT:
            made = VendorUnavailable
        elif code in _TIMED_OUT:
            made = VendorTimeout
        elif not isinstance(code, int):
            made = VendorGarbage
        elif code in _QUOTA:
            said = f"billing: {said}"
        secrets = *self._secrets, token
        details = redact(said, secrets, MAX_DETAILS)
        return made(self._http.vendor, redact(said, secrets), details=details, status=401 if code in _TOKEN else 0)


def asr_request(pcm: bytes, token: str, dev_pid: int, device_id: str) -> Mapping[str, Any]:
    """What is asked for."""
    return {
        "format": "pcm",
        "rate": ASR_SAMPLE_RATE,
        "channel": 1,
        "cuid": device_id or "xiaozhi",
        "token": token,
        "dev_pid": dev_pid,
        "speech": base64.b64encode(pcm).decode(),
        "len": len(pcm),
    }


def _grant(key: str, secret: str, url: str, proxy: str | None, verify: bool) -> GrantedToken:
    query = urlencode({"grant_type": "client_credentials", "client_id": key, "client_secret": secret})
    http = VendorHttp("baidu", connect=3, read=10, total=12, secrets=[secret, key], proxy=proxy, verify=verify)
    try:
        answer = http.json("POST", f"{url}?{query}")
    finally:
        http.close()
    fields = answer if isinstance(answer, dict) else {}
    if fields.get("error"):
        said = f"authentication failed: {fields['error']} {fields.get('error_description') or ''}"
        raise VendorRejected("baidu", redact(said, (secret, key)))
    token, seconds = fields.get("access_token"), fields.get("expires_in")
    if not isinstance(token, str) or not isinstance(seconds, int):
        raise VendorGarbage("baidu", "no token in the answer")
    return GrantedToken(token, seconds)
