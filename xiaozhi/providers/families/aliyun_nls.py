"""Alibaba Cloud's Intelligent Speech Interaction (NLS): options, signature, access token, errors. Not its WebSockets:
`aliyun_nls_connections.py` has those.

Sources: help.aliyun.com/zh/isi/getting-started/use-http-or-https-to-obtain-an-access-token (CreateToken, its signature
and an example of one), help.aliyun.com/zh/isi/support/error-codes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import Field, SecretStr, model_validator

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
from xiaozhi.providers.families.http_options import ApiKey, BlankFree, HttpUrl
from xiaozhi.providers.families.voice_scales import VoiceScales, scaled

OK: Final = 20_000_000
SILENCE: Final = (40_270_002, 41_010_105)
"""Nothing but silence or noise was heard, which is a result."""

_TOKEN: Final = 40_000_001
_BUSY: Final = (40_000_005,)
_MONEY: Final = (40_000_010,)
"""The free trial is over."""
_TIMED_OUT: Final = (40_000_004, 41_040_201)
"""Nothing came from us for ten seconds."""
_STATUS: Final = re.compile(r'"status"\s*:\s*(\d{8})')
# What the gateway refuses an upgrade with when the token is not good.
_UNAUTHORISED: Final = (401, 403)


Gateway = Annotated[str, Field(pattern=r"^((https?|wss?)://)?[\w.-]+(:\d+)?/?$")]


class NlsOptions(BlankFree):
    """`token` (good for a day), or `access_key_id` and `access_key_secret`, which count when all are there."""

    appkey: ApiKey
    token: SecretStr = SecretStr("")
    access_key_id: ApiKey = SecretStr("")
    access_key_secret: ApiKey = SecretStr("")
    host: Gateway = "nls-gateway-cn-shanghai.aliyuncs.com"
    """Of the gateway. Addresses inside of Alibaba's cloud (-internal) know no TLS. With a scheme it is taken as it
    is."""
    token_url: HttpUrl = "https://nls-meta.cn-shanghai.aliyuncs.com"
    region: str = "cn-shanghai"
    """Where the access keys are exchanged for a token."""

    @model_validator(mode="after")
    def _has_a_key(self) -> NlsOptions:
        if bool(self.access_key_id.get_secret_value()) != bool(self.access_key_secret.get_secret_value()):
            raise ValueError("access_key_id and access_key_secret go together")
        if self.has_access_keys:
            return self  # existing files keep the sample text in `token` then
        if not self.token.get_secret_value():
            raise ValueError("a key is missing: set access_key_id and access_key_secret, or token")
        if not self.token.get_secret_value().isascii():
            raise ValueError("token: expected the vendor's token; the sample text is still there")
        return self

    @property
    def has_access_keys(self) -> bool:
        """They count, not the token."""
        return bool(self.access_key_id.get_secret_value())

    def gateway(self, scheme: str) -> str:
        """The address of the gateway for `scheme`, "http" or "ws", with TLS unless the host has none."""
        written, _, host = self.host.rpartition("://")
        plain = written in ("http", "ws") if written else "-internal." in host
        return f"{scheme}{'' if plain else 's'}://{host.rstrip('/')}"


class NlsVoiceOptions(NlsOptions, VoiceScales):
    """What both kinds of voices have. `speech_rate` -500 is half as fast, 500 twice as fast."""

    volume: int = Field(50, ge=0, le=100)
    speech_rate: int = Field(0, ge=-500, le=500)
    pitch_rate: int = Field(0, ge=-500, le=500)
    sample_rate: int = Field(24_000, ge=8_000, le=48_000)

    def manner(self) -> dict[str, int]:
        """How loud, fast and high, as it is sent."""
        return {
            "volume": round(scaled(self.volume_percent, 0, 50, 100, otherwise=self.volume)),
            "speech_rate": round(scaled(self.rate_percent, -500, 0, 500, otherwise=self.speech_rate)),
            "pitch_rate": round(scaled(self.pitch_percent, -500, 0, 500, otherwise=self.pitch_rate)),
        }


# --- the access token -------------------------------------------------------------------------------------------------


def signed_query(parameters: Mapping[str, str], secret: str, method: str = "GET") -> str:
    """The query of a call to Alibaba Cloud's OpenAPI (RPC style, HMAC-SHA1), its signature first."""
    query = "&".join(f"{_escaped(key)}={_escaped(parameters[key])}" for key in sorted(parameters))
    digest = hmac.new(f"{secret}&".encode(), f"{method}&%2F&{_escaped(query)}".encode(), hashlib.sha1).digest()
    return f"Signature={_escaped(base64.b64encode(digest).decode())}&{query}"


def _escaped(text: str) -> str:
    return quote(text, safe="")


class NlsAccess:
    """How a block gets in: its own token, or one that is shared by all blocks with the same access keys.

    Constructed with a provider, closed with it."""

    def __init__(self, options: NlsOptions, *, proxy: str | None = None, verify: bool = True) -> None:
        self._keys = (
            "aliyun-nls",
            options.access_key_id.get_secret_value(),
            options.access_key_secret.get_secret_value(),
            options.token_url,
            options.region,
            proxy,
            verify,
        )
        self._own = "" if options.has_access_keys else options.token.get_secret_value()
        self._shared = None if self._own else access_tokens.lend(self._keys, self._make)
        self._closed = False
        self.secrets = tuple(filter(None, (self._keys[2], self._own)))
        """What must not be seen in an error."""

    @contextmanager
    def admitted(self, vendor: str) -> Iterator[str]:
        """Lends a token for one request. Errors leave by what their status code means; a token that was refused is not
        lent again. Raises VendorError."""
        token = self._own if self._shared is None else self._shared.get()
        try:
            yield token
        except VendorError as error:
            found = _STATUS.search(error.details)
            if found is None:
                if error.status in _UNAUTHORISED:
                    self.refused(token)
                raise
            explained = nls_failure(vendor, int(found.group(1)), error.message, (*self.secrets, token))
            explained.asked_at = error.asked_at
            if isinstance(explained, VendorBusy) and isinstance(error, VendorBusy):
                explained.after = error.after
            if explained.status in _UNAUTHORISED:
                self.refused(token)
            raise explained from error

    def refused(self, token: str) -> None:
        """The vendor did not accept a token: it is not lent again when it is a shared one."""
        if self._shared is not None:
            self._shared.refused(token)

    def close(self) -> None:
        """Give the shared token back. Idempotent."""
        if self._shared is not None and not self._closed:
            access_tokens.give_back(self._keys)
        self._closed = True

    def _make(self) -> AccessToken:
        return AccessToken("aliyun", partial(_create_token, *self._keys[1:]))


def _create_token(
    access_key_id: str, secret: str, url: str, region: str, proxy: str | None, verify: bool
) -> GrantedToken:
    query = signed_query(
        {
            "AccessKeyId": access_key_id,
            "Action": "CreateToken",
            "Format": "JSON",
            "RegionId": region,
            "SignatureMethod": "HMAC-SHA1",
            "SignatureNonce": str(uuid.uuid4()),
            "SignatureVersion": "1.0",
            "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "Version": "2019-02-28",
        },
        secret,
    )
    http = VendorHttp("aliyun", connect=3, read=10, total=12, secrets=[secret], proxy=proxy, verify=verify)
    try:
        answer = http.json("GET", f"{url}/?{query}")
    except VendorRejected as error:
        if "Throttling" in error.details:
            raise VendorBusy("aliyun", error.message, details=error.details, status=error.status) from error
        # Whatever it says (the id is unknown, the signature does not match), the keys are the reason.
        said = f"CreateToken, authentication failed: {error.message}"
        raise VendorRejected("aliyun", said, details=error.details) from error
    finally:
        http.close()
    token = answer.get("Token") if isinstance(answer, dict) else None
    if not isinstance(token, dict) or not token.get("Id") or not isinstance(token.get("ExpireTime"), int):
        raise VendorGarbage("aliyun", f"CreateToken gave no token: {redact(str(answer))}")
    return GrantedToken(str(token["Id"]), token["ExpireTime"] - time.time())


# --- errors -----------------------------------------------------------------------------------------------------------


def nls_failure(vendor: str, code: int, message: str, secrets: Iterable[str] = ()) -> VendorError:
    """The typed error of a status code: 4xxxxxxx is our fault, 5xxxxxxx theirs. Its `status` is 401 for a token that
    was not accepted."""
    said = message if str(code) in message else f"{code} {message}"
    made: type[VendorError]
    if code in _BUSY or "TOO_MANY_REQUESTS" in said:
        made = VendorBusy
    elif code in _TIMED_OUT:
        made = VendorTimeout
    elif code // 10_000_000 == 4:
        made = VendorRejected
    else:
        made = VendorUnavailable
    if code in _MONEY:
        said = f"billing: {said}"
    status = 401 if code == _TOKEN else 0
    return made(vendor, redact(said, secrets), details=redact(said, secrets, MAX_DETAILS), status=status)


def nls_refusal(vendor: str, answer: Any, secrets: Iterable[str] = ()) -> VendorError | None:
    """The error that a JSON answer of the gateway stands for, None when it is none."""
    code = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(code, int) or code == OK:
        return None
    return nls_failure(vendor, code, str(answer.get("message") or ""), secrets)
