"""How a device says by MQTT who it is: client id, username and password, as OTA hands them out.

    client id   GID_<model>@@@<MAC address with _ for :>@@@<client id of OTA, or the MAC address again>
    username    base64 of JSON {"ip"}; for this server's own port also {"at", "ota", "proxied"}, see `Username`
    password    base64(HMAC-SHA256(key, client id "|" username)), see `token.mqtt_password`

The form is that of the MQTT gateway, whose clients read parts of it. A gateway knows the key from its settings; this
server derives its own from the secret that signs device tokens, so that neither password opens the other door. Pure:
no clock, no storage, no policy."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Final

import orjson

from xiaozhi.errors import AuthError, ProtocolError
from xiaozhi.protocol.device_id import checked_device_id, is_mac, normal_device_id
from xiaozhi.protocol.token import DEVICE_TOKEN_SECONDS, mqtt_password, same_secret

MAX_CLIENT_ID_CHARS: Final = 384
MAX_USERNAME_CHARS: Final = 1024
MAX_CLIENT_CHARS: Final = 128
_PREFIX: Final = "GID_"
_BETWEEN: Final = "@@@"
_PURPOSE: Final = b"xiaozhi mqtt password 1"


@dataclass(frozen=True, slots=True)
class MqttName:
    """Whom a client id names. `device`: in its normal form; `model` and `client` "" when it does not say."""

    device: str
    client: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Username:
    """What a username says; nothing of it is true before the password is checked, and `ota` not even then: it is what
    the device asked for, and is only ever told to that device again."""

    issued_at: int = 0
    """Seconds since 1970."""
    ota: str = ""
    """The base address by which the device reached OTA ("http://192.168.1.5:8003"): it may reach us by it again."""
    proxied: bool = False
    """That address is one of a proxy, for all ports but this one."""


def client_id_for(model: str, device: str, client: str) -> str:
    """The client id of a device with a MAC address."""
    mac = device.replace(":", "_")
    return f"{_PREFIX}{model}{_BETWEEN}{mac}{_BETWEEN}{client or mac}"


def name_in(client_id: str) -> MqttName:
    """Whom a client id names. One that is not of this form is the device's own id. Raises ProtocolError."""
    if len(client_id) > MAX_CLIENT_ID_CHARS or not client_id.isprintable():
        raise ProtocolError("the MQTT client id is no id")
    parts = client_id.split(_BETWEEN, 2)
    if len(parts) == 1 or not parts[0].startswith(_PREFIX):
        return MqttName(checked_device_id(client_id))
    written = parts[1].strip()
    mac = normal_device_id(written.replace("_", ":"))
    device = mac if is_mac(mac) else checked_device_id(written)
    client = parts[2] if len(parts) == 3 else ""
    if len(client) > MAX_CLIENT_CHARS or "|" in client:
        raise ProtocolError("the MQTT client id is no id")
    return MqttName(device, "" if client == parts[1] else client, parts[0].removeprefix(_PREFIX))


def gateway_username(ip: str) -> str:
    """The username for a gateway."""
    return _written({"ip": ip})


def username_for(ip: str, said: Username) -> str:
    """The username for this server's own port."""
    body: dict[str, object] = {"ip": ip, "at": said.issued_at, "ota": said.ota}
    return _written(body | {"proxied": True} if said.proxied else body)


def read_username(username: str) -> Username:
    """What a username says; of one that says nothing, nothing."""
    if len(username) > MAX_USERNAME_CHARS:
        return Username()
    try:
        body = orjson.loads(base64.b64decode(username, validate=True))
    except (ValueError, binascii.Error):
        return Username()
    if not isinstance(body, dict):
        return Username()
    at, ota, proxied = body.get("at"), body.get("ota"), body.get("proxied")
    return Username(
        at if isinstance(at, int) and not isinstance(at, bool) else 0,
        ota if isinstance(ota, str) else "",
        proxied is True,
    )


class MqttPasswords:
    """Makes and checks the passwords of this server's own port. `secret`: the one that signs device tokens; must not be
    empty (ValueError). `expire_seconds`: as for device tokens."""

    def __init__(self, secret: str, *, expire_seconds: int = DEVICE_TOKEN_SECONDS) -> None:
        if not secret:
            raise ValueError("the token secret must not be empty")
        self._key = hmac.new(secret.encode(), _PURPOSE, hashlib.sha256).hexdigest()
        self._expire_seconds = expire_seconds if expire_seconds > 0 else DEVICE_TOKEN_SECONDS

    def issue(self, client_id: str, username: str) -> str:
        """The password for these."""
        return mqtt_password(self._key, client_id, username)

    def check(self, client_id: str, username: str, password: str, *, now: float) -> int:
        """When the password was issued, seconds since 1970. Raises AuthError when it is not for these, or has
        expired."""
        if len(username) > MAX_USERNAME_CHARS or not same_secret(password, self.issue(client_id, username)):
            raise AuthError("the password does not belong to this client id and username")
        issued_at = read_username(username).issued_at
        if now - issued_at > self._expire_seconds:
            raise AuthError("the password has expired")
        return issued_at


def _written(body: dict[str, object]) -> str:
    return base64.b64encode(json.dumps(body, separators=(",", ":")).encode()).decode("ascii")
