"""The `mqtt` section: devices that keep a connection while they idle, and whose sound goes by UDP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import Field

from xiaozhi.errors import Fault
from xiaozhi.settings.fields import Gateway, HostName, Port, Section
from xiaozhi.settings.layers import Merged

TLS_PORT: Final = 8883
"""The one port on which firmware speaks TLS; on every other one it does not."""


class MqttSettings(Section):
    """The MQTT port of this server, and its UDP port."""

    port: Port = Field(
        default=0,
        description="Port for MQTT, such as 1883; 8883 where server.tls is set; 0: devices use the WebSocket.",
    )
    udp_port: Port = Field(
        default=8884,
        description="Port for the sound of these devices, UDP; of several workers each takes the next free one.",
    )
    tls: Literal["auto"] | bool = Field(
        default="auto", description="Encryption of the MQTT port; auto: where server.tls is set."
    )
    endpoint: Gateway = Field(
        default="",
        description="MQTT address that OTA tells devices, host:port; empty: the host at which they asked, and port.",
    )
    udp_host: HostName = Field(
        default="", description="Host that devices send sound to; empty: as endpoint, or as they reached this server."
    )
    keepalive: int = Field(
        default=240, ge=10, le=3_600, description="How often an idle device gives a sign of life, s; OTA tells it."
    )
    max_devices: int = Field(
        default=2_000, ge=1, le=1_000_000, description="Devices connected by MQTT at once, talking or not."
    )

    def encrypted(self, server_tls: bool) -> bool:
        """Whether the port speaks TLS."""
        return server_tls if self.tls == "auto" else self.tls


def mqtt_faults(merged: Merged) -> Iterator[Fault]:
    """What cannot work between `mqtt` and `server`. Wrong types are left to the schema."""
    section, server = _section(merged.tree, "mqtt"), _section(merged.tree, "server")
    port = _number(section.get("port"))
    if not port:
        return
    for key in ("port", "http_port"):
        if port == _number(server.get(key)):
            yield Fault("mqtt.port", str(port), f"must differ from server.{key}{_said_by(merged, 'port')}")
    endpoint, gateway = str(section.get("endpoint") or ""), str(server.get("mqtt_gateway") or "")
    tls, server_tls = section.get("tls"), bool(_section(server, "tls").get("certfile"))
    encrypted = server_tls if tls in (None, "", "auto") else tls is True
    told = _number(endpoint.rpartition(":")[2]) if endpoint else port
    if encrypted and not server_tls:
        yield Fault("mqtt.tls", "true", f"needs server.tls.certfile and keyfile{_said_by(merged, 'tls')}")
    elif encrypted and told != TLS_PORT:
        yield Fault(
            "mqtt.endpoint" if endpoint else "mqtt.port",
            str(told),
            f"must be {TLS_PORT} where the port is encrypted: firmware speaks TLS on no other; or set mqtt.tls: false"
            + _said_by(merged, "endpoint" if endpoint else "port"),
        )
    elif not encrypted and not endpoint and port == TLS_PORT:
        yield Fault(
            "mqtt.port",
            str(port),
            f"needs server.tls, since firmware speaks TLS on port {TLS_PORT}; without it use another one, such as 1883"
            + _said_by(merged, "port"),
        )
    if endpoint and endpoint == gateway:
        yield Fault(
            "mqtt.endpoint",
            repr(endpoint),
            "must differ from server.mqtt_gateway: its passwords are others" + _said_by(merged, "endpoint"),
        )


def _section(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _said_by(merged: Merged, key: str) -> str:
    source = merged.origin(("mqtt", key))
    return f" (set by {source})" if source else ""
