"""The proofs that devices carry: device token, vision token, MQTT password. What they are made of and how they are
checked.

Not a policy: who may be given a token is decided where it is handed out (`web/ota.py`), and whether a connection needs
one where it is accepted. Pure: no clock, no randomness, no storage; the time is an argument (seconds since 1970) and
the secret is given once.

Formats:
    device token    base64url(HMAC-SHA256(secret, client_id "|" device_id "|" ts)) "." ts
                    (ts: decimal seconds, when it was issued)
    vision token    base64url(device_id) "." base64url(HMAC-SHA256(vision key, device_id "|" expires)) "." expires
                    (vision key: derived from the same secret; device_id: in its normal form)
    MQTT password   base64(HMAC-SHA256(signature key, mqtt_client_id "|" username))

Padding of base64url is left off. The device token is a format that the MQTT gateway issues too, from the same secret,
so it is kept to the letter; it has no room for a purpose. The vision token therefore uses a key of its own, and neither
can stand in for the other. A vision token names its device, as some clients send it without a Device-Id, but no client
id: a device behind the MQTT gateway is known there by another one than it sends over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac

from xiaozhi.errors import AuthError
from xiaozhi.protocol.device_id import normal_device_id

DEVICE_TOKEN_SECONDS = 30 * 24 * 3600
"""How long a device token is good for unless configured otherwise."""
VISION_TOKEN_SECONDS = 24 * 3600
"""How long a vision token is good for: longer than any visit, as it is handed out once per visit."""

_VISION_PURPOSE = b"xiaozhi vision token 1"
_BEARER = "bearer "
# Longer than any token made here; a bound on the work that a stranger's header may cause.
_MAX_TOKEN_CHARS = 256
_MAX_TIMESTAMP_DIGITS = 12


class DeviceTokens:
    """Issues and checks device tokens. `secret` must not be empty: an empty key would make every token forgeable
    (ValueError)."""

    def __init__(self, secret: str, *, expire_seconds: int = DEVICE_TOKEN_SECONDS) -> None:
        self._key = _key(secret)
        # The existing server reads "nothing or negative" as "the default", and configurations rely on it.
        self._expire_seconds = expire_seconds if expire_seconds > 0 else DEVICE_TOKEN_SECONDS

    def issue(self, client_id: str, device_id: str, *, now: float) -> str:
        """A token for this pair of ids, issued at `now`. Raises AuthError for ids that no token can be made for."""
        _refuse_separator(client_id, device_id)
        stamp = str(int(now))
        return f"{_signature(self._key, client_id, device_id, stamp)}.{stamp}"

    def check(self, token: str, client_id: str, device_id: str, *, now: float, written_id: str = "") -> None:
        """Return if `token` was issued for this pair and has not expired at `now`; otherwise raise AuthError saying why
        not. `written_id`: another spelling of the device id, for which a gateway may have issued it.

        A stamp in the future passes: only holders of the secret can have made it, and a server without a clock of its
        own would otherwise lock every device out until it learns the time."""
        _refuse_separator(client_id, device_id, written_id)
        signature, stamp = _split(token)
        spellings = (device_id, written_id) if written_id not in ("", device_id) else (device_id,)
        if not any(_same(signature, _signature(self._key, client_id, spelt, stamp)) for spelt in spellings):
            raise AuthError("the token does not belong to this device and client")
        if now - int(stamp) > self._expire_seconds:
            raise AuthError("the token has expired")


class VisionTokens:
    """Issues and checks the tokens with which a device may ask about its pictures. `secret` as in DeviceTokens."""

    def __init__(self, secret: str, *, expire_seconds: int = VISION_TOKEN_SECONDS) -> None:
        self._key = hmac.new(_key(secret), _VISION_PURPOSE, hashlib.sha256).digest()
        self._expire_seconds = expire_seconds if expire_seconds > 0 else VISION_TOKEN_SECONDS

    def issue(self, device_id: str, *, now: float) -> str:
        """A token for this device, however its id is written. Raises AuthError for ids that no token can be made
        for."""
        _refuse_separator(device_id)
        device_id, expires = normal_device_id(device_id), str(int(now) + self._expire_seconds)
        return f"{_written(device_id)}.{_signature(self._key, device_id, expires)}.{expires}"

    def check(self, token: str, device_id: str = "", *, now: float) -> str:
        """The device that `token` was issued for, if that is `device_id` (when given) and the token has not expired at
        `now`; otherwise raise AuthError saying why not."""
        name, _, rest = token.partition(".")
        signature, expires = _split(rest)
        named = _read(name)
        _refuse_separator(named, device_id)
        if not _same(signature, _signature(self._key, named, expires)):
            raise AuthError("this is not a token")
        if device_id and normal_device_id(device_id) != named:
            raise AuthError("the token does not belong to this device")
        if now > int(expires):
            raise AuthError("the token has expired")
        return named


def bearer(header: str) -> str:
    """The token of an `Authorization` header ("Bearer x" in any case, or the bare token that older firmware sends); ""
    when absent."""
    header = header.strip()
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else header


def issued_at(token: str) -> int:
    """When a device token says it was issued, seconds since 1970. Raises AuthError for what is no token."""
    return int(_split(token)[1])


def same_secret(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell how much of them is; False when `expected` is
    empty."""
    return bool(expected) and _same(given, expected)


def mqtt_password(signature_key: str, mqtt_client_id: str, username: str) -> str:
    """What the MQTT gateway expects as password of this client; "" without a key, which a gateway without one
    accepts."""
    if not signature_key:
        return ""
    digest = hmac.new(signature_key.encode(), f"{mqtt_client_id}|{username}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode("ascii")


def _key(secret: str) -> bytes:
    if not secret:
        raise ValueError("the token secret must not be empty")
    return secret.encode()


def _refuse_separator(*ids: str) -> None:
    # ("a", "b|c") and ("a|b", "c") would sign the same bytes.
    if any("|" in value for value in ids):
        raise AuthError("an id must not contain '|'")


def _split(token: str) -> tuple[str, str]:
    if len(token) > _MAX_TOKEN_CHARS:
        raise AuthError("this is not a token")
    signature, dot, stamp = token.rpartition(".")
    if not dot or not signature or len(stamp) > _MAX_TIMESTAMP_DIGITS or not (stamp.isascii() and stamp.isdigit()):
        raise AuthError("this is not a token")
    # Some issuers leave the padding on.
    return signature.rstrip("="), stamp


def _signature(key: bytes, *parts: str) -> str:
    # surrogatepass: header bytes that are no UTF-8 must end in "wrong token", not in an encoding error.
    digest = hmac.new(key, "|".join(parts).encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _written(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).rstrip(b"=").decode("ascii")


def _read(written: str) -> str:
    """The text that `_written` wrote. Raises AuthError."""
    if len(written) > _MAX_TOKEN_CHARS or not written.isascii():
        raise AuthError("this is not a token")
    try:
        return base64.urlsafe_b64decode(written + "=" * (-len(written) % 4)).decode("utf-8", "surrogatepass")
    except ValueError:
        raise AuthError("this is not a token") from None


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))
