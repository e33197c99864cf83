"""Who has something for a device finds its session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.sessions import DEVICE, FakeAgents, make_agent, make_services, visitor
from tests.fakes.thinking import FakeLlm
from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.protocol.messages import Alert
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.session.turns.opening import Delivery
from xiaozhi.tools.base import Action, FunctionTool, ToolContext, ToolOutcome
from xiaozhi.tools.calls import Rung

WORDS = {"zh": "来电。", "en": "A call."}


def test_the_newest_session_of_a_device_is_found_however_its_id_is_written() -> None:
    services: Any = make_services()
    with visitor(services=services) as first:
        old = services.sessions.of_device(DEVICE)
        with visitor(services=services):
            assert services.sessions.of_device(DEVICE.replace(":", "-").upper()) is not old
        assert services.sessions.of_device(DEVICE) is old
        assert first.session.device_id == DEVICE
    assert services.sessions.of_device(DEVICE) is None
    assert services.sessions.ring(DEVICE, WORDS) is Rung.AWAY


def test_a_device_rings_when_nobody_speaks_with_it() -> None:
    services: Any = make_services()
    with visitor(services=services) as device:
        assert services.sessions.ring(DEVICE, WORDS) is Rung.AWAY, "it has not said hello"
        device.hello()
        assert services.sessions.ring(DEVICE, WORDS) is Rung.RINGS
        assert services.sessions.ring(DEVICE, WORDS) is Rung.BUSY
        device.wait_turns()
        assert device.spoken() == ["A call"]

        device.detect("你好")
        device.wait_turns(2)
        assert services.sessions.ring(DEVICE, WORDS) is Rung.RINGS
        device.wait_turns(3)
        assert device.spoken()[-1] == "来电", "in the language of its conversation"

        device.session.drain(0)
        assert services.sessions.ring(DEVICE, WORDS) is Rung.AWAY


def test_a_device_says_what_it_is_told_as_soon_as_nobody_speaks() -> None:
    ready: list[str] = []
    services: Any = make_services(sessions=OpenSessions(on_ready=ready.append))
    with visitor(services=services) as device:
        session = services.sessions.of_device(DEVICE)
        assert not session.ready and not session.push(Alert("Hello", "Dinner")), "it has not said hello"
        device.hello()
        assert session.ready and ready == [DEVICE]
        first = session.announce("Dinner is ready.", at_once=False, seconds=60)
        second = session.announce("Wash your hands.", at_once=False, seconds=60)
        assert second.delivery is Delivery.WAITING
        device.wait_turns(2)
        assert device.spoken() == ["Dinner is ready", "Wash your hands"]
        assert (first.delivery, second.delivery) == (Delivery.SPOKEN, Delivery.SPOKEN)
        assert session.push(Alert("Hello", "Dinner"))

        device.session.drain(0)
        assert session.announce("Dinner is ready.", at_once=True, seconds=60).delivery is Delivery.DROPPED


def test_a_device_that_a_gateway_has_called_is_known_to_its_tools() -> None:
    seen: list[bool] = []

    def look(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        seen.append(context.actions.called)
        return ToolOutcome(Action.SPEAK, "Yes.")

    llm = FakeLlm([ToolCall("1", "look", {})], [ToolCall("2", "look", {})])
    tools = [FunctionTool(ToolSpec("look", "Looks."), look)]
    with visitor(FakeAgents(make_agent(llm=llm, tools=tools))) as device:
        device.hello()
        device.detect("look")
        device.wait_turns()
        device.detect("[device_call] Bob is calling")
        device.wait_turns(2)
        device.detect("look")
        device.wait_turns(3)

    assert seen == [False, True]
