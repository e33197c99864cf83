"""Settings become ports: what each of them is given, and what a reload cannot change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.device import SimulatedDevice
from tests.transport.harness import Noting, RecordedEvents
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app import listeners
from xiaozhi.app.descriptors import Descriptors, share
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.devices.boards import KnownBoards
from xiaozhi.errors import Overloaded
from xiaozhi.net.proxies import one_client
from xiaozhi.protocol.mqtt_login import MqttPasswords
from xiaozhi.protocol.token import DeviceTokens, VisionTokens
from xiaozhi.runtime.connections import ConnectionRegistry
from xiaozhi.runtime.guesses import FREE, Guesses
from xiaozhi.runtime.limits import Admission
from xiaozhi.session.link import Identity
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.settings import Settings, load
from xiaozhi.settings.server import Limits
from xiaozhi.storage.database import Database
from xiaozhi.transport.connection import ConnectionServices
from xiaozhi.web import ops
from xiaozhi.web.addresses import Ports, ServerAddresses
from xiaozhi.web.ota_mqtt import OwnMqtt

TLS = Path(__file__).parents[1] / "web" / "tls"
FILES = {"certfile": str(TLS / "cert.pem"), "keyfile": str(TLS / "key.pem")}
HOOKS = ops.OpsHooks(
    ready=lambda: (True, []),
    addresses=ServerAddresses(),
    facts=lambda: ops.PageFacts("1", {}, 0),
    metrics=lambda: ("text/plain", b"metrics"),
    reload=lambda: (),
)
PASSWORDS = MqttPasswords("secret")
LOCAL = {"ip": "127.0.0.1", "port": 0, "http_port": 0}


def settings(server: Mapping[str, Any] | None = None, **sections: Any) -> Settings:
    """The defaults with these changes."""
    return load(environ={}, overrides={"server": {**LOCAL, **(server or {})}, **sections}).settings


def services(given: Settings, boards: KnownBoards | None = None) -> ConnectionServices:
    return listeners.connection_services(
        given,
        current=lambda: given,
        boards=boards or KnownBoards(),
        sessions=Noting,
        connections=ConnectionRegistry(),
        events=RecordedEvents(),
    )


def known_devices(given: Settings) -> KnownDevices:
    """What is known without a database."""
    return KnownDevices(given, Database("sqlite://"), "secret", Guesses())


@contextmanager
def device_port(given: Settings) -> Iterator[int]:
    """A running device port; its number."""
    shared = services(given)
    acceptor = listeners.device_port(
        given,
        services=shared,
        admit=known_devices(given).admit,
        admission=Admission(listeners.admission_limits(given)),
    )
    acceptor.start()
    try:
        yield acceptor.port
    finally:
        acceptor.close(1001, "test is over")
        assert acceptor.join(PATIENCE_S)
    wait_for(lambda: len(shared.connections) == 0)


def test_what_connections_share() -> None:
    given = settings(
        {"limits": {"messages_per_second": 7, "frames_per_second": 70}},
        enable_websocket_ping=True,
        boards={"fragile-board": {"ping": False}},
    )
    boards = KnownBoards()
    made = services(given, boards)
    assert (made.rates.texts_per_second, made.rates.frames_per_second) == (7.0, 70.0)
    assert made.pings(Identity("a", user_agent="sturdy/1.0"))
    assert not made.pings(Identity("a", user_agent="fragile-board/1.0"))
    boards.learn("a", ["Fragile-Board-LCD"])
    assert not made.pings(Identity("A"))
    assert made.pings(Identity("b"))


def test_may_be_pinged_by_the_settings_in_force() -> None:
    now = [settings(enable_websocket_ping=False)]
    made = listeners.connection_services(
        now[0],
        current=lambda: now[0],
        boards=KnownBoards(),
        sessions=Noting,
        connections=ConnectionRegistry(),
        events=RecordedEvents(),
    )
    assert not made.pings(Identity("a"))
    now[0] = settings(enable_websocket_ping=True)
    assert made.pings(Identity("a"))


@pytest.mark.parametrize(
    "server,per_ip",
    [
        ({}, 400),
        ({"max_connections": 10}, 8),
        ({"max_connections": 1}, 1),
        ({"limits": {"per_ip": 3}}, 3),
        ({"limits": {"per_ip": 0}}, 0),
    ],
)
def test_one_address_does_not_get_all_places(server: dict[str, Any], per_ip: int) -> None:
    limits = listeners.admission_limits(settings(server))
    assert limits.per_ip == per_ip
    door = Admission(limits)
    for number in range(per_ip):
        door.enter(f"device {number}", "192.0.2.1")
    if per_ip:
        with pytest.raises(Overloaded):
            door.enter("one more", "192.0.2.1")
    if "limits" not in server and per_ip > 1:
        door.enter("from another address", "192.0.2.2")
        for number in range(limits.max_connections - per_ip - 1):
            door.enter(f"here {number}", "127.0.0.1" if number % 2 else one_client("::1"))


def test_no_more_places_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Descriptors()
    monkeypatch.setattr(few, "limit", few.used + 200)
    limits = listeners.admission_limits(settings(), few)
    assert limits.max_connections == few.fit(listeners.wanted_sockets(settings())).devices < 150
    assert limits.per_ip == int(limits.max_connections * 0.8)


@pytest.mark.parametrize("seconds,expected", [(0, 0.0), (120, 120 + listeners.IDLE_BEYOND_GOODBYE_S)])
def test_the_sweeper_waits_longer_than_a_spoken_goodbye(seconds: int, expected: float) -> None:
    policy = listeners.sweep_policy(settings(close_connection_no_voice_time=seconds))
    assert policy.idle_timeout == expected


def test_the_heartbeat_is_a_setting() -> None:
    usual, own = (
        listeners.sweep_policy(settings(server))
        for server in ({}, {"heartbeat_interval": 5, "heartbeat_timeout": "15"})
    )

    assert (usual.ping_interval, usual.ping_timeout) == (30, 90)
    assert (own.ping_interval, own.ping_timeout) == (5, 15)


def test_the_device_port_asks_for_a_token_only_where_it_should() -> None:
    auth = {"enabled": True, "allowed_devices": ["AA:AA"]}
    with device_port(settings({"auth": auth})) as port:
        url = f"ws://127.0.0.1:{port}/xiaozhi/v1/"
        token = DeviceTokens("secret").issue("mine", "aa:aa", now=time.time())
        SimulatedDevice(url, device_id="aa:aa", client_id="mine", token=token).connect().close()
        for client_id, shown in (("mine", ""), ("other", token), ("mine", "x" + token)):
            with pytest.raises(Exception, match="401"):
                SimulatedDevice(url, device_id="aa:aa", client_id=client_id, token=shown).connect()
    with device_port(settings()) as port:
        SimulatedDevice(f"ws://127.0.0.1:{port}/xiaozhi/v1/", device_id="bb:bb").connect().close()


def test_wrong_tokens_are_counted_and_the_right_one_passes_all_the_same() -> None:
    with device_port(settings({"auth": {"enabled": True}})) as port:
        url = f"ws://127.0.0.1:{port}/xiaozhi/v1/"
        for number in range(FREE):
            with pytest.raises(Exception, match="401"):
                SimulatedDevice(url, device_id="aa:aa", client_id="mine", token=f"no.{number}").connect()
        with pytest.raises(Exception, match="429"):
            SimulatedDevice(url, device_id="aa:aa", client_id="mine", token="no.1").connect()
        token = DeviceTokens("secret").issue("mine", "aa:aa", now=time.time())
        SimulatedDevice(url, device_id="aa:aa", client_id="mine", token=token).connect().close()


@pytest.mark.parametrize("tls", [{}, FILES])
def test_the_http_port(tls: dict[str, str]) -> None:
    web = listeners.http_port(
        settings({"tls": tls}),
        addresses=ServerAddresses(),
        current=settings,
        hooks=HOOKS,
        known=known_devices(settings()),
        loaded=lambda: load(environ={}),
        vision_tokens=VisionTokens("secret"),
        vllm=lambda: None,
        sessions=OpenSessions(),
        rates=RequestRates(Limits),
    )
    web.start()
    try:
        host, port = web.address
        assert (host, port > 0) == ("127.0.0.1", True)
    finally:
        assert web.stop()


def test_a_worker_has_a_port_of_its_own_if_it_is_told_so() -> None:
    assert listeners.worker_port(settings(), hooks=HOOKS) is None
    given = settings({"worker_metrics": {"port": 39_871, "ip": "127.0.0.1"}})
    worker = listeners.worker_port(given, hooks=HOOKS)
    assert worker is not None
    assert worker.address == ("127.0.0.1", 39_871)


def test_addresses_are_those_of_the_settings_and_of_the_ports_in_use() -> None:
    made = listeners.server_addresses(
        settings({"tls": FILES, "websocket": "wss://a/", "vision_explain": "https://b/"}), lambda: Ports(1, 2)
    )
    assert (made.ports(), made.tls, made.websocket, made.vision) == (Ports(1, 2), True, "wss://a/", "https://b/")


@pytest.mark.parametrize("ip,known", [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", None), ("::", None)])
def test_where_this_machine_is_reached(ip: str, known: str | None) -> None:
    found = listeners.own_host(settings({"ip": ip}))
    assert found == known if known else found not in ("0.0.0.0", "::", "")


def test_the_mqtt_gateway_is_told_by_ota() -> None:
    given = settings({"mqtt_gateway": "192.168.1.7:1883", "mqtt_signature_key": "key"})
    config = listeners.ota_settings(given, ServerAddresses(), PASSWORDS)
    assert config.mqtt is not None
    assert config.mqtt.endpoint == "192.168.1.7:1883"
    assert config.own_mqtt is None
    assert listeners.ota_settings(settings(), ServerAddresses(), PASSWORDS).mqtt is None


def test_the_mqtt_port_is_told_by_ota() -> None:
    given = settings(mqtt={"port": 1883, "keepalive": 60, "endpoint": "voice.local:1883"})
    own = listeners.ota_settings(given, ServerAddresses(), PASSWORDS).own_mqtt
    assert own == OwnMqtt(PASSWORDS, 1883, "voice.local:1883", 60)


def test_places_for_standing_connections() -> None:
    given = settings({"max_connections": 100}, mqtt={"port": 1883, "max_devices": 300})
    wanted = listeners.wanted_sockets(given)
    assert (wanted.devices, wanted.standing) == (100, 300)
    assert listeners.wanted_sockets(settings()).standing == 0
    fitted = share(10_000, 0, wanted)
    assert (fitted.devices, fitted.standing) == (100, 300)
    limits = listeners.standing_limits(given, fitted)
    assert (limits.max_connections, limits.per_device, limits.per_ip) == (300, 1, 240)
    few = share(600, 0, wanted)
    assert few.standing == pytest.approx(3 * few.devices, abs=3), "each way in gets its share"


def test_what_takes_a_restart_is_named() -> None:
    before = settings()
    assert listeners.settled_at_start(before, before) == []
    after = settings(
        {"port": 9000, "max_connections": 7, "limits": {"binary_bytes": 2000, "per_ip": 3}, "tls": FILES},
        conversation={"resume_seconds": 9},
        log={"data_dir": "/tmp"},
    )
    assert listeners.settled_at_start(before, after) == [
        "server.port",
        "server.tls",
        "server.limits.binary_bytes",
        "log.data_dir",
        "conversation.resume_seconds",
    ]


def test_a_key_that_takes_a_restart_is_known_as_one() -> None:
    before = settings()
    after = settings(
        {"port": 9000, "max_connections": 7, "limits": {"binary_bytes": 2000, "per_ip": 3}, "tls": FILES},
        conversation={"resume_seconds": 9, "reply_cache_bytes": 1, "history_turns": 3},
        log={"data_dir": "/tmp", "log_level": "DEBUG"},
        console={"enabled": False},
        history={"max_bytes": 2_000_000, "days": 3},
        storage={"url": "sqlite:////tmp/x"},
        **{"manager-api": {"timeout": 3}},
    )
    named = listeners.settled_at_start(before, after)

    assert len(named) == 10
    assert all(listeners.takes_restart(tuple(key.split("."))) for key in named)
    for key in ("server.max_connections", "server.limits.per_ip", "log.log_level", "history.days", "prompt", "server"):
        assert not listeners.takes_restart(tuple(key.split("."))), key
