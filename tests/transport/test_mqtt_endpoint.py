"""The MQTT port over real sockets: who comes in, who stays, and what a stranger's bytes can do."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.transport.mqtt_harness import HELLO, packet, serving, text
from tests.waiting import wait_for
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.net.tls import TlsFiles
from xiaozhi.protocol.messages import Alert
from xiaozhi.protocol.mqtt_login import Username, client_id_for, username_for
from xiaozhi.runtime.limits import AdmissionLimits


def test_a_device_comes_and_goes() -> None:
    with serving() as port:
        with port.device() as wire:
            wire.ping()
            wire.send(packet(0x82, b"\x00\x0a" + text("devices/p2p/+") + b"\x01" + text("#") + b"\x00"))
            assert wire.receive() == (0x90, b"\x00\x0a\x00\x00"), "granted, with QoS 0"
            wire.send(packet(0xA2, b"\x00\x0b" + text("#")))
            assert wire.receive() == (0xB0, b"\x00\x0b")
            wire.send(packet(0x40, b"\x00\x0b"))
            wire.send(b"\xe0\x00")
            assert wire.is_closed()
        assert port.counts.ended == {"1000": 1}


@pytest.mark.parametrize(
    ("said", "code", "cause"),
    [
        ({"password": "bad"}, 5, "login"),
        ({"client_id": ""}, 2, "client id"),
        ({"client_id": "a|b"}, 2, "client id"),
        ({"level": 5}, 1, "version"),
        ({"level": 3}, 1, "version"),
    ],
)
def test_who_is_refused_is_told_why(said: dict[str, Any], code: int, cause: str) -> None:
    with serving() as port, port.client() as wire:
        assert wire.connect(**said) == code
        assert wire.is_closed()
        assert port.counts.refused == {cause: 1}


@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xc0\x00",
        packet(0x30, text("a")),
        b"\x10\xff\xff\xff\xff\x01",
        packet(0x10, b"x" * 9000),
    ],
    ids=["HTTP", "ping", "publish", "length", "too long"],
)
def test_what_is_no_connect_ends_it(bytes_: bytes) -> None:
    with serving(connect_timeout=0.2) as port, port.client() as wire:
        wire.send(bytes_)
        assert wire.receive() is None
        wait_for(lambda: port.counts.refused == {"no CONNECT": 1}, "the refusal")


def test_who_says_nothing_is_not_waited_for() -> None:
    with serving(connect_timeout=0.05) as port, port.client() as silent, port.client() as slow:
        slow.send(b"\x10\x20\x00\x04MQ")
        assert silent.receive() is None
        assert slow.receive() is None
        assert port.counts.refused == {"no CONNECT": 2}


def test_places_are_counted() -> None:
    with serving(places=AdmissionLimits(max_connections=1)) as port:
        with port.device("first"), port.client() as second:
            assert second.connect("second") == 3
        wait_for(lambda: len(port.endpoint) == 0, "the first to leave")
        with port.device("second"):
            pass
        assert port.counts.refused == {"places": 1}


def test_nobody_comes_in_while_the_door_is_shut() -> None:
    with serving() as port, port.client() as wire:
        port.admission.shut("server")
        assert wire.connect() == 3


def test_tls(certificate: tuple[str, str]) -> None:
    with serving(tls=TlsFiles(*certificate), connect_timeout=0.5) as port:
        with port.client(tls=True) as wire:
            assert wire.connect() == 0
            wire.publish(HELLO)
            wait_for(lambda: port.sessions and port.sessions[0].heard, "the session")
            port.sessions[0].visit.send_text('"' + "x" * 30_000 + '"')
            answer = wire.receive()
            assert answer is not None
            assert len(answer[1]) > 30_000
        with port.client() as plain:
            plain.send(packet(0x10, text("MQTT")))
            assert plain.is_closed()


def test_a_device_has_one_connection() -> None:
    with serving() as port, port.device() as first, port.device("AA-BB") as second:
        assert first.is_closed()
        second.ping()
        assert len(port.standing) == 1
        first_ended = port.counts.ended
        assert first_ended == {"1000": 1}


def test_silence_beyond_the_keepalive() -> None:
    clock = FakeClock(1_000.0)
    with serving(clock=clock) as port, port.device(keepalive=60) as wire, port.device("other") as patient:
        clock.advance(80)
        wire.ping()
        clock.advance(90)
        port.endpoint.sweep(clock())
        wire.ping()
        clock.advance(91)
        port.endpoint.sweep(clock())
        assert wire.is_closed()
        patient.ping()
        assert port.counts.ended == {"1006": 1}


def test_a_device_that_may_not_stay() -> None:
    revoked: set[str] = set()
    with (
        serving(may_stay=lambda device: device not in revoked) as port,
        port.device("one") as one,
        port.device("two") as two,
    ):
        revoked.add("one")
        port.endpoint.sweep(0.0)
        assert one.is_closed()
        two.ping()


def test_a_device_that_does_not_read_is_dropped() -> None:
    """And whoever sends to it does not wait for it."""
    alert = Alert("Notice", "x" * 2_000)
    with serving() as port, port.device() as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        standing = port.standing.of_device("aa-bb")
        assert standing is not None
        taken = 0
        while standing.push(alert):
            taken += 1
            assert taken < 10_000
        wait_for(lambda: len(port.endpoint) == 0, "the device to be dropped")
        assert not standing.push(alert)
        assert port.counts.ended == {"1006": 1}
        assert port.counts.sent == taken


def test_a_conversation_with_a_device_that_does_not_read() -> None:
    with serving() as port, port.device() as wire:
        session = port.talk(wire)
        with pytest.raises(Exception, match="stopped reading"):
            for _ in range(10_000):
                session.visit.send_text("x" * 2_000)
        wait_for(lambda: session.closings == ["1006 the device stopped reading"], "the end of the session")


def test_a_slow_reader_gets_everything_in_order() -> None:
    with serving() as port, port.device() as wire:
        session = port.talk(wire)
        sent = 0
        while sent < 60:
            session.visit.send_text(f'{{"type":"n","n":{sent},"x":"{"x" * 1_000}"}}')
            sent += 1
        assert [wire.message()[1]["n"] for _ in range(sent)] == list(range(sent))


def test_a_second_connect() -> None:
    with serving() as port, port.device() as wire:
        wire.send(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text("aa-bb")))
        assert wire.is_closed()
        assert port.counts.ended == {"1002": 1}


def test_a_flood_of_packets() -> None:
    with serving() as port, port.device() as wire:
        try:
            for _ in range(200):
                wire.send(b"\xc0\x00" * 100)
        except OSError:
            pass  # closed meanwhile
        assert wire.is_closed()
        wait_for(lambda: len(port.endpoint) == 0, "the device to be closed")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_bytes_come(seed: int) -> None:
    """Mutations of what devices say, cut anywhere: the port lives on, and keeps nothing of them."""
    chance = random.Random(seed)
    connect = packet(0x10, text("MQTT") + b"\x04\xc2\x00\x00" + text("aa-bb") + text("user") + text("good"))
    publish = packet(0x30, text("device-server") + HELLO.encode()) + packet(0x32, text("t") + b"\x00\x01{}")
    with serving() as port:
        for _ in range(40):
            data = bytearray(
                connect * chance.randint(0, 1) + publish + b"\xc0\x00" + packet(0x82, b"\x00\x01" + text("#") + b"\0")
            )
            for _ in range(chance.randint(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with port.client() as wire:
                wire.send(bytes(data[: chance.randint(1, len(data))]))
        with port.device("well") as wire:
            wire.ping()


def test_how_a_device_reached_this_server() -> None:
    """By the host at which it asked OTA, also where that is a proxy's; a peer that is a proxy is nowhere in
    particular."""
    client_id = client_id_for("bread", "11:22:33:44:55:66", "uuid")
    for said, trusted, base, proxied, at_home in (
        (Username(1, "http://voice.local:8003"), (), "http://voice.local:8003", False, True),
        (Username(1, "https://voice.example.com", True), (), "https://voice.example.com", True, True),
        (Username(1, "http://bad host"), (), "http://127.0.0.1:0", False, True),
        (Username(1, "http://voice.local:8003"), ("127.0.0.1",), "http://voice.local:8003", False, False),
    ):
        with serving(trusted=TrustedProxies(trusted)) as port, port.client() as wire:
            body = text("MQTT") + b"\x04\xc2\x00\x00" + text(client_id)
            wire.send(packet(0x10, body + text(username_for("1.2.3.4", said)) + text("good")))
            assert wire.receive() == (0x20, b"\0\0")
            identity = port.talk(wire).visit.identity
            assert identity.origin.base_url == base
            assert (identity.origin.proxied, identity.seems_at_home, identity.proved) == (proxied, at_home, True)
            assert (identity.client_id, identity.user_agent) == ("uuid", "bread")
