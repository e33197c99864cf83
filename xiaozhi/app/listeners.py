"""The ports of the server, from settings: the device port (WebSocket) and the HTTP port (OTA, vision, operations).

Part of the composition root: translates settings into the small configs that transport and web take, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from flask import Blueprint

from xiaozhi.app.descriptors import Descriptors, Fitted, Wanted
from xiaozhi.app.device_settings import change_own
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.mqtt import told_by_ota
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.devices.boards import KnownBoards
from xiaozhi.net.browser_origins import BrowserOrigins
from xiaozhi.net.origin import own_address
from xiaozhi.net.proxies import TrustedProxies, is_loopback, one_client
from xiaozhi.net.tcp import SocketLimits
from xiaozhi.net.tls import TlsFiles
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.protocol.mqtt_login import MqttPasswords
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.runtime.connections import ConnectionRegistry, Policy
from xiaozhi.runtime.limits import Admission, AdmissionLimits, MessageRates
from xiaozhi.runtime.usage import UsageLimits
from xiaozhi.session.link import SessionFactory
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.settings import Loaded, Settings, zone_of
from xiaozhi.settings.server import Limits, ServerSettings
from xiaozhi.settings.vendor_limits import UNKNOWN_VENDOR
from xiaozhi.transport.acceptor import MAX_HANDSHAKES, Acceptor, AcceptorOptions, Admit
from xiaozhi.transport.connection import ConnectionEvents, ConnectionServices
from xiaozhi.web import device_tools, devices, ops, ota, ota_elsewhere, vision
from xiaozhi.web.addresses import Ports, ServerAddresses
from xiaozhi.web.admin_access import AdminAccess
from xiaozhi.web.app import WebConfig, create_app
from xiaozhi.web.devices import DeviceHooks
from xiaozhi.web.firmware import SUFFIX, TO_ALL, Release
from xiaozhi.web.http_connection import WebLimits
from xiaozhi.web.ota_mqtt import MqttGateway
from xiaozhi.web.wsgi import WebServer

# A silent session ends itself, with a spoken goodbye (close_connection_no_voice_time). The sweeper's idle rule comes
# later, and only when that has failed.
IDLE_BEYOND_GOODBYE_S = 300.0
SHARE_OF_ONE_ADDRESS = 0.8
"""Of all places, unless the settings say otherwise: a large building fits in, and leaves something for others."""
THIS_MACHINE = frozenset({"127.0.0.1", one_client("::1")})
# Keys of `server` and `server.limits` that a reload puts into force; the others are what the ports were built with.
_LIVE = frozenset(
    {
        "cpu_percent",
        "drain_seconds",
        "handshakes_per_second",
        "heartbeat_interval",
        "heartbeat_timeout",
        "hello_timeout",
        "limits",  # looked at key by key
        "max_connections",
        "memory_bytes",
        "orders_per_minute",
        "ota_per_device",
        "ota_per_minute",
        "per_device",
        "per_ip",
        "profile",  # whose keys are looked at themselves
        "queued",
        "secret",
        "vision_per_device",
    }
)

_SETTLED = (
    ("console", "enabled"),
    ("log", "data_dir"),
    ("history", "max_bytes"),
    ("manager-api",),
    ("mqtt",),
    ("storage", "url"),
    ("conversation", "resume_seconds"),
    ("conversation", "reply_cache_bytes"),
)
"""Keys of other sections, by path, that only a restart puts into force."""


def wanted_sockets(settings: Settings) -> Wanted:
    """Sockets that the settings allow."""
    vendors = settings.ai_providers
    return Wanted(
        devices=settings.server.max_connections,
        standing=settings.mqtt.max_devices if settings.mqtt.port else 0,
        http=WebLimits().connections,
        handshakes=MAX_HANDSHAKES,
        vendors=sum(kind.max_concurrent or UNKNOWN_VENDOR for kind in (vendors.asr, vendors.llm, vendors.tts)),
    )


def admission_limits(settings: Settings, descriptors: Descriptors | None = None) -> AdmissionLimits:
    """How many may come in, and how fast; no more than there are descriptors for."""
    server = settings.server
    places = server.max_connections if descriptors is None else descriptors.fit(wanted_sockets(settings)).devices
    # A conversation by MQTT takes a place, but no descriptor.
    return _limits(server, places, server.limits.per_device)


def standing_limits(settings: Settings, fitted: Fitted) -> AdmissionLimits:
    """How many may be connected by MQTT, whether they talk or not."""
    return _limits(settings.server, max(1, fitted.standing), 1)


def _limits(server: ServerSettings, places: int, per_device: int) -> AdmissionLimits:
    per_ip = server.limits.per_ip
    return AdmissionLimits(
        max_connections=places,
        per_device=per_device,
        per_ip=max(1, int(places * SHARE_OF_ONE_ADDRESS)) if per_ip is None else per_ip,
        spared=THIS_MACHINE if per_ip is None else frozenset(),
        handshakes_per_second=float(server.limits.handshakes_per_second),
    )


def sweep_policy(settings: Settings) -> Policy:
    """When the sweeper acts."""
    quiet = settings.close_connection_no_voice_time
    limits = settings.server.limits
    return Policy(
        idle_timeout=quiet + IDLE_BEYOND_GOODBYE_S if quiet else 0.0,
        max_memory_bytes=limits.memory_bytes,
        max_queue_depth=limits.queued,
        max_cpu=limits.cpu_percent / 100,
        ping_interval=settings.server.heartbeat_interval,
        ping_timeout=settings.server.heartbeat_timeout,
    )


def connection_registry(settings: Settings, known: KnownDevices) -> ConnectionRegistry:
    """Who is connected to this process; the other workers are told."""
    presence = known.presence
    return ConnectionRegistry(
        sweep_policy(settings),
        per_device=settings.server.limits.per_device,
        on_join=presence.joined,
        on_leave=presence.left,
    )


def connection_services(
    settings: Settings,
    *,
    current: Callable[[], Settings],
    boards: KnownBoards,
    sessions: SessionFactory,
    connections: ConnectionRegistry,
    events: ConnectionEvents,
) -> ConnectionServices:
    """What the connections of all devices share, whatever carries them. `current`: the settings in force."""
    limits = settings.server.limits
    return ConnectionServices(
        sessions=sessions,
        connections=connections,
        events=events,
        # A device that speaks MQTT pings itself.
        pings=lambda identity: (
            identity.udp is None and current().board_for((*boards.names(identity.device_id), identity.user_agent)).ping
        ),
        rates=MessageRates(
            texts_per_second=float(limits.messages_per_second), frames_per_second=float(limits.frames_per_second)
        ),
        usage=UsageLimits(
            text_bytes_per_second=float(limits.text_bytes_per_second),
            work_per_second=limits.work_ms_per_second / 1000,
        ),
    )


def device_port(
    settings: Settings,
    *,
    services: ConnectionServices,
    admit: Admit,
    admission: Admission,
    handshakes: int = MAX_HANDSHAKES,
) -> Acceptor:
    """The port devices connect to by WebSocket. `admit`, `handshakes`: see Acceptor."""
    server = settings.server
    limits = server.limits
    options = AcceptorOptions(
        request_timeout=server.connection_timeout,
        header_bytes=limits.header_bytes,
        handshakes=handshakes,
        reuse_port=server.reuse_port,
        tls=_tls(server),
        trusted=TrustedProxies(server.trusted_proxies),
        browsers=BrowserOrigins(server.allowed_origins),
        sockets=SocketLimits(
            binary_bytes=limits.binary_bytes, text_bytes=limits.text_bytes, send_timeout=limits.send_timeout
        ),
    )
    return Acceptor(server.ip, server.port, services=services, admit=admit, admission=admission, options=options)


def http_port(
    settings: Settings,
    *,
    addresses: ServerAddresses,
    current: Callable[[], Settings],
    hooks: ops.OpsHooks,
    known: KnownDevices,
    loaded: Callable[[], Loaded],
    vision_tokens: VisionTokens,
    vllm: Callable[[str], Vllm | None],
    sessions: OpenSessions,
    rates: RequestRates,
    connections: int | None = None,
    more: Sequence[Blueprint] = (),
) -> WebServer:
    """The port for OTA, vision and operators. `current`: the settings in force. `connections`: see WebLimits.
    `more`: what else is asked, such as the pages of the console."""
    server = settings.server
    admin_token, guesses, access = server.admin_token.get_secret_value(), rates.guesses, admin_access(settings, rates)
    ota_hooks = ota.OtaHooks(
        on_board=known.boards.learn,
        on_report=known.reported,
        admit=rates.ota,
        protocol_version=lambda names: current().board_for(names).protocol_version,
        transport=lambda names: current().board_for(names).transport,
        release=lambda file_name: release_of(current(), file_name),
        enrol=known.enrolment.ask,
        activate=known.activate if server.auth.enabled is not False else None,
    )
    blueprints = [
        ota_elsewhere.create_blueprint(addresses.ota)
        if settings.under_console
        else ota.create_blueprint(ota_settings(settings, addresses, known.mqtt_passwords), known.tokens, ota_hooks),
        vision.create_blueprint(
            vision.VisionConfig(addresses=addresses), vision_tokens, vllm, guesses=guesses, admit=rates.vision
        ),
        ops.create_blueprint(hooks, admin_token=admin_token, guesses=guesses),
        device_tools.create_blueprint(operator_tools(sessions), access),
        devices.create_blueprint(
            DeviceHooks(
                known.directory,
                lambda *change: change_own(known.directory, loaded(), *change, who="admin token"),
                known.lines,
                known.look,
            ),
            access,
        ),
        *more,
    ]
    web = WebConfig(
        fallback_host=own_host(settings),
        fallback_port=server.http_port,
        trusted_proxies=TrustedProxies(server.trusted_proxies),
        browsers=BrowserOrigins(server.allowed_origins),
    )
    app = create_app(blueprints, web)
    return WebServer(
        app,
        server.ip,
        server.http_port,
        tls=_tls(server),
        reuse_port=server.reuse_port,
        trusted=web.trusted_proxies,
        limits=WebLimits() if connections is None else WebLimits(connections, max(1, connections // 4)),
    )


def admin_access(settings: Settings, rates: RequestRates) -> AdminAccess:
    """Who may use the addresses under /admin."""
    return AdminAccess(settings.server.admin_token.get_secret_value(), rates.guesses)


def operator_tools(sessions: OpenSessions) -> device_tools.FindTools:
    """Whether a device is connected to this process, and its own tools."""

    def find(device_id: str) -> tuple[bool, device_tools.OperatorTools | None]:
        session = sessions.of_device(device_id)
        return session is not None, session.mcp if session is not None else None

    return find


def worker_port(settings: Settings, *, hooks: ops.OpsHooks) -> WebServer | None:
    """This worker's own address for health and metrics, where several workers share the others; None when none is
    configured."""
    own = settings.server.worker_metrics
    if not own.port:
        return None
    without_pages = replace(hooks, facts=lambda: replace(hooks.facts(), console=False))
    app = create_app([ops.create_blueprint(without_pages)], WebConfig(fallback_port=own.port))
    return WebServer(app, own.ip, own.port)


def ota_settings(settings: Settings, addresses: ServerAddresses, passwords: MqttPasswords) -> ota.OtaConfig:
    """What OTA answers are made of."""
    server = settings.server
    key = server.mqtt_signature_key.get_secret_value()
    return ota.OtaConfig(
        addresses=addresses,
        zone=zone_of(settings),
        firmware_dir=settings.data_dir / "bin",
        auth_enabled=server.auth.enabled is not False,
        mqtt=MqttGateway(server.mqtt_gateway, key) if server.mqtt_gateway else None,
        own_mqtt=told_by_ota(settings, passwords),
    )


def release_of(settings: Settings, file_name: str) -> Release:
    """Who is offered a firmware file."""
    written = settings.firmware.get(file_name) or settings.firmware.get(file_name.removesuffix(SUFFIX))
    if written is None:
        return TO_ALL
    return Release(written.percent, frozenset(map(normal_device_id, written.devices)), written.force)


def server_addresses(
    settings: Settings, ports: Callable[[], Ports], choose: Callable[[tuple[str, ...]], str] = random.choice
) -> ServerAddresses:
    """What makes the addresses of this server. `ports`: those in use. `choose`: which of several a device is told."""
    server = settings.server
    return ServerAddresses(
        ports=ports,
        tls=server.tls.enabled,
        websocket=server.websocket,
        choose=choose,
        public_url=server.public_url,
        vision=server.vision_explain,
        ota=f"{settings.manager_api.url.rstrip('/')}/ota/" if settings.under_console else "",
    )


def own_host(settings: Settings) -> str:
    """Where others reach this machine, for lack of a better hint: the address that is listened on, or the likeliest."""
    return own_address() if settings.server.ip in ("0.0.0.0", "::", "") else settings.server.ip


def settled_at_start(before: Settings, after: Settings) -> list[str]:
    """Keys that have another value now, which a reload cannot put into force."""
    changed = [
        f"server.{key}"
        for key in ServerSettings.model_fields
        if key not in _LIVE and _differ(before.server, after.server, key)
    ]
    changed += [
        f"server.limits.{key}"
        for key in Limits.model_fields
        if key not in _LIVE and _differ(before.server.limits, after.server.limits, key)
    ]
    return changed + [".".join(path) for path in _SETTLED if _at(before, path) != _at(after, path)]


def takes_restart(path: Sequence[str]) -> bool:
    """Whether a new value of this key is one of those that `settled_at_start` names."""
    match path:
        case ["server", "limits", key, *_] | ["server", key, *_]:
            return key not in _LIVE
        case _:
            return any(tuple(path[: len(settled)]) == settled for settled in _SETTLED)


def _at(settings: Settings, path: Sequence[str]) -> object:
    found: object = settings
    for key in path:
        found = getattr(found, key.replace("-", "_"))
    return found


def _differ(before: object, after: object, key: str) -> bool:
    return bool(getattr(before, key) != getattr(after, key))


def open_to_strangers(settings: Settings) -> str:
    """What to tell an operator whose server lets everybody in who can reach it; "" when it does not."""
    server = settings.server
    if server.auth.enabled is not False or server.ip == "localhost" or is_loopback(server.ip):
        return ""
    return (
        f"whoever reaches port {server.port} of this machine may talk as any device; set server.auth.enabled: home "
        "(devices in private networks need no token, others do) or true, or server.ip: 127.0.0.1"
    )


def _tls(server: ServerSettings) -> TlsFiles | None:
    return TlsFiles(server.tls.certfile, server.tls.keyfile) if server.tls.enabled else None
