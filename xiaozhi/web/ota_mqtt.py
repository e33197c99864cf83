"""What OTA tells a device of MQTT: this server's own port, or a gateway.

Firmware that is told of MQTT and of the WebSocket uses MQTT, and never tries the other. So a device is told of this
server's port by itself only where it can be expected to reach it: where it has reached the HTTP port without a proxy in
between, or where the settings name the address."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from xiaozhi.net.origin import Origin
from xiaozhi.protocol.device_id import is_mac
from xiaozhi.protocol.mqtt_login import MqttPasswords, Username, client_id_for, gateway_username, username_for
from xiaozhi.protocol.token import mqtt_password
from xiaozhi.web.addresses import ServerAddresses

PUBLISH_TOPIC: Final = "device-server"
SUBSCRIBE_TOPIC: Final = "devices/p2p/"
"""Firmware does not subscribe; other clients may."""


@dataclass(frozen=True, slots=True)
class MqttGateway:
    """The gateway that devices reach by MQTT + UDP; `endpoint` is "host[:port]"."""

    endpoint: str
    signature_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class OwnMqtt:
    """The MQTT port of this server. `endpoint`: "host:port" to be told as it is; "": by how the device asked."""

    passwords: MqttPasswords
    port: int
    endpoint: str = ""
    keepalive: int = 240


@dataclass(frozen=True, slots=True)
class MqttAsker:
    """Which device asks. `model` and `client_id` as it said."""

    device_id: str
    client_id: str
    model: str
    client_ip: str


def mqtt_block(
    asker: MqttAsker,
    transport: str,
    origin: Origin,
    *,
    own: OwnMqtt | None,
    gateway: MqttGateway | None,
    addresses: ServerAddresses,
    now: float,
) -> dict[str, Any] | None:
    """What the device is told; None: nothing. `transport`: what its board is to use. Only devices with a MAC address
    are told: their client ids have room for nothing else."""
    if transport == "websocket" or not is_mac(asker.device_id):
        return None
    if own is None or transport == "gateway":
        return _of_gateway(gateway, asker) if gateway is not None else None
    endpoint = own.endpoint
    if not endpoint and (transport != "auto" or _reached_directly(addresses, origin)) and ":" not in origin.host:
        # Of an IPv6 address firmware takes what stands before the first colon.
        endpoint = f"{origin.host}:{own.port}"
    if not endpoint:
        return None
    client_id = client_id_for(asker.model, asker.device_id, asker.client_id)
    username = username_for(asker.client_ip, Username(int(now), origin.base_url, origin.proxied))
    block = _block(endpoint, client_id, username, own.passwords.issue(client_id, username), asker.device_id)
    return block | {"keepalive": own.keepalive}


def _reached_directly(addresses: ServerAddresses, origin: Origin) -> bool:
    """Whether the device has reached this machine itself, and not a proxy that need not know of MQTT: as far as can be
    told from the address for its WebSocket."""
    told = urlsplit(addresses.websocket_url(origin))
    same_host = (told.hostname or "") == origin.host.lower()
    return same_host and not origin.proxied and (told.scheme == "wss") == addresses.tls


def _of_gateway(gateway: MqttGateway, asker: MqttAsker) -> dict[str, Any]:
    """What the MQTT gateway (78/xiaozhi-mqtt-gateway) lets a device in with."""
    client_id = client_id_for(asker.model, asker.device_id, "")
    username = gateway_username(asker.client_ip)
    password = mqtt_password(gateway.signature_key, client_id, username)
    return _block(gateway.endpoint, client_id, username, password, asker.device_id)


def _block(endpoint: str, client_id: str, username: str, password: str, device_id: str) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "client_id": client_id,
        "username": username,
        "password": password,
        "publish_topic": PUBLISH_TOPIC,
        "subscribe_topic": SUBSCRIBE_TOPIC + device_id.replace(":", "_"),
    }
