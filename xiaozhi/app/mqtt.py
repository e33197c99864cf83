"""The MQTT port and the UDP port of the server, from settings: opened and closed together.

Part of the composition root."""

from __future__ import annotations

from collections.abc import Mapping

from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.devices.standing import StandingConnections
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.net.tcp import SocketLimits
from xiaozhi.net.tls import TlsFiles
from xiaozhi.protocol.mqtt_login import MqttPasswords
from xiaozhi.runtime.limits import Admission, AdmissionLimits
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.watchdog import Watchdog
from xiaozhi.session.link import Identity
from xiaozhi.settings import Settings
from xiaozhi.transport.connection import ConnectionServices
from xiaozhi.transport.mqtt_control import MqttServices
from xiaozhi.transport.mqtt_endpoint import MqttEndpoint, MqttOptions
from xiaozhi.transport.udp import UdpPort
from xiaozhi.web.ota_mqtt import OwnMqtt

PULSE_S = 30.0
"""A look at the connections that takes so long has failed."""


class MqttPort:
    """See the module. A `DevicePort`; also what metrics read (`MqttView`). `places`: standing connections that there
    are descriptors for; `of_several`: other workers of this machine have the same settings."""

    def __init__(
        self,
        settings: Settings,
        *,
        services: ConnectionServices,
        known: KnownDevices,
        standing: StandingConnections,
        admission: Admission,
        places: AdmissionLimits,
        of_several: bool = False,
    ) -> None:
        server, own = settings.server, settings.mqtt
        encrypted = own.encrypted(server.tls.enabled)
        self.udp = UdpPort(server.ip, own.udp_port, reuse=of_several)
        mqtt = MqttServices(
            connections=services,
            standing=standing,
            admission=admission,
            sound=self.udp,
            udp_host=lambda identity: _udp_host(settings, identity),
            foresee=known.foresee,
            clock=services.clock,
        )
        self._counts = mqtt.counts
        self.endpoint = MqttEndpoint(
            server.ip,
            own.port,
            services=mqtt,
            admit=known.admit_mqtt,
            places=Admission(places, clock=services.clock),
            may_stay=known.may_stay,
            options=MqttOptions(
                connect_timeout=server.connection_timeout,
                reuse_port=of_several,
                tls=TlsFiles(server.tls.certfile, server.tls.keyfile) if encrypted else None,
                http_tls=server.tls.enabled,
                trusted=TrustedProxies(server.trusted_proxies),
                sockets=SocketLimits(
                    text_bytes=server.limits.text_bytes,
                    send_timeout=server.limits.send_timeout,
                    send_buffer_bytes=32_768,
                ),
            ),
        )

    @property
    def connected(self) -> int:
        """See MqttView."""
        return len(self.endpoint)

    @property
    def places(self) -> int:
        """See MqttView."""
        return self.endpoint.places.limits.max_connections

    @property
    def refused(self) -> Mapping[str, int]:
        """See MqttView."""
        return self._counts.refused

    @property
    def ended(self) -> Mapping[str, int]:
        """See MqttView."""
        return self._counts.ended

    @property
    def messages(self) -> Mapping[str, int]:
        """See MqttView."""
        counts = self._counts
        return {
            "received": counts.received,
            "sent": counts.sent,
            "stray": counts.strays,
            "malformed": counts.malformed,
        }

    @property
    def channels(self) -> int:
        """See MqttView."""
        return self.udp.channels

    @property
    def datagrams(self) -> Mapping[str, int]:
        """See MqttView."""
        stats = self.udp.stats
        return {"unknown": stats.unknown, "malformed": stats.malformed, "error": stats.errors}

    def watched_by(self, metrics: Metrics, watchdog: Watchdog) -> None:
        """Have it measured, and its sweeper replaced when it stands still."""
        metrics.watch_mqtt(self)
        watchdog.expect("mqtt sweeper", lambda: self.endpoint.swept_at, PULSE_S, self.endpoint.restart_sweeper)

    def start(self) -> None:
        """See DevicePort."""
        self.udp.start()
        self.endpoint.start()

    def stop_accepting(self) -> None:
        """See DevicePort."""
        self.endpoint.stop_accepting()

    def join(self, timeout: float) -> bool:
        """See DevicePort. The connections of devices that idle are closed first: they would never end."""
        self.endpoint.close_standing()
        ended = self.endpoint.join(timeout)
        self.udp.close()
        return ended


def told_by_ota(settings: Settings, passwords: MqttPasswords) -> OwnMqtt | None:
    """What OTA tells devices of the MQTT port; None: there is none."""
    own = settings.mqtt
    return OwnMqtt(passwords, own.port, own.endpoint, own.keepalive) if own.port else None


def _udp_host(settings: Settings, identity: Identity) -> str:
    """Where a device finds the UDP port."""
    own = settings.mqtt
    reached = identity.origin.host.strip("[]") if identity.origin is not None else ""
    return own.udp_host or own.endpoint.rpartition(":")[0] or reached
