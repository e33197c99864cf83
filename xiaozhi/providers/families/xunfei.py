"""What the speech services of Xunfei (iFLYTEK) share: how their blocks are written, the signed address, frames of JSON
and error codes.

A frame has `header` (whose app it is, and where in the stream it stands: 0 first, 1 in between, 2 last), `parameter`
(what is wanted) and `payload` (sound or text in base64). The signature counts for one connection, and for five minutes
around its date: the clock of this machine must be right.

Sources: xfyun.cn/doc/spark/spark_zh_iat.html (signature, frames), .../super%20smart-tts.html (error codes)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

import orjson
from pydantic import Field

from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.net.http_errors import MAX_DETAILS, redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.families.http_options import ApiKey, BlankFree
from xiaozhi.providers.families.platform_ids import PlatformId

FIRST, BETWEEN, LAST = 0, 1, 2
"""Where a frame stands in its stream."""

_REFUSED: Final = {
    10005,  # the app id is not authorised
    10006,  # a parameter is missing
    10007,  # a parameter has a wrong value
    10009,  # the input is not legal
    10013,  # the content is not allowed
    10014,
    10043,  # the sound cannot be decoded
    10110,  # no licence
    10139,  # wrong parameters
    10160,  # not JSON
    10161,  # not base64
    10163,  # a parameter is missing, or wrong
    10313,  # app id and key do not belong together
    10317,  # an unknown version
    10407,  # app id and key do not belong together
    11200,  # the service or the voice is not opened, or is used up
}
_BUSY: Final = {10010, 11201, 11202, 11203}
"""Licences, requests per day, per second, at once."""
_LATE: Final = {10019, 10114, 10200, 26005, 26006}


class XunfeiOptions(BlankFree):
    """Keys common to all kinds; all three are in the console of the application."""

    app_id: PlatformId
    api_key: ApiKey
    api_secret: ApiKey
    connect_timeout: float = Field(5.0, gt=0)


def signed(url: str, key: str, secret: str, now: datetime) -> str:
    """`url` with what proves that we know the secret. `now`: aware."""
    parts = urllib.parse.urlsplit(url)
    date = format_datetime(now.astimezone(UTC), usegmt=True)
    told = f"host: {parts.netloc}\ndate: {date}\nGET {parts.path} HTTP/1.1"
    signature = base64.b64encode(hmac.new(secret.encode(), told.encode(), hashlib.sha256).digest()).decode()
    claim = f'api_key="{key}", algorithm="hmac-sha256", headers="host date request-line", signature="{signature}"'
    query = {"authorization": base64.b64encode(claim.encode()).decode(), "date": date, "host": parts.netloc}
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, urllib.parse.urlencode(query), ""))


class XunfeiSocket:
    """One connection: frames out, payloads in. Raises VendorError."""

    def __init__(self, vendor: str, url: str, options: XunfeiOptions) -> None:
        self._vendor = vendor
        self._app_id = options.app_id
        key, secret = options.api_key.get_secret_value(), options.api_secret.get_secret_value()
        address = signed(url, key, secret, datetime.now(UTC))
        self._secrets = (key, secret, address.partition("?")[2])
        self._socket = VendorSocket(vendor, address, connect=options.connect_timeout, secrets=self._secrets)

    def send(self, status: int, payload: Mapping[str, Any], parameter: Mapping[str, Any] | None = None) -> None:
        """Send one frame."""
        frame: dict[str, Any] = {"header": {"app_id": self._app_id, "status": status}}
        if parameter is not None:
            frame["parameter"] = parameter
        frame["payload"] = payload
        self._socket.send_json(frame)

    def receive(self, deadline: float) -> tuple[int, Mapping[str, Any]]:
        """Where the vendor's next frame stands, and its payload. A code other than 0 is raised as the error it stands
        for."""
        message = self._socket.receive(deadline)
        try:
            parsed = orjson.loads(message)
            header = parsed["header"]
            code, status = int(header["code"]), int(header.get("status") or 0)
            payload = parsed.get("payload") or {}
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise VendorGarbage(self._vendor, f"no frame: {redact(str(message), self._secrets)}") from None
        if code:
            raise failure(self._vendor, code, str(header.get("message") or ""), self._secrets)
        return status, payload if isinstance(payload, Mapping) else {}

    def close(self) -> None:
        """Hang up. Idempotent, from any greenlet."""
        self._socket.close()


def content(vendor: str, part: Mapping[str, Any], key: str) -> bytes:
    """What stands in base64 under `key`. Raises VendorGarbage."""
    try:
        return base64.b64decode(part.get(key) or "", validate=True)
    except (ValueError, TypeError) as error:
        raise VendorGarbage(vendor, f"{key} is not base64") from error


def failure(vendor: str, code: int, message: str, secrets: tuple[str, ...] = ()) -> VendorError:
    """The typed error of a code."""
    kind: type[VendorError] = VendorUnavailable
    if code in _REFUSED:
        kind = VendorRejected
    elif code in _BUSY:
        kind = VendorBusy
    elif code in _LATE:
        kind = VendorTimeout
    said = f"{code} {message}".strip()
    return kind(vendor, redact(said, secrets), details=redact(said, secrets, MAX_DETAILS))
