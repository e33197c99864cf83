"""A device's connection: what its session is told, floods, failures of the session, and what the connection registry
does with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.transport.harness import SOCKETS, Noting, serving
from tests.transport.wire import BINARY, CLOSE, PING, PONG, TEXT, frame
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import ConnectionClosed, Overloaded, ProtocolError
from xiaozhi.runtime.connections import Policy
from xiaozhi.runtime.limits import FLOOD_SECONDS, MessageRates
from xiaozhi.session.link import Link, Weight
from xiaozhi.transport import connection
from xiaozhi.transport.connection import MAX_LOGGED_FAULTS

LONG = 600.0


class Reacting(Noting):
    """Does what the text says."""

    def reaction(self, text: str) -> None:  # type: ignore[override]
        match text.split():
            case ["close", code]:
                self.visit.close(int(code), "as asked")
            case ["refuse", code]:
                raise ProtocolError("nonsense", close_code=int(code))
            case ["refuse"]:
                raise ProtocolError("nonsense")
            case ["fail"]:
                raise RuntimeError("a bug")
            case ["gone"]:
                raise ConnectionClosed(1006, "as I see it")


# --- what the session is told ---


def test_everything_arrives_in_order() -> None:
    with serving() as port, port.device() as (client, session):
        client.send(frame(TEXT, b"one") + frame(BINARY, b"\xf8") + frame(BINARY, b"") + frame(TEXT, b"echo two"))
        assert client.receive() == (TEXT, b"two")
        assert session.heard == ["one", b"\xf8", b"", "echo two"]


def test_the_end_is_told_once_after_the_socket_is_gone() -> None:
    with serving() as port, port.device() as (client, session):
        client.send(frame(CLOSE, (1000).to_bytes(2, "big") + b"done"))
        assert client.ending() == (1000, "")
        assert session.gone.wait(PATIENCE_S)
        assert session.closings == ["1000 done"]


def test_a_killed_device() -> None:
    with serving() as port, port.device() as (client, session):
        client.say("hello")
        wait_for(lambda: session.heard == ["hello"])
        client.reset()
        assert session.gone.wait(PATIENCE_S)
        assert session.closings[0].startswith("1006")


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 4000])
def test_a_session_closes_with_any_code(code: int) -> None:
    with serving(sessions=Reacting) as port, port.device() as (client, session):
        client.say(f"close {code}")
        assert client.ending() == (code, "as asked")
        client.send(frame(TEXT, b"not heard any more") + frame(CLOSE, code.to_bytes(2, "big")))
        assert session.gone.wait(PATIENCE_S)
        assert session.closings == [f"{code} as asked"]
        assert session.heard == [f"close {code}"]


# --- failures ---


@pytest.mark.parametrize("text", ["fail", "refuse", "gone"])
def test_no_message_ends_the_reader(text: str, logged: list[Any]) -> None:
    with serving(sessions=Reacting) as port, port.device() as (client, _):
        for _ in range(10):
            client.say(text)
        client.say("echo still here")
        assert client.receive() == (TEXT, b"still here")
    lines = [line for line in logged if line["log_level"] != "debug"]
    assert len(lines) == (0 if text == "gone" else MAX_LOGGED_FAULTS), "a device may fill its own counters, not the log"


@pytest.mark.parametrize("code", [1002, 1003, 1007])
def test_a_protocol_error_may_ask_for_the_end(code: int) -> None:
    with serving(sessions=Reacting) as port, port.device() as (client, _):
        client.say(f"refuse {code}")
        assert client.ending() == (code, "nonsense")


@pytest.mark.parametrize("error,code", [(Overloaded("server"), 1013), (RuntimeError("a bug"), 1011)])
def test_no_session_no_visit(error: Exception, code: int) -> None:
    def sessions(visit: Link) -> Any:
        raise error

    with serving(sessions=sessions) as port, port.client() as client:
        client.upgrade()
        assert client.ending()[0] == code


def test_a_device_that_leaves_while_its_session_is_made() -> None:
    left = Event()

    def sessions(visit: Link) -> Any:
        assert left.wait(PATIENCE_S)
        for _ in range(100):
            visit.send_text("welcome")
            gevent.sleep(0.001)  # sleep: the news of the reset needs its time
        raise AssertionError("nobody noticed")

    with serving(sessions=sessions) as port, port.client() as client:
        client.upgrade()
        wait_for(lambda: len(port.connections) == 1)
        client.reset()
        left.set()
        wait_for(lambda: len(port.connections) == 0 and port.admission.total == 0)


def test_a_session_that_fails_to_clean_up() -> None:
    class Failing(Noting):
        def closed(self, reason: str) -> None:
            super().closed(reason)
            raise RuntimeError("a bug")

    with serving(sessions=Failing) as port:
        with port.device():
            pass
        wait_for(lambda: port.admission.total == 0)


def test_a_session_that_never_finishes_cleaning_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLEANUP_SECONDS", 0.05)

    class Hanging(Noting):
        def closed(self, reason: str) -> None:
            super().closed(reason)
            Event().wait()

    with serving(sessions=Hanging) as port:
        with port.device():
            pass
        wait_for(lambda: len(port.connections) == 0)


# --- floods ---


@pytest.mark.parametrize("opcode,rates", [(TEXT, MessageRates(20, 0)), (BINARY, MessageRates(0, 20))])
def test_floods_are_thinned_and_ended(opcode: int, rates: MessageRates, logged: list[Any]) -> None:
    with serving(rates=rates) as port, port.device() as (client, session):
        client.send(frame(opcode, b"x") * 60)
        client.send(frame(PING))
        assert client.receive() == (PONG, b"")
        assert 40 <= len(session.heard) < 60, "two seconds' worth, the rest dropped"
        client.send(frame(opcode, b"x") * int(20 * FLOOD_SECONDS + 60))
        assert client.ending() == (1008, "too many messages")
        assert [line["event"] for line in logged if line["log_level"] == "warning"] == ["messages dropped", "flood"]


def test_one_kind_of_message_does_not_use_up_the_other() -> None:
    with serving(rates=MessageRates(1, 1)) as port, port.device() as (client, _):
        client.send(frame(BINARY, b"x") * 5)
        client.say("echo heard")
        assert client.receive() == (TEXT, b"heard")


# --- the connection registry ---


def test_an_idle_device_is_sent_away_but_not_one_that_is_spoken_to() -> None:
    with (
        serving(policy=Policy(idle_timeout=0.2)) as port,
        port.device("idle") as (idle, _),
        port.device("b") as (listening, session),
    ):
        idle.say("hello")
        listening.say("hello")
        ended = gevent.spawn(idle.ending)
        while not ended.ready():
            session.visit.send_binary(b"sound")
            gevent.sleep(0.02)  # sleep: being idle is time that passes
        assert ended.get() == (1000, "idle")
        assert listening.receive() == (BINARY, b"sound")
        listening.say("echo here")
        wait_for(lambda: "echo here" in session.heard)


def test_heartbeat_where_the_board_allows_it() -> None:
    policy = Policy(ping_interval=0.05, ping_timeout=0.3, idle_timeout=LONG)
    with (
        serving(policy=policy, pings=lambda identity: identity.device_id != "fragile") as port,
        port.device("deaf") as (deaf, _),
        port.device("fine") as (fine, _),
    ):
        with port.device("fragile") as (fragile, _):
            deaf_ended = gevent.spawn(deaf.ending)
            pings = 0
            while not deaf_ended.ready() or pings < 3:
                assert fine.receive() == (PING, b"")
                fine.send(frame(PONG))
                pings += 1
            assert deaf_ended.get() == (1006, ""), "dropped: nobody is there who could be told"
            fragile.say("echo never pinged")
            assert fragile.receive() == (TEXT, b"never pinged")


def test_a_session_over_its_budget_is_trimmed_then_closed() -> None:
    policy = Policy(max_queue_depth=3, trim_grace=0.05)
    with serving(policy=policy) as port, port.device() as (client, session):
        client.say("hello")
        session.held = Weight(0, 4)
        assert client.ending() == (1013, "over budget")
        assert session.trims == 1


def test_sessions_are_ticked() -> None:
    with serving() as port, port.device() as (_, session):
        wait_for(lambda: len(session.ticks) > 2)


def test_the_new_connection_of_a_device_replaces_the_old() -> None:
    with serving() as port, port.device("AA:BB") as (old, old_session):
        old.say("hello")
        with port.device("aa:bb") as (new, _):
            new.say("echo served at once")
            assert new.receive() == (TEXT, b"served at once")
            assert old.ending() == (1000, "replaced")
            old.sock.close()
            assert old_session.gone.wait(PATIENCE_S)
            assert old_session.closings == ["1000 replaced"]
            new.say("echo still served")
            assert new.receive() == (TEXT, b"still served")


def test_a_dead_connection_does_not_hold_up_its_successor() -> None:
    """Half-open: the device has rebooted, and its old connection neither reads nor answers any more."""
    with serving(sockets=replace(SOCKETS, send_timeout=LONG, close_timeout=0.1)) as port:
        with port.device("a", receive_buffer=4096) as (_, old_session):
            sending = False

            def stuck() -> None:
                nonlocal sending
                try:
                    while True:
                        sending = True
                        old_session.visit.send_binary(bytes(1000))
                        sending = False
                except ConnectionClosed:
                    pass

            sender = gevent.spawn(stuck)
            wait_for(lambda: sending)  # it never yields but in a send that has to wait
            with port.device("a") as (new, _):
                new.say("echo at once")
                assert new.receive() == (TEXT, b"at once")
                assert old_session.gone.wait(PATIENCE_S)
            sender.join(PATIENCE_S)
            assert sender.dead


def test_draining() -> None:
    with serving() as port, port.device("a") as (first, one), port.device("b") as (second, two):
        first.say("hello")
        second.say("hello")
        drained = gevent.spawn(port.connections.drain, 2.0, 1012, "restart")
        assert [client.ending() for client in (first, second)] == [(1012, "restart")] * 2
        first.sock.close()
        second.sock.close()
        assert drained.get(timeout=PATIENCE_S) == 0
        assert one.drained == two.drained == [2.0]


def test_vitals() -> None:
    with serving() as port, port.device("a") as (client, session):
        session.held = Weight(1234, 5)
        (before,) = [member.vitals for member in port.connections.members()]
        assert (before.received, before.sent, before.pings) == (0, 0, False)
        client.say("echo hi")
        client.receive()
        (member,) = port.connections.members()
        after = member.vitals
        assert member.device == "a"
        assert (after.received, after.sent) == (1, 1)
        assert (after.memory_bytes, after.queue_depth) == (1234, 5)
        assert after.last_heard >= after.connected_at
        assert after.closing_since is None
        session.visit.close(1000, "bye")
        assert port.connections.members()[0].vitals.closing_since is not None
