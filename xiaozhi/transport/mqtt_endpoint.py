"""The MQTT port: accepts devices, checks who they are, and gives each a greenlet of its own.

Not a broker: nobody hears what somebody else publishes, nothing is retained, no session outlives its connection. What
a connected device may do is `mqtt_control.py`.

A newcomer is checked in this order: the deadline of TLS and CONNECT together, the version of the protocol, the client
id, `Admission.check_handshake`, the injected `admit`, a place among the standing connections. Whoever is refused is
told the reason by CONNACK."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import gevent
from gevent.server import StreamServer

from xiaozhi.errors import AuthError, ConnectionClosed, LockedOut, Overloaded, ProtocolError
from xiaozhi.net.origin import origin_of
from xiaozhi.net.proxies import TrustedProxies, one_client, plain_ip
from xiaozhi.net.tcp import SocketLimits, configure, listen
from xiaozhi.net.tls import TlsFiles, accept_tls, server_context
from xiaozhi.protocol import close_codes, mqtt
from xiaozhi.protocol.mqtt import ConnectCode
from xiaozhi.protocol.mqtt_login import name_in, read_username
from xiaozhi.runtime.limits import Admission, Permit, Places, TokenBucket
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks, spawn
from xiaozhi.session.link import Identity
from xiaozhi.transport.mqtt_control import MqttControl, MqttServices
from xiaozhi.transport.mqtt_socket import MqttSocket

log = get_logger(__name__)

CONNECT_BYTES: Final = 8192
"""The largest CONNECT."""
MAX_NEWCOMERS: Final = 1024
"""Connections whose CONNECT has not been read; one address may have half of them."""
SWEEP_S: Final = 2.0
_REFUSALS_LOGGED_PER_SECOND: Final = 2.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device shows."""

    client_id: str
    username: str = ""
    password: str = field(default="", repr=False)


AdmitMqtt = Callable[[Identity, Credentials], bool]
"""Whether the device has shown a password of its own. May block for a moment. Raises AuthError, LockedOut."""


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """How the port behaves."""

    connect_timeout: float = 10.0
    """Seconds for TLS handshake and CONNECT together, at the very most twice that."""
    backlog: int = 2048
    reuse_port: bool = False
    """SO_REUSEPORT: several processes share the port."""
    tls: TlsFiles | None = None
    """None: no encryption."""
    http_tls: bool = False
    """Whether the HTTP port speaks TLS, for the addresses that a device is told."""
    trusted: TrustedProxies = field(default_factory=TrustedProxies)
    """Proxies: limits per address do not apply to them, and who comes by them is nowhere in particular."""
    sockets: SocketLimits = field(default_factory=lambda: SocketLimits(send_buffer_bytes=32_768))


class _Refused(Exception):
    """A newcomer may not come in. `code` None: there is nothing to tell it."""

    def __init__(self, cause: str, reason: str, code: ConnectCode | None = None) -> None:
        self.cause = cause
        self.reason = reason
        self.code = code
        super().__init__(reason)


class MqttEndpoint:
    """See the module. `start`, then in the end `stop_accepting`, `close_standing`, `join`.

    `places`: the standing connections that there may be. `may_stay`: asked now and then about each device."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        services: MqttServices,
        admit: AdmitMqtt,
        places: Admission,
        may_stay: Callable[[str], bool] = lambda device: True,
        options: MqttOptions | None = None,
    ) -> None:
        self.services = services
        self.places = places
        self.swept_at = time.monotonic()
        """When all connections were looked at last, for a watchdog."""
        self._address = (host, port)
        self._admit = admit
        self._may_stay = may_stay
        self._options = options or MqttOptions()
        self._context: ssl.SSLContext | None = None
        self._server: StreamServer | None = None
        self._newcomers = Places(MAX_NEWCOMERS, MAX_NEWCOMERS // 2)
        self._greenlets = Tasks()
        self._controls: set[MqttControl] = set()
        self._sweeper: gevent.Greenlet | None = None
        self._refusal_lines = TokenBucket(_REFUSALS_LOGGED_PER_SECOND, 10.0, services.clock())

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_port) if self._server is not None else self._address[1]

    def __len__(self) -> int:
        """Devices that are connected."""
        return len(self._controls)

    def start(self) -> None:
        """Listen. Raises OSError when the address is taken or the certificate cannot be used."""
        options = self._options
        self._context = server_context(options.tls) if options.tls is not None else None
        listener = listen(self._address, backlog=options.backlog, reuse_port=options.reuse_port)
        self._server = StreamServer(listener, self._serve, spawn=self._accepted)
        self._server.start()
        self.restart_sweeper()

    def stop_accepting(self) -> None:
        """See DevicePort."""
        if self._server is not None:
            self._server.close()

    def close_standing(self, code: int = close_codes.GOING_AWAY, reason: str = "server stopping") -> None:
        """Close the connections of all devices: MQTT 3.1.1 has no word of goodbye for a server. Does not wait."""
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.kill(block=False)
        for control in list(self._controls):
            control.close(code, reason)

    def join(self, timeout: float) -> bool:
        """See DevicePort."""
        deadline = time.monotonic() + timeout
        ended = self._greenlets.join(timeout)
        return self.services.conversations.join(max(0.0, deadline - time.monotonic())) and ended

    # --- newcomers ----------------------------------------------------------------------------------------------------

    def _accepted(self, run: object, handle: object, close: Callable[..., None], args: tuple[Any, Any]) -> None:
        """The server's way to serve an accepted socket. Runs in the hub: must not wait."""
        sock, address = args
        peer_ip = str(address[0])
        holder = "" if peer_ip in self._options.trusted else one_client(peer_ip)
        if self._newcomers.take(holder):
            self._greenlets.spawn("mqtt", self._serve, sock, peer_ip, holder)
        else:
            self.services.counts.refused["newcomers"] += 1
            close(sock, address)

    def _serve(self, sock: Any, peer_ip: str, holder: str) -> None:
        try:
            welcomed = self._welcome(sock, peer_ip)
        finally:
            self._newcomers.give_back(holder)
        if welcomed is None:
            return
        control, permit = welcomed
        self._controls.add(control)
        try:
            control.run()
        finally:
            self._controls.discard(control)
            permit.release()

    def _welcome(self, sock: Any, peer_ip: str) -> tuple[MqttControl, Permit] | None:
        """A device that may come in, and its place; None for a peer that may not, or that has left."""
        options = self._options
        try:
            if self._context is not None:
                sock = accept_tls(self._context, sock, options.connect_timeout)
            configure(sock, options.sockets)
            local_ip = plain_ip(str(sock.getsockname()[0]))
        except OSError as error:
            log.debug("left before CONNECT", peer=peer_ip, reason=str(error))
            sock.close()
            return None
        wire = MqttSocket(
            sock, max_packet=CONNECT_BYTES, send_timeout=options.sockets.send_timeout, clock=self.services.clock
        )
        try:
            return self._let_in(wire, peer_ip, local_ip)
        except _Refused as refusal:
            self._refuse(wire, refusal, peer_ip)
        except ConnectionClosed as end:
            log.debug("left before CONNECT", peer=peer_ip, reason=end.reason)
        except BaseException:
            wire.abort("failed")
            raise
        return None

    def _let_in(self, wire: MqttSocket, peer_ip: str, local_ip: str) -> tuple[MqttControl, Permit]:
        """The same, behind TLS. Raises _Refused, ConnectionClosed."""
        options = self._options
        connect = self._read_connect(wire)
        try:
            identity = self._identity(connect, peer_ip, local_ip)
        except ProtocolError as error:
            raise _Refused("client id", str(error), ConnectCode.WRONG_CLIENT_ID) from None
        exempt, address = plain_ip(peer_ip) in options.trusted, one_client(peer_ip)
        password = (connect.password or b"").decode("utf-8", "replace")
        try:
            self.services.admission.check_handshake(address, exempt=exempt)
            proved = self._admit(identity, Credentials(connect.client_id, connect.username or "", password))
            permit = self.places.enter(identity.device_id, address, exempt=exempt)
        except LockedOut as error:
            raise _Refused("locked out", str(error), ConnectCode.UNAVAILABLE) from None
        except AuthError as error:
            raise _Refused("login", str(error), ConnectCode.NOT_AUTHORIZED) from None
        except Overloaded as error:
            raise _Refused("places", str(error), ConnectCode.UNAVAILABLE) from None
        try:
            wire.allow(options.sockets.text_bytes)
            wire.send(mqtt.connack(ConnectCode.ACCEPTED))
            control = MqttControl(
                wire,
                replace(identity, proved=proved),
                self.services,
                address=address,
                exempt=exempt,
                keepalive=connect.keepalive,
                will=connect.will,
            )
        except BaseException:
            permit.release()
            raise
        return control, permit

    def _read_connect(self, wire: MqttSocket) -> mqtt.Connect:
        """The first packet. Raises _Refused, ConnectionClosed."""
        try:
            with gevent.Timeout(self._options.connect_timeout, _Refused("no CONNECT", "no CONNECT in time")):
                packet = wire.receive()
        except mqtt.WrongVersion as error:
            raise _Refused("version", str(error), ConnectCode.WRONG_VERSION) from None
        except ProtocolError as error:
            raise _Refused("no CONNECT", str(error)) from None
        if not isinstance(packet, mqtt.Connect):
            raise _Refused("no CONNECT", "the first packet is no CONNECT")  # [MQTT-3.1.0-1]
        return packet

    def _identity(self, connect: mqtt.Connect, peer_ip: str, local_ip: str) -> Identity:
        """Who a CONNECT says that it is. Raises ProtocolError."""
        name, said = name_in(connect.client_id), read_username(connect.username or "")
        scheme, _, host = said.ota.partition("://")
        # By which host the device reached OTA it may reach this server again; of one that does not say, it is known
        # which address of this machine it has reached.
        known = scheme in ("http", "https")
        origin = origin_of(
            scheme=scheme if known else ("https" if self._options.http_tls else "http"),
            peer_ip=peer_ip,
            headers={"Host": host if known else ""},
            fallback_host=local_ip,
            fallback_port=0,
            trusted=self._options.trusted,
        )
        return Identity(
            device_id=name.device,
            client_id=name.client,
            peer_ip=origin.client_ip,
            user_agent=name.model,
            origin=replace(origin, proxied=said.proxied and known),
            seems_at_home=origin.seems_at_home,
        )

    def _refuse(self, wire: MqttSocket, refusal: _Refused, peer_ip: str) -> None:
        """Tell a newcomer, as far as there are words for it, and close."""
        self.services.counts.refused[refusal.cause] += 1
        if self._refusal_lines.take(self.services.clock()):
            log.info("refused", cause=refusal.cause, reason=refusal.reason, peer=peer_ip)
        try:
            if refusal.code is not None:
                wire.send(mqtt.connack(refusal.code))
        except ConnectionClosed as end:
            log.debug("left before CONNACK", peer=peer_ip, reason=end.reason)
        wire.close(close_codes.POLICY_VIOLATION, refusal.reason)

    # --- who stays ----------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Look at all connections once. Never waits."""
        for control in list(self._controls):
            if not self._may_stay(control.device):
                log.info("connection revoked", device=control.device)
                control.close(close_codes.POLICY_VIOLATION, "revoked")
            control.check(now)
        self.swept_at = time.monotonic()

    def restart_sweeper(self) -> None:
        """Have somebody look, in the place of one who has died or hangs. Does not wait."""
        if self._sweeper is not None:
            self._sweeper.kill(block=False)
        self.swept_at = time.monotonic()
        self._sweeper = spawn("mqtt-sweeper", self._sweep_forever)

    def _sweep_forever(self) -> None:
        while True:
            gevent.sleep(SWEEP_S)
            self.sweep(self.services.clock())
