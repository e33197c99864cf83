"""Tencent Cloud: keys, voices; API 3.0 with its signature (TC3-HMAC-SHA256), calls and errors; the signature of its
WebSocket services.

Sources: cloud.tencent.com/document/api/1093/35641 (signature v3, with an example), /document/api/1093/37823 and
/document/api/1073/37996 (error codes of recognition and speech), /document/api/1073/108595 (WebSocket)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.errors import VendorBusy, VendorError, VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.http import HttpReply
from xiaozhi.net.http_errors import MAX_DETAILS, redact
from xiaozhi.providers.families.http_options import ApiKey, BlankFree, HttpOptions
from xiaozhi.providers.families.sound_in_json import NoSoundInJson, SoundInJson
from xiaozhi.providers.families.voice_scales import RateScale, VolumeScale, scaled

_CONTENT_TYPE: Final = "application/json; charset=utf-8"
_ALGORITHM: Final = "TC3-HMAC-SHA256"
CLONED: Final = 200_000_000
"""The number of all voices that were cloned from one sentence; which one is said by its name."""
# Beginnings of codes, the longest that fits counts; everything else is our fault.
_REMEDIES: Final[Mapping[str, type[VendorError]]] = {
    "RequestLimitExceeded": VendorBusy,
    "LimitExceeded": VendorBusy,
    "InternalError": VendorUnavailable,
    "ResourceUnavailable": VendorUnavailable,
    "FailedOperation": VendorUnavailable,
    "FailedOperation.CheckAuthInfoFailed": VendorRejected,
    "FailedOperation.ServiceIsolate": VendorRejected,
    "FailedOperation.UserHasNo": VendorRejected,
    "FailedOperation.UserNotRegistered": VendorRejected,
}
_MONEY: Final = (
    "FailedOperation.ServiceIsolate",
    "FailedOperation.UserHasNo",
    "ResourceInsufficient",
    "UnsupportedOperation.AccountArrears",
    "UnsupportedOperation.NoBanlance",
    "UnsupportedOperation.NoFreeAccount",
    "UnsupportedOperation.PkgExhausted",
)


class TencentKeys(BlankFree):
    """The keys of an account."""

    secret_id: ApiKey
    secret_key: ApiKey


class TencentOptions(TencentKeys, HttpOptions):
    """The block of a service of API 3.0. (`appid` of existing files means nothing to those.)"""


class TencentVoiceOptions(RateScale, VolumeScale):
    """`voice`: the number of a voice, or the name of one that was cloned. `speed`: 0 is normal, -2 0.6 times as fast, 6
    2.5 times. (`speech_rate` is what a comment in the existing server's file calls it.)"""

    voice: str = Field("101001", validation_alias=AliasChoices("private_voice", "voice"))
    speed: float = Field(0, ge=-2, le=6, validation_alias=AliasChoices("speed", "speech_rate"))
    volume: float = Field(0, ge=-10, le=10)
    sample_rate: Literal[8000, 16000, 24000] = 24_000

    def manner(self) -> dict[str, Any]:
        """Who speaks, and how, as it is sent."""
        manner: dict[str, Any] = {
            "VoiceType": int(self.voice) if self.voice.isdecimal() else CLONED,
            "Speed": _short(scaled(self.rate_percent, -2, 0, 6, otherwise=self.speed)),
            "Volume": _short(scaled(self.volume_percent, -10, 0, 10, otherwise=self.volume)),
            "SampleRate": self.sample_rate,
        }
        return manner if self.voice.isdecimal() else {**manner, "FastVoiceType": self.voice}


def _short(value: float) -> int | float:
    """As the vendor's own clients write it: without a fraction that is none."""
    return int(value) if value == int(value) else value


def signed_headers(
    body: bytes, *, service: str, host: str, secret_id: str, secret_key: str, now: float
) -> dict[str, str]:
    """The headers that sign a POST of `body` to `host`. `now`: seconds since 1970."""
    stamp = str(int(now))
    date = time.strftime("%Y-%m-%d", time.gmtime(int(now)))
    scope = f"{date}/{service}/tc3_request"
    names = "content-type;host"
    request = f"POST\n/\n\ncontent-type:{_CONTENT_TYPE}\nhost:{host}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"TC3{secret_key}".encode()
    for part in (date, service, "tc3_request"):
        key = _hmac(key, part)
    credential = f"Credential={secret_id}/{scope}"
    return {
        "Authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={_hmac(key, to_sign).hex()}",
        "Content-Type": _CONTENT_TYPE,
        "X-TC-Timestamp": stamp,
    }


def _hmac(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


def signed_url(url: str, parameters: Mapping[str, str | int | float], secret_key: str) -> str:
    """The address of a WebSocket service (HMAC-SHA1, of the values as they are and not as they are escaped)."""
    parts = urlsplit(url)
    plain = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    digest = hmac.new(secret_key.encode(), f"GET{parts.netloc}{parts.path}?{plain}".encode(), hashlib.sha1).digest()
    return f"{url}?{urlencode({**parameters, 'Signature': base64.b64encode(digest).decode()})}"


class TencentApi:
    """One action of a service ("asr", "tts") at `url`."""

    def __init__(
        self, options: TencentOptions, url: str, *, service: str, action: str, version: str, region: str = ""
    ) -> None:
        self._secret_id = options.secret_id.get_secret_value()
        self._secret_key = options.secret_key.get_secret_value()
        self._http = options.http("tencent", (self._secret_key, self._secret_id))
        self._url = url
        self._host = urlsplit(url).netloc
        self._service = service
        self._headers = {"X-TC-Action": action, "X-TC-Version": version}
        if region:
            self._headers["X-TC-Region"] = region

    @property
    def vendor(self) -> str:
        """Its name in errors."""
        return self._http.vendor

    def call(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields of the answer. Raises VendorError."""
        with self._ask(parameters) as reply:
            return self._fields(reply.json())

    def sound(self, parameters: Mapping[str, Any], key: str) -> Iterator[bytes]:
        """The sound in the field `key` of the answer, as it arrives. Raises VendorError."""
        decoder, found = SoundInJson(key), False
        with self._ask(parameters) as reply:
            try:
                for piece in reply.chunks():
                    if sound := decoder.feed(piece):
                        found = True
                        yield sound
                fields = self._fields(decoder.answer())
            except NoSoundInJson as error:
                raise VendorGarbage(self.vendor, self._http.redact(str(error))) from error
        if not found:
            raise VendorGarbage(self.vendor, f"no {key} in the answer: {self._http.redact(str(fields))}")

    def _ask(self, parameters: Mapping[str, Any]) -> AbstractContextManager[HttpReply]:
        body = orjson.dumps(parameters)
        signed = signed_headers(
            body,
            service=self._service,
            host=self._host,
            secret_id=self._secret_id,
            secret_key=self._secret_key,
            now=time.time(),
        )
        return self._http.stream("POST", self._url, data=body, headers={**self._headers, **signed})

    def _fields(self, answer: Any) -> Mapping[str, Any]:
        """What an answer has; the error that it stands for is raised."""
        fields = answer.get("Response") if isinstance(answer, dict) else None
        if not isinstance(fields, dict):
            raise VendorGarbage(self.vendor, f"no Response in the answer: {self._http.redact(str(answer))}")
        error = fields.get("Error")
        if isinstance(error, dict):
            raise tencent_failure(
                self.vendor, str(error.get("Code") or ""), self._http.redact(str(error.get("Message") or ""))
            )
        return fields

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()


def tencent_failure(vendor: str, code: str, message: str) -> VendorError:
    """The typed error of an error code; `details` begin with the code."""
    fitting = [beginning for beginning in _REMEDIES if code.startswith(beginning)]
    made = _REMEDIES[max(fitting, key=len)] if fitting else VendorRejected
    said = f"{code} {message}"
    text = f"billing: {said}" if code.startswith(_MONEY) else said
    return made(vendor, redact(text), details=redact(said, limit=MAX_DETAILS))
