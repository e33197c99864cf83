"""While an agent is looked for: who is asked for how long, what becomes of what has waited, and what when it fails."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.fakes.sender import RecordingSender
from tests.fakes.sessions import DEVICE, FakeAgents, FakeLink, FakeTelemetry, make_agent
from tests.waiting import PATIENCE_S, take_turns
from xiaozhi.errors import AuthError, ConnectionClosed, Fault, NotServed, Overloaded, SettingsError, VendorUnavailable
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.frames import Frame
from xiaozhi.session import pending_input
from xiaozhi.session.agent import Agent
from xiaozhi.session.agent_wait import AgentWait
from xiaozhi.session.link import Identity

HELLO = wire.Hello()
SOUND = Frame(b"sound", 1, "audio")


class NotedWaiter:
    """Keeps what it is told; `errors` are raised, one by one."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.errors: list[Exception] = []

    def agent_found(self, agent: Agent | None) -> None:
        self.told.append(agent)

    def tell(self, refusal: NotServed) -> None:
        self.told.append(refusal.spoken)

    def take_message(self, message: wire.DeviceMessage) -> None:
        self.told.append(message)
        if self.errors:
            raise self.errors.pop(0)

    def take_sound(self, frame: Frame) -> None:
        self.told.append(frame)

    def agent_settled(self) -> None:
        self.told.append("settled")


class Waiting:
    """A wait and all around it."""

    def __init__(self, found: Any, seconds: float = 5.0) -> None:
        self.agents = FakeAgents()
        self.agents.own[DEVICE] = found
        self.waiter = NotedWaiter()
        self.sender = RecordingSender()
        self.telemetry = FakeTelemetry()
        link = FakeLink(Identity(DEVICE), self.sender)
        self.wait = AgentWait(self.agents, link, self.waiter, self.telemetry, seconds=seconds)


def text(name: str) -> wire.Listen:
    """A message that can be told from others."""
    return wire.Listen(wire.ListenState.DETECT, None, name)


def test_the_agent_comes_first_then_what_has_waited_then_the_end() -> None:
    own = make_agent()
    waiting = Waiting(own)
    waiting.wait.add_message(text("a"), 1)
    waiting.wait.add_sound(SOUND)
    assert (len(waiting.wait), waiting.wait.held_bytes) == (2, 6)

    waiting.wait.run(HELLO)

    assert waiting.waiter.told == [own, text("a"), SOUND, "settled"]
    assert waiting.agents.asked == [(Identity(DEVICE), HELLO)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SettingsError([Fault("LLM.Own.model", "missing", "a model")]), "LLM.Own.model: missing"),
        (VendorUnavailable("console", "does not answer"), "console: does not answer"),
        (RuntimeError("a bug"), "internal error"),
    ],
)
def test_without_an_agent_of_its_own_the_default_one_serves(error: Exception, reason: str) -> None:
    waiting = Waiting(error)
    waiting.wait.add_message(text("a"), 1)

    with capture_logs() as lines:
        waiting.wait.run(None)

    assert waiting.waiter.told == [None, text("a"), "settled"]
    assert waiting.sender.closed is None
    told = [line["reason"] for line in lines if line["event"] == "the default agent answers"]
    assert len(told) == 1
    assert told[0].startswith(reason)


def test_it_does_not_wait_for_ever() -> None:
    waiting = Waiting(lambda: Event().wait(PATIENCE_S), seconds=0.01)

    with capture_logs() as lines:
        waiting.wait.run(HELLO)

    assert waiting.waiter.told == [None, "settled"]
    assert [line["reason"] for line in lines] == ["its own is not there after 0.01 s"]


def test_somebody_elses_deadline_is_not_its_own() -> None:
    waiting = Waiting(lambda: Event().wait(PATIENCE_S))

    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        waiting.wait.run(HELLO)

    assert waiting.waiter.told == []


@pytest.mark.parametrize("refusal", [Overloaded("the house"), AuthError("not bound yet")])
def test_a_device_that_must_not_talk_is_sent_away(refusal: Exception) -> None:
    waiting = Waiting(refusal)
    waiting.wait.add_message(text("a"), 1)

    waiting.wait.run(HELLO)

    assert waiting.sender.closed == (1013, str(refusal))
    assert waiting.waiter.told == []


def test_what_fails_does_not_cost_what_waits_behind_it() -> None:
    waiting = Waiting(make_agent())
    waiting.waiter.errors.append(RuntimeError("a bug"))
    for name in "ab":
        waiting.wait.add_message(text(name), 1)

    waiting.wait.run(HELLO)

    assert waiting.waiter.told[1:] == [text("a"), text("b"), "settled"]


def test_a_link_that_is_gone_ends_it() -> None:
    waiting = Waiting(make_agent())
    waiting.waiter.errors.append(ConnectionClosed(1006))
    for name in "ab":
        waiting.wait.add_message(text(name), 1)

    with pytest.raises(ConnectionClosed):
        waiting.wait.run(HELLO)

    assert waiting.waiter.told[1:] == [text("a")]


def test_what_comes_while_the_rest_is_taken_keeps_its_place() -> None:
    waiting = Waiting(make_agent())

    def answer(message: wire.DeviceMessage) -> None:
        waiting.waiter.told.append(message)
        if message == text("a"):
            waiting.wait.add_message(text("c"), 1)

    waiting.waiter.take_message = answer  # type: ignore[method-assign]
    for name in "ab":
        waiting.wait.add_message(text(name), 1)

    waiting.wait.run(HELLO)

    assert waiting.waiter.told[1:] == [text("a"), text("b"), text("c"), "settled"]


def test_too_much_is_told() -> None:
    waiting = Waiting(make_agent())
    for _ in range(pending_input.MAX_FRAMES + 2):
        waiting.wait.add_sound(SOUND)
    for _ in range(pending_input.MAX_MESSAGES + 1):
        waiting.wait.add_message(text("a"), 1)

    assert waiting.telemetry.drops == ["waiting"] * 3
    assert len(waiting.wait) == pending_input.MAX_FRAMES + pending_input.MAX_MESSAGES
    waiting.wait.drop_sound()
    assert len(waiting.wait) == pending_input.MAX_MESSAGES
    waiting.wait.start_anew()
    assert len(waiting.wait) == 0


class Unbound:
    """A device that has no agent until it is bound: a wait whose time is made here."""

    def __init__(self) -> None:
        self.bound: Agent | None = None
        self.clock = FakeClock()
        self.refusal = NotServed("unbound", spoken="the code", shown="the code on the screen")
        self.waiting = Waiting(self.asked)
        self.questions = 0
        link = FakeLink(Identity(DEVICE), self.waiting.sender)
        self.wait = AgentWait(
            self.waiting.agents,
            link,
            self.waiting.waiter,
            self.waiting.telemetry,
            seconds=5.0,
            clock=self.clock,
            sleep=self.pause,
        )
        self.running = gevent.spawn(self.wait.run, HELLO)

    def asked(self) -> Agent:
        self.questions += 1
        if self.bound is None:
            raise self.refusal
        return self.bound

    def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)
        gevent.sleep(0)

    def send(self, name: str) -> None:
        self.wait.add_message(text(name), 1)
        take_turns()

    @property
    def told(self) -> list[Any]:
        return self.waiting.waiter.told


def test_a_device_without_an_agent_is_told_when_it_says_something_and_served_when_it_has_one() -> None:
    unbound = Unbound()
    take_turns()
    assert unbound.told == [], "nobody has asked for anything yet"

    unbound.send("a")
    assert unbound.told == ["the code"]
    for name in ("b", "c"):
        unbound.send(name)
    assert unbound.told == ["the code"], "once a minute at most"
    assert unbound.questions == 3, "whether it is bound by now is asked each time"
    unbound.clock.advance(60.0)
    unbound.send("d")
    assert unbound.told == ["the code", "the code"]
    unbound.bound = make_agent()
    unbound.send("e")

    unbound.running.get(timeout=PATIENCE_S)
    assert unbound.told[2:] == [unbound.bound, text("e"), "settled"]


def test_sound_counts_as_something_said_and_is_not_kept() -> None:
    unbound = Unbound()
    for _ in range(3):
        unbound.wait.add_sound(SOUND)
        take_turns()

    assert unbound.told == ["the code"]
    assert len(unbound.wait) == 0
    unbound.running.kill()


def test_a_device_without_an_agent_that_leaves_leaves_nothing() -> None:
    unbound = Unbound()
    unbound.send("a")

    unbound.running.kill()

    assert unbound.told == ["the code"]
