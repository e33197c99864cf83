"""Every decision of a connection, on a carrier without a network and by a clock that is turned by hand. It also shows
that a connection does not know what carries it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from gevent.event import Event

from tests.fakes.clock import FakeClock
from tests.fakes.memory_socket import MemorySocket
from tests.transport.harness import Noting, RecordedEvents
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import ConnectionClosed, Overloaded, ProtocolError
from xiaozhi.protocol.messages import Alert
from xiaozhi.runtime import usage
from xiaozhi.runtime.connections import ConnectionRegistry, Policy
from xiaozhi.runtime.limits import FLOOD_SECONDS, MessageRates
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.runtime.usage import BURST_WORK_S, UsageLimits
from xiaozhi.runtime.usage import PATIENCE_S as USAGE_PATIENCE_S
from xiaozhi.session.link import Identity, Link, LinkHandler, Weight
from xiaozhi.transport import connection
from xiaozhi.transport.connection import MAX_LOGGED_FAULTS, Connection, ConnectionServices

IDENTITY = Identity("AA:BB", "client", "192.0.2.1")
ALERT = Alert("note", "hello", "happy")
RULES = Policy(idle_timeout=100, ping_interval=30, ping_timeout=90, closing_timeout=5, trim_grace=3)


class Bench:
    """Connections of one registry, and what they tell."""

    def __init__(self, **services: Any) -> None:
        self.clock = FakeClock()
        self.slept: list[float] = []
        self.events = RecordedEvents()
        self.registry = ConnectionRegistry(RULES, clock=self.clock)
        self.sessions: list[Any] = []
        make: Callable[[Link], LinkHandler] = services.pop("sessions", Noting)
        self.services = ConnectionServices(
            sessions=lambda link: self._made(make(link)),
            connections=self.registry,
            events=self.events,
            pings=services.pop("pings", lambda identity: False),
            clock=self.clock,
            sleep=self._sleep,
            **services,
        )
        self.tasks = Tasks()

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def _made(self, session: LinkHandler) -> LinkHandler:
        self.sessions.append(session)
        return session

    def connect(self, identity: Identity = IDENTITY) -> MemorySocket:
        """A device whose connection is being served."""
        socket = MemorySocket(self.clock)
        device = Connection(socket, identity, self.services)
        self.tasks.spawn("device", device.run)
        wait_for(lambda: device in self.registry.of_device(device.device) or socket.finished.is_set())
        return socket

    @property
    def session(self) -> Any:
        """The latest session; waits for it."""
        wait_for(lambda: bool(self.sessions))
        return self.sessions[-1]

    def sweep(self, seconds: float) -> None:
        """Let time pass, then one sweep."""
        self.registry.sweep(self.clock.advance(seconds))


@contextmanager
def bench(**services: Any) -> Iterator[Bench]:
    made = Bench(**services)
    try:
        yield made
    finally:
        made.registry.close_all(1001, "test is over")
        assert made.tasks.join(PATIENCE_S), "connections did not end"
    assert len(made.registry) == 0


# --- messages ---


def test_everything_arrives_in_order_and_is_answered() -> None:
    with bench() as here:
        socket = here.connect()
        socket.deliver("one", b"\xf8", b"", "echo two")
        wait_for(lambda: socket.log == ["two"])
        assert here.session.heard == ["one", b"\xf8", b"", "echo two"]
        assert here.session.visit.identity == IDENTITY
        here.session.visit.send_binary(b"sound")
        assert socket.log == ["two", b"sound"]
        assert here.events.frames == 2


def test_the_end_is_told_once_after_everything_was_given_back() -> None:
    order: list[str] = []

    class Ordered(Noting):
        def closed(self, reason: str) -> None:
            order.append(f"closed {socket.finished.is_set()} {len(here.registry)}")
            here.clock.advance(2.5)
            super().closed(reason)

    with bench(sessions=Ordered) as here:
        socket = here.connect()
        here.clock.advance(10.0)
        socket.hang_up(1000, "done")
        wait_for(lambda: bool(here.events.ended))
        assert here.session.closings == ["1000 done"]
        assert not here.session.sent_after_closing
        assert order == ["closed True 1"], "the socket is gone, the registry still knows that somebody cleans up"
        assert here.events.ended == [(1000, 12.5)]


def test_a_socket_that_fails_to_finish_does_not_keep_the_session() -> None:
    class Failing(MemorySocket):
        def finish(self) -> None:
            super().finish()
            raise OSError("descriptor")

    with bench() as here:
        socket = Failing(here.clock)
        here.tasks.spawn("device", Connection(socket, IDENTITY, here.services).run)
        session = here.session
        socket.hang_up()
        assert session.gone.wait(PATIENCE_S)
        wait_for(lambda: len(here.registry) == 0)


def test_a_session_is_freed_when_it_ends_without_a_collection() -> None:
    """It knows its connection and its connection knows it; a garbage collection would stop the hub."""
    made: list[weakref.ref[Noting]] = []

    def session(link: Link) -> LinkHandler:
        noting = Noting(link)
        made.append(weakref.ref(noting))
        return noting

    registry = ConnectionRegistry(RULES)
    services = ConnectionServices(session, registry, RecordedEvents(), lambda identity: False)
    socket = MemorySocket()
    socket.deliver("hello", b"sound")
    socket.hang_up()
    gc.disable()
    try:
        Connection(socket, IDENTITY, services).run()
        assert made[0]() is None
    finally:
        gc.enable()


# --- failures of the session ---


class Reacting(Noting):
    """Does what a text says."""

    def reaction(self, text: str) -> None:  # type: ignore[override]
        match text.split():
            case ["refuse", code]:
                raise ProtocolError("nonsense", close_code=int(code))
            case ["refuse"]:
                raise ProtocolError("nonsense")
            case ["fail"]:
                raise RuntimeError("a bug")
            case ["gone"]:
                raise ConnectionClosed(1006, "as I see it")


@pytest.mark.parametrize("text", ["fail", "refuse", "gone"])
def test_no_message_ends_the_reader(text: str, logged: list[Any]) -> None:
    with bench(sessions=Reacting) as here:
        socket = here.connect()
        socket.deliver(*[text] * 10, "echo still here")
        wait_for(lambda: socket.log == ["still here"])
        lines = [line for line in logged if line["log_level"] != "debug"]
        assert len(lines) == (0 if text == "gone" else MAX_LOGGED_FAULTS)


def test_a_protocol_error_may_ask_for_the_end() -> None:
    with bench(sessions=Reacting) as here:
        socket = here.connect()
        socket.deliver("refuse 1003", "echo not heard")
        assert here.session.gone.wait(PATIENCE_S)
        assert here.session.closings == ["1003 nonsense"]
        assert socket.log == []


@pytest.mark.parametrize(
    "error,ending",
    [
        (Overloaded("server"), (1013, "server is full")),
        (RuntimeError("a bug"), (1011, "internal error")),
        (ConnectionClosed(1006, "left"), (1001, "")),
    ],
)
def test_no_session(error: Exception, ending: tuple[int, str]) -> None:
    def refuse(link: Link) -> LinkHandler:
        raise error

    with bench(sessions=refuse) as here:
        socket = here.connect()
        assert socket.finished.wait(PATIENCE_S)
        assert socket.ending == ending
        wait_for(lambda: here.events.ended == [(ending[0], 0.0)])


@pytest.mark.parametrize("hangs", [False, True])
def test_a_session_that_cannot_clean_up(hangs: bool, monkeypatch: pytest.MonkeyPatch, logged: list[Any]) -> None:
    monkeypatch.setattr(connection, "CLEANUP_SECONDS", 0.02)

    class Stubborn(Noting):
        def closed(self, reason: str) -> None:
            if hangs:
                Event().wait()
            raise RuntimeError("a bug")

    with bench(sessions=Stubborn) as here:
        here.connect().hang_up()
        wait_for(lambda: len(here.events.ended) == 1)
        assert [line["event"] for line in logged if line["log_level"] == "error"] == ["session failed to clean up"]


# --- floods ---


@pytest.mark.parametrize(
    "message,rates,kind", [("x", MessageRates(20, 0), "messages"), (b"x", MessageRates(0, 20), "frames")]
)
def test_a_flood_is_thinned_then_ended(message: Any, rates: MessageRates, kind: str, logged: list[Any]) -> None:
    with bench(rates=rates) as here:
        socket = here.connect()
        socket.deliver(*[message] * 50)
        wait_for(lambda: socket.received == 50 and len(here.events.drops) == 10)
        assert here.session.heard == [message] * 40, "two seconds' worth, the rest dropped"
        socket.deliver(*[message] * int(20 * FLOOD_SECONDS))
        assert here.session.gone.wait(PATIENCE_S)
        assert here.session.closings == ["1008 too many messages"]
        assert set(here.events.drops) == {kind}
        assert [line["event"] for line in logged if line["log_level"] == "warning"] == ["messages dropped", "flood"]


def test_the_rate_comes_back_with_time() -> None:
    with bench(rates=MessageRates(1, 1)) as here:
        socket = here.connect()
        socket.deliver("a", "b", "too fast", b"x", "too fast as well")
        wait_for(lambda: socket.received == 5)
        here.clock.advance(1.0)
        socket.deliver("c")
        wait_for(lambda: here.session.heard[-1] == "c")
        assert here.session.heard == ["a", "b", b"x", "c"], "one kind does not use up the other"


# --- what the registry asks and orders ---


def test_vitals() -> None:
    with bench(pings=lambda identity: identity.device_id == "aa:bb") as here:
        socket = here.connect()
        here.session.held = Weight(1234, 5)
        (member,) = here.registry.members()
        assert member.device == "aa:bb"
        assert (member.vitals.received, member.vitals.sent) == (0, 0)
        began = here.clock.now
        assert member.vitals.connected_at == began
        assert member.vitals.pings

        here.clock.advance(3.0)
        socket.deliver("echo hi")
        wait_for(lambda: socket.log == ["hi"])
        vitals = here.registry.members()[0].vitals
        assert (vitals.received, vitals.sent) == (1, 1)
        assert (vitals.last_heard, vitals.closing_since) == (began + 3.0, None)
        assert (vitals.memory_bytes, vitals.queue_depth) == (1234, 5)

        here.clock.advance(1.0)
        socket.pong()
        assert here.registry.members()[0].vitals.last_heard == began + 4.0
        here.session.visit.close(1000, "bye")
        assert here.registry.members()[0].vitals.closing_since == began + 4.0


def test_before_there_is_a_session_there_is_nothing_to_ask() -> None:
    opened = Event()

    def slowly(link: Link) -> LinkHandler:
        assert opened.wait(PATIENCE_S)
        return Noting(link)

    with bench(sessions=slowly) as here:
        here.connect()
        (live,) = here.registry.of_device("AA:BB")
        vitals = live.vitals()
        assert (vitals.memory_bytes, vitals.queue_depth) == (0, 0)
        live.tick(1.0)
        live.trim()
        live.drain(1.0)
        assert not live.push(ALERT)
        opened.set()
        assert here.session.ticks == here.session.drained == here.session.pushed == []


def test_the_sweeper_reaches_the_session() -> None:
    with bench(pings=lambda identity: True) as here:
        socket = here.connect()
        socket.deliver("hello")
        wait_for(lambda: here.session.heard == ["hello"])
        here.sweep(1.0)
        assert here.session.ticks == [here.clock.now]
        here.sweep(30.0)
        assert socket.pings == 1
        here.registry.policy = replace(RULES, max_queue_depth=3)
        here.session.held = Weight(0, 4)
        here.sweep(1.0)
        assert here.session.trims == 1
        here.sweep(4.0)
        assert here.session.gone.wait(PATIENCE_S)
        assert here.session.closings == ["1013 over budget"]


@pytest.mark.parametrize(
    "rule,seconds,ending",
    [
        ({"ping_timeout": 0}, 101, (1000, "idle")),
        ({"ping_timeout": 90}, 91, (1006, "no answer to pings")),
    ],
)
def test_who_is_sent_away(rule: dict[str, float], seconds: float, ending: tuple[int, str]) -> None:
    with bench(pings=lambda identity: True) as here:
        here.registry.policy = replace(RULES, **rule)  # type: ignore[arg-type]
        socket = here.connect()
        here.sweep(seconds)
        assert socket.finished.wait(PATIENCE_S)
        assert socket.ending == ending
        wait_for(lambda: here.session.closings == [f"{ending[0]} {ending[1]}"])


def test_a_new_connection_replaces_the_old() -> None:
    with bench() as here:
        old = here.connect()
        first = here.session
        new = here.connect(Identity("aa:bb"))
        assert first.gone.wait(PATIENCE_S)
        assert (first.closings, old.ending) == (["1000 replaced"], (1000, "replaced"))
        new.deliver("echo served")
        wait_for(lambda: new.log == ["served"])


def test_draining_asks_the_session_first() -> None:
    with bench() as here:
        socket = here.connect()
        session = here.session
        assert here.registry.drain(2.0, 1012, "restart") == 0
        assert (session.drained, session.closings) == ([2.0], ["1012 restart"])
        assert socket.ending == (1012, "restart")


def test_a_message_from_outside() -> None:
    with bench() as here:
        here.connect()
        wait_for(lambda: bool(here.sessions))
        (live,) = here.registry.of_device("AA:BB")
        assert live.push(ALERT)
        assert here.session.pushed == [ALERT]
        live.close(1000, "bye")
        assert here.session.gone.wait(PATIENCE_S)
        assert not live.push(ALERT), "there is no session any more"


# --- what it costs ---


class Dear(Noting):
    """Every message takes a second of the hub's time."""

    def on_text(self, text: str) -> None:
        super().on_text(text)
        used = usage.current()
        assert used is not None
        used.spend(1.0, len(text))


def test_dear_messages_are_read_slowly_and_then_not_at_all() -> None:
    with bench(sessions=Dear, usage=UsageLimits(work_per_second=0.5)) as here:
        socket = here.connect()
        socket.deliver(*(f"message {number}" for number in range(100)))
        wait_for(lambda: bool(here.events.ended))

    assert socket.ending == (1008, "too much work")
    assert 0 < sum(here.slept) <= USAGE_PATIENCE_S + 1
    assert BURST_WORK_S < len(here.session.heard) <= BURST_WORK_S + 0.5 * (USAGE_PATIENCE_S + 2)


def test_whoever_is_slowed_down_is_read_again() -> None:
    with bench() as here:
        socket = here.connect()
        socket.deliver("one")
        wait_for(lambda: here.session.heard == ["one"])
        [device] = here.registry.of_device("aa:bb")
        device.slow_down(2.5)
        socket.deliver("two", "echo three")
        wait_for(lambda: socket.log == ["three"])

    assert here.slept == [1.0, 1.0, 0.5]


def test_unfinished_messages_and_bytes_are_seen_by_the_registry() -> None:
    with bench() as here:
        socket = here.connect()
        socket.deliver("12345")
        wait_for(lambda: here.session.heard == ["12345"])
        here.session.held = Weight(1000, 2)
        socket.held_bytes = 200_000
        [member] = here.registry.members()

        assert (member.vitals.memory_bytes, member.vitals.queue_depth) == (201_000, 2)
        assert (member.vitals.bytes_in, member.vitals.received) == (5, 1)
        here.sweep(1.0)
        assert here.registry.held.memory_bytes == 201_000
        assert here.registry.used.bytes_in == 5
