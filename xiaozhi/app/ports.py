"""The ports of one server, opened and closed together: devices by WebSocket (and by whatever else carries them), HTTP,
and a worker's own metrics.

Part of the composition root. How each of them is made from settings is `listeners.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from xiaozhi.app import listeners
from xiaozhi.app.descriptors import Descriptors
from xiaozhi.app.mqtt import MqttPort
from xiaozhi.app.ops_hooks import ops_hooks
from xiaozhi.app.owner_console import OwnerConsole
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.app.server_parts import ServerParts
from xiaozhi.devices.standing import StandingConnections
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.runtime.connections import ConnectionRegistry
from xiaozhi.runtime.logs import get_logger
from xiaozhi.transport.acceptor import Acceptor
from xiaozhi.transport.connection import ConnectionServices
from xiaozhi.web import reminders
from xiaozhi.web.wsgi import WebServer

log = get_logger(__name__)

JOIN_S = 5.0
"""For the greenlets of a port to end when its connections have."""


class DevicePort(Protocol):
    """A port that devices connect to, whatever the protocol."""

    def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""

    def stop_accepting(self) -> None:
        """Let nobody new in. Idempotent."""

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until all connections have ended; True if they have."""


class ServerPorts:
    """See the module. `start`; in the end `drain` and `stop_web`. Raises what `listeners` raises.

    `standing`: what devices join that are connected while they idle. `of_several`: other workers of this machine share
    the ports."""

    def __init__(
        self,
        parts: ServerParts,
        *,
        services: ConnectionServices,
        descriptors: Descriptors,
        rates: RequestRates,
        vision_tokens: VisionTokens,
        vllm: Callable[[str], Vllm | None],
        console: OwnerConsole,
        ready: Callable[[], tuple[bool, list[str]]],
        standing: StandingConnections,
        of_several: bool,
        clock: Callable[[], float],
    ) -> None:
        settings = parts.current().loaded.settings
        wanted = listeners.wanted_sockets(settings)
        fitted = descriptors.fit(wanted)
        self.risks = [risk for risk in (listeners.open_to_strangers(settings), descriptors.warning(wanted)) if risk]
        """What to warn the operator of."""
        self.acceptor: Acceptor = listeners.device_port(
            settings,
            services=services,
            admit=parts.known.admit,
            admission=parts.watched.admission,
            handshakes=fitted.handshakes,
        )
        self.mqtt: MqttPort | None = None
        """Devices by MQTT and UDP; None: not here."""
        if settings.mqtt.port:
            self.mqtt = MqttPort(
                settings,
                services=services,
                known=parts.known,
                standing=standing,
                admission=parts.watched.admission,
                places=listeners.standing_limits(settings, fitted),
                of_several=of_several or settings.server.reuse_port,
            )
            self.mqtt.watched_by(parts.metrics, parts.watched.watchdog)
        access = listeners.admin_access(settings, rates)
        hooks = ops_hooks(parts, ready=ready, clock=clock)
        self._worker_web = listeners.worker_port(settings, hooks=hooks)
        self.web: WebServer = listeners.http_port(
            settings,
            addresses=parts.addresses,
            current=lambda: parts.current().loaded.settings,
            hooks=hooks,
            known=parts.known,
            loaded=lambda: parts.current().loaded,
            vision_tokens=vision_tokens,
            vllm=vllm,
            sessions=parts.watched.services.sessions,
            rates=rates,
            connections=fitted.http,
            more=[
                *console.blueprints(),
                *parts.messaging.blueprints(access),
                reminders.create_blueprint(parts.reminders, access),
            ],
        )

    @property
    def _devices(self) -> Sequence[DevicePort]:
        return (self.acceptor,) if self.mqtt is None else (self.acceptor, self.mqtt)

    def start(self) -> None:
        """Listen. Raises OSError for ports that cannot be had."""
        for web in (self.web, self._worker_web):
            if web is not None:
                web.start()
        for port in self._devices:
            port.start()

    def drain(self, connections: ConnectionRegistry, seconds: float, code: int, reason: str) -> None:
        """Let no new device in and the answers under way finish, at most `seconds`; then close every connection."""
        for port in self._devices:
            port.stop_accepting()
        left = connections.drain(seconds, code, reason)
        if left:
            log.warning("connections left behind", count=left)
        for port in self._devices:
            port.join(JOIN_S)

    def stop_web(self, seconds: float) -> None:
        """Answer no HTTP any more; requests under way get `seconds`."""
        for web in (self.web, self._worker_web):
            if web is not None:
                web.stop(seconds)
