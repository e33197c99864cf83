"""Whom the acceptor turns away: too many, too slow, hostile."""

from __future__ import annotations

import random
import socket
from dataclasses import replace
from functools import partial

import gevent
import pytest

from tests.transport.harness import SOCKETS, serving, together
from tests.transport.wire import BINARY, CLOSE, PING, TEXT, Client, frame
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import Overloaded
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.protocol import close_codes
from xiaozhi.runtime.limits import AdmissionLimits, MessageRates
from xiaozhi.session.link import Identity

UNLIMITED = AdmissionLimits(handshakes_per_second=0, ip_handshakes_per_second=0)


LOOPBACK = TrustedProxies(["127.0.0.0/8"])


# --- admission ---


def test_admit_hears_who_and_with_what() -> None:
    seen = []
    with (
        serving(admit=lambda identity, authorization: seen.append((identity.device_id, authorization))) as port,
        port.client() as client,
    ):
        client.upgrade(device_id="a", authorization="Bearer token")
        assert seen == [("a", "Bearer token")]


def test_when_admit_is_overloaded() -> None:
    def admit(identity: Identity, authorization: str) -> None:
        raise Overloaded("worker", retry_after=7.0)

    with serving(admit=admit) as port, port.client() as client:
        client.send(client.request())
        status, headers, body = client.answer()
        assert (status, headers["retry-after"], body) == (503, "7", "worker is full")


def test_a_bug_in_admit_is_answered() -> None:
    def admit(identity: Identity, authorization: str) -> None:
        raise RuntimeError("a bug")

    with serving(admit=admit) as port, port.client() as client:
        client.send(client.request())
        assert client.answer()[0] == 500


def test_no_more_than_there_are_places() -> None:
    with serving(limits=AdmissionLimits(max_connections=2)) as port, port.device("a") as (first, _), port.device("b"):
        with port.client() as third:
            third.send(third.request(device_id="c"))
            status, headers, _ = third.answer()
            assert status == 503
            assert int(headers["retry-after"]) >= 1
        first.send(frame(CLOSE))
        wait_for(lambda: port.admission.total == 1)
        with port.device("c") as (client, _):
            client.say("echo in")
            assert client.receive() == (TEXT, b"in")


def test_a_full_house_still_takes_a_device_back() -> None:
    with (
        serving(limits=AdmissionLimits(max_connections=1)) as port,
        port.device("a") as (old, _),
        port.device("A") as (new, _),
    ):
        new.say("echo back")
        assert new.receive() == (TEXT, b"back")
        assert old.ending() == (1000, "replaced")


def test_one_address_has_its_limit_unless_it_is_a_trusted_gateway() -> None:
    limits = AdmissionLimits(per_ip=1)
    with serving(limits=limits) as port, port.device("a"), port.client() as client:
        client.send(client.request("/xiaozhi/v1/?from=mqtt_gateway", device_id="b"))
        assert client.answer()[0] == 503, "anybody can say that they are the gateway"
    with serving(limits=limits, trusted=LOOPBACK) as port, port.device("a"), port.device("b"), port.client() as client:
        client.upgrade("/xiaozhi/v1/?from=mqtt_gateway", device_id="c", x_forwarded_for="9.9.9.9")
        with port.client() as other:
            other.upgrade("/xiaozhi/v1/?from=mqtt_gateway", device_id="d", x_forwarded_for="9.9.9.9")
        with port.client() as direct, port.client() as twice:
            direct.upgrade(device_id="e", x_forwarded_for="8.8.8.8")
            twice.send(twice.request(device_id="f", x_forwarded_for="8.8.8.8"))
            assert twice.answer()[0] == 503


def test_handshakes_have_a_rate() -> None:
    with serving(limits=AdmissionLimits(max_connections=1, handshakes_per_second=1)) as port:
        answers = []
        for _ in range(3):
            with port.client() as client:
                client.send(client.request(authorization="Bearer bad"))
                answers.append(client.answer()[0])
        assert answers == [401, 503, 503]


def test_a_shut_door_is_polite() -> None:
    with serving() as port, port.client() as client:
        port.admission.shut("server", retry_after=3)
        client.send(client.request())
        assert client.answer()[0] == 503


# --- slow and hostile clients ---


def test_slow_loris() -> None:
    """Headers drip for ever; the others do not notice, and the drip is cut."""
    with serving(request_timeout=0.3) as port, port.client() as slow, port.client() as silent:
        slow.send(b"GET /xiaozhi/v1/ HTTP/1.1\r\n")

        def drip() -> None:
            try:
                while True:
                    slow.send(b"a: b\r\n")
                    gevent.sleep(0.02)  # sleep: it drips
            except OSError:
                pass

        dripping = gevent.spawn(drip)
        with port.device() as (client, _):
            client.say("echo quick")
            assert client.receive() == (TEXT, b"quick")
        assert slow.answer()[0] in (408, 431)
        assert silent.eof()
        slow.sock.close()
        dripping.join(PATIENCE_S)
        assert dripping.dead


def test_connections_that_have_not_asked_yet_are_counted() -> None:
    with serving(request_timeout=0.3, trusted=LOOPBACK, handshakes=2) as port, port.client(), port.client():
        wait_for(lambda: port.acceptor.handshakes == 2)
        with port.client() as third:
            assert third.answer()[0] == 503
            assert third.eof()
        wait_for(lambda: port.acceptor.handshakes == 0)
        with port.device() as (client, _):
            client.say("echo in")
            assert client.receive() == (TEXT, b"in")


@pytest.mark.parametrize("trusted", [False, True])
def test_one_address_does_not_take_all_places_of_those_who_have_not_asked(trusted: bool) -> None:
    with (
        serving(request_timeout=0.3, handshakes=4, trusted=LOOPBACK if trusted else TrustedProxies()) as port,
        port.client(),
        port.client(),
    ):
        wait_for(lambda: port.acceptor.handshakes == 2)
        with port.client() as third:
            assert third.answer()[0] == 503 if not trusted else third.eof()
        wait_for(lambda: port.acceptor.handshakes == 0)
        with port.client(), port.client() as again:
            assert again.eof(), "as many as before may come"


def test_a_client_that_leaves_in_the_middle_of_its_request() -> None:
    with serving() as port:
        for cut in (0, 10, 60, 150):
            with port.client() as client:
                client.send(client.request()[:cut])
        with port.client() as client:
            client.send(client.request())
            client.reset()
        wait_for(lambda: port.acceptor.handshakes == 0 and port.admission.total == 0)


def test_ten_thousand_broken_frames() -> None:
    """Mutated, truncated, oversize, in any order: each ends in a close code, and a neighbour talks on undisturbed."""
    chance = random.Random(20_260_801)
    good = [
        frame(TEXT, b'{"type":"hello","version":1}'),
        frame(BINARY, bytes(range(100))),
        frame(PING, b"?"),
        frame(TEXT, "你好".encode(), fin=False) + frame(0, b"!"),
        frame(BINARY, bytes(900)),
        frame(TEXT, bytes(3000))[:50],
        frame(CLOSE, b"\x03\xe8"),
    ]

    def broken() -> bytes:
        data = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 4)):
            match chance.randrange(4):
                case 0:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                case 1:
                    del data[chance.randrange(len(data)) :]
                case 2:
                    data += chance.randbytes(chance.randrange(20))
                case 3:
                    data[0:1] = chance.randbytes(1)
            if not data:
                data = bytearray(b"\0")
        return bytes(data)

    sent = 0
    codes: set[int] = set()
    lock = gevent.lock.RLock()

    def attack(port: int, number: int) -> None:
        nonlocal sent
        while sent < 10_000:
            with Client(port, timeout=5) as client:
                client.upgrade(device_id=f"bad {number}")
                try:
                    for _ in range(chance.randrange(1, 12)):
                        sent += 1
                        client.send(broken())
                    client.sock.shutdown(socket.SHUT_WR)
                    code, _ = client.ending()
                except ConnectionError:
                    code = 1006
                with lock:
                    codes.add(code)

    with serving(limits=UNLIMITED, rates=MessageRates(0, 0)) as port, port.device("good") as (client, session):

        def talk() -> int:
            turns = 0
            while sent < 10_000:
                client.say(f"echo {turns}")
                assert client.receive() == (TEXT, str(turns).encode())
                turns += 1
            return turns

        *_, turns = together(*(partial(attack, port.number, number) for number in range(8)), talk)
        assert turns > 100
        assert all(code == 1006 or close_codes.sendable(code) for code in codes), (
            "mutated close codes come back as they are"
        )
        assert {1002, 1007, 1009} <= codes
        assert len(session.heard) == turns
        wait_for(lambda: len(port.connections) == 1)


def test_devices_that_do_not_read_do_not_disturb_the_others() -> None:
    with (
        serving(sockets=replace(SOCKETS, send_timeout=0.2), rates=MessageRates(0, 0)) as port,
        port.device("good") as (client, _),
    ):
        deaf = [port.client(receive_buffer=4096).upgrade(device_id=f"deaf {number}") for number in range(5)]
        sessions = [port.session(f"deaf {number}") for number in range(5)]

        def shout(session: object) -> int:
            try:
                while True:
                    session.visit.send_binary(bytes(900))  # type: ignore[attr-defined]
            except Exception as lost:  # noqa: BLE001  what a caller gets is the subject
                return lost.code  # type: ignore[attr-defined, no-any-return]

        shouting = [gevent.spawn(shout, session) for session in sessions]
        turns = 0
        while not all(greenlet.ready() for greenlet in shouting):
            client.say(f"echo {turns}")
            assert client.receive() == (TEXT, str(turns).encode())
            turns += 1
        assert [greenlet.get() for greenlet in shouting] == [1006] * 5
        assert turns > 10
        wait_for(lambda: len(port.connections) == 1)
        for gone in deaf:
            gone.sock.close()


def test_many_at_once() -> None:
    with serving() as port:

        def come(number: int) -> Client:
            client = port.client().upgrade(device_id=f"device {number}")
            client.say(f"echo {number}")
            assert client.receive() == (TEXT, str(number).encode())
            return client

        clients = together(*(partial(come, number) for number in range(200)))
        assert len(port.connections) == port.admission.total == 200
        for client in clients:
            client.sock.close()
        wait_for(lambda: len(port.connections) == 0)
