"""A session by what a device sends and gets, between fakes: no socket, no vendor, no server."""

from __future__ import annotations

import gc
import json
import struct
import weakref
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from tests.fakes.hearing import FakeAsr
from tests.fakes.sessions import (
    DEVICE,
    FakeAgents,
    Visitor,
    make_agent,
    visitor,
)
from tests.fakes.thinking import FakeLlm, FakeVllm
from tests.session.visiting import LONG, visiting
from tests.waiting import PATIENCE_S
from xiaozhi.errors import VendorRejected
from xiaozhi.protocol import messages as wire
from xiaozhi.session.link import Identity
from xiaozhi.session.session import MAX_TASKS


@pytest.fixture
def device() -> Iterator[Visitor]:
    """A device that has said hello."""
    with visitor() as arrived:
        arrived.hello()
        yield arrived


# --- hello ------------------------------------------------------------------------------------------------------------


def test_hello_is_answered_at_once_and_what_takes_time_starts_behind_it() -> None:
    with visitor() as device:
        reply = device.hello()

        assert reply["session_id"] == device.session.id
        assert reply["audio_params"] == {"format": "pcm", "sample_rate": 24_000, "channels": 1, "frame_duration": 60}
        assert [(voice.format, voice.sample_rate, voice.frame_ms) for voice in device.agent.phrases.prepared] == [
            ("pcm", 24_000, 60)
        ]
        assert device.messages("mcp") == []


@pytest.mark.parametrize("vllm", [None, FakeVllm()])
def test_a_device_with_tools_is_asked_for_them_and_told_where_pictures_go(vllm: FakeVllm | None) -> None:
    with visiting(vllm=vllm) as device:
        device.hello(features={"mcp": True})
        device.wait(lambda: device.messages("mcp"))

        request = device.messages("mcp")[0]["payload"]
        assert request["method"] == "initialize"
        # Also without a model that could look at them: clients exist that fail without the address.
        assert request["params"]["capabilities"]["vision"] == {"url": "http://127.0.0.1/vision", "token": "token"}
        device.tell("mcp", payload={"jsonrpc": "2.0", "id": request["id"], "result": {}})
        device.wait(lambda: len(device.messages("mcp")) > 1)
        assert "tools/list" in [message["payload"]["method"] for message in device.messages("mcp")]


def test_hello_again_begins_anew(device: Visitor) -> None:
    device.agent.providers.llm.answers = [LONG]
    device.detect("tell me a story")
    device.wait(lambda: device.sender.binaries)

    device.hello(audio_params={"format": "pcm", "sample_rate": 16_000, "frame_duration": 20})

    device.wait_stops()
    assert device.services.telemetry.outcomes == ["interrupted"]
    assert device.messages("hello")[-1]["audio_params"]["frame_duration"] == 20
    sent = len(device.sender.binaries)
    device.agent.providers.llm.answers = ["Yes."]
    device.detect("are you there")
    device.wait_stops(2)
    assert {len(frame) for frame in device.sender.binaries[sent:]} == {2 * 24 * 20}


def test_a_device_that_never_says_hello_is_served() -> None:
    with visitor() as device:
        device.detect("hello")
        device.wait_stops()

        assert device.spoken() == ["Hello", "How are you?"]


def test_a_message_from_outside_reaches_a_device_that_has_said_hello() -> None:
    notice = wire.Alert("info", "The door is open.", "neutral")
    with visitor() as device:
        assert not device.session.push(notice)
        device.hello()

        assert device.session.push(notice)

        device.wait(lambda: device.messages("alert"))
        device.close()
        assert not device.session.push(notice)


# --- small messages ---------------------------------------------------------------------------------------------------


def test_pings_are_answered_and_goodbye_ends_it(device: Visitor) -> None:
    device.tell("ping")
    device.wait(lambda: device.messages("pong"))

    device.tell("goodbye")

    assert device.sender.closed == (1000, "goodbye")


def test_what_is_no_message_goes_back_and_nonsense_is_ignored(device: Visitor) -> None:
    for text in ("ping?", "7"):
        device.session.on_text(text)
    device.session.on_text('{"type": "unheard of"}')
    device.session.on_text('{"no": "type"}')
    device.session.on_text("[]")

    device.wait(lambda: device.sender.texts[-2:] == ["ping?", "7"])
    assert device.sender.closed is None


def test_an_echo_is_sent_before_anything_else_is_read(device: Visitor) -> None:
    """A close may stand right behind it."""
    device.session.on_text("are you there?")
    device.close()

    assert device.sender.texts[-1] == "are you there?"


def test_orders_are_bounded(device: Visitor) -> None:
    device.sender.hold()
    for _ in range(3 * MAX_TASKS):
        device.tell("server", action="restart", content={"secret": "s"})
    gevent.sleep(0)

    assert device.session.weight().queue_depth <= MAX_TASKS + 1
    device.sender.release()


def test_an_order_of_the_management_api_is_carried_out(device: Visitor) -> None:
    device.tell("server", action="update_config", content={"secret": "s"})
    device.wait(lambda: device.messages("server"))

    [reply] = device.messages("server")
    assert (reply["status"], reply["message"]) == ("success", "done for 192.0.2.1")


def test_an_order_needs_no_agent() -> None:
    agents = FakeAgents()
    agents.own[DEVICE] = lambda: Event().wait() and agents.default()
    with visitor(agents) as device:
        device.hello()
        device.tell("server", action="update_config", content={"secret": "s"})
        device.wait(lambda: device.messages("server"))


def test_answers_of_tools_that_nobody_has_asked_are_ignored(device: Visitor) -> None:
    device.tell("mcp", payload={"jsonrpc": "2.0", "id": 1, "result": {}})
    device.tell("ping")
    device.wait(lambda: device.messages("pong"))


def test_things_of_older_firmware_become_tools(device: Visitor) -> None:
    lamp = {
        "name": "Lamp",
        "description": "a lamp",
        "properties": {"on": {"type": "boolean", "description": "lit"}},
        "methods": {"TurnOn": {"description": "light it", "parameters": {}}},
    }
    device.tell("iot", descriptors=[lamp])
    device.tell("iot", states=[{"name": "Lamp", "state": {"on": False}}])
    device.detect("hello")
    device.wait_stops()

    offered = [spec.name for spec in device.agent.providers.llm.calls[0].tools]
    assert any("lamp" in name.lower() and "turn" in name.lower() for name in offered), offered


# --- binary frames ----------------------------------------------------------------------------------------------------


def test_a_frame_may_carry_json() -> None:
    with visitor(identity=Identity(DEVICE, protocol_version=3)) as device:
        body = json.dumps({"type": "ping"}).encode()
        device.session.on_binary(struct.pack("!BBH", 1, 0, len(body)) + body)
        device.wait(lambda: device.messages("pong"))


def test_frames_of_garbage_are_counted(device: Visitor) -> None:
    device.session.on_binary(b"")

    assert device.session.binary_faults == 1
    assert device.sender.closed is None


# --- the end ----------------------------------------------------------------------------------------------------------


def test_draining_lets_the_answer_finish_and_takes_no_new_turn() -> None:
    with visiting(llm=FakeLlm(["One. ", 0.05, "Two."])) as device:
        device.hello()
        device.detect("count")
        draining = gevent.spawn(device.session.drain, 10.0)
        gevent.sleep(0)
        device.detect("and again")
        draining.get()

        assert device.spoken() in (["One", "Two"], [])
        assert len(device.agent.providers.llm.calls) == 1


def test_draining_has_a_deadline() -> None:
    with visiting(llm=FakeLlm([60.0])) as device:
        device.hello()
        device.detect("count")
        gevent.sleep(0)

        device.session.drain(0.01)

        assert device.services.memories.saved == []


def test_an_answer_that_was_prepared_is_refused_while_draining() -> None:
    """What was heard before is heard out, but not answered any more."""
    asr_may_answer = Event()
    asr = FakeAsr(lambda pcm: asr_may_answer.wait(PATIENCE_S) and "hello")
    with visiting({"system_error_response": "Sorry."}, asr=asr) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait(lambda: asr.streams and asr.streams[-1].finished)
        draining = gevent.spawn(device.session.drain, 10.0)
        gevent.sleep(0)
        asr_may_answer.set()
        draining.get()

        assert device.services.telemetry.outcomes == ["overloaded"]


def ended(agents: FakeAgents) -> Visitor:
    """A visitor whose link went in the middle of everything."""
    device = Visitor(agents)
    device.hello(features={"mcp": True})
    device.tell("listen", state="start", mode="auto")
    device.detect("tell me a story")
    device.wait(lambda: device.sender.binaries)
    assert agents.default_agent.holders.count == 2
    device.close()
    device.session.closed("again")
    gevent.sleep(0)
    return device


def test_the_end_gives_everything_back() -> None:
    agents = FakeAgents(make_agent(llm=FakeLlm(LONG)))

    device = ended(agents)

    assert agents.default_agent.holders.count == 1
    assert device.services.telemetry.outcomes == ["interrupted"]


def test_a_session_that_has_ended_is_freed_without_the_garbage_collector() -> None:
    """A collection would stop the hub."""
    agents = FakeAgents(
        make_agent(llm=FakeLlm("And it was never still, not even for a moment, nor for less than that. " * 3))
    )
    gc.collect()
    gc.disable()
    try:
        held = weakref.ref(ended(agents).session)
        with gevent.Timeout(PATIENCE_S, AssertionError("the session is still there")):
            while held() is not None:  # its greenlets unwind in their own time
                gevent.sleep(0)
    finally:
        gc.enable()


def test_what_it_holds_can_be_told_and_given_back(device: Visitor) -> None:
    device.tell("listen", state="start", mode="auto")
    device.say(500, silence_ms=0)
    assert device.session.weight().memory_bytes > 0

    device.session.trim()

    assert device.session.weight().memory_bytes == 0


def test_a_turn_that_fails_is_no_end() -> None:
    with visiting({"system_error_response": "Sorry."}, llm=FakeLlm([VendorRejected("fake")], "Fine.")) as device:
        device.hello()
        device.detect("hello")
        device.wait_turns()
        device.detect("hello")
        device.wait_turns(2)

        assert device.services.telemetry.outcomes == ["failed", "answered"]
        assert device.spoken() == ["Sorry", "Fine"]


# --- its agent --------------------------------------------------------------------------------------------------------


def test_a_device_without_settings_of_its_own_asks_nobody() -> None:
    with visitor() as device:
        device.hello()
        device.detect("hello")
        device.wait_stops()

        assert device.agents.asked == []


def test_a_device_with_settings_of_its_own_gets_its_own_agent() -> None:
    agents = FakeAgents(make_agent({"conversation": {"speculative": "off"}}))
    own = agents.own[DEVICE] = make_agent(llm=FakeLlm("I am your own."))
    with visitor(agents) as device:
        device.hello(features={"mcp": True})
        device.detect("who are you")
        device.wait_stops()

        assert device.spoken() == ["I am your own"]
        assert [hello is not None and hello.features.mcp for _, hello in agents.asked] == [True]
        assert len(own.phrases.prepared) == 1
        assert device.agent.phrases.prepared == []
        assert (agents.default_agent.holders.count, own.holders.count) == (1, 2)
    assert own.holders.count == 1


def test_what_comes_meanwhile_waits_and_is_taken_in_order() -> None:
    there = Event()
    agents = FakeAgents()
    own = make_agent(llm=FakeLlm("Yes."))
    agents.own[DEVICE] = lambda: there.wait(PATIENCE_S) and own.hold()
    with visitor(agents) as device:
        device.hello()
        device.tell("listen", state="start", mode="manual")
        device.say(1_200, silence_ms=0)
        device.tell("listen", state="stop")
        device.tell("ping")
        device.wait(lambda: device.messages("pong"))
        assert device.session.weight().memory_bytes > 1_200 * 32
        assert device.session.weight().queue_depth > 10
        assert device.session.speaking is False

        there.set()
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["answered"]
        assert len(own.providers.asr.streams[0].pcm) == 1_200 * 32
        assert agents.default_agent.providers.asr.streams == []


def test_hello_again_forgets_what_waited() -> None:
    there = Event()
    agents = FakeAgents()
    agents.own[DEVICE] = lambda: there.wait(PATIENCE_S) and agents.default()
    with visitor(agents) as device:
        device.hello()
        device.detect("one")
        device.hello()
        device.detect("two")
        assert len(agents.asked) == 1

        there.set()
        device.wait_turns()

        assert [call.asked for call in device.agent.providers.llm.calls] == ["two"]


def test_a_device_that_does_not_say_hello_has_its_own_agent_too() -> None:
    agents = FakeAgents()
    agents.own[DEVICE] = make_agent(llm=FakeLlm("I am your own."))
    with visitor(agents) as device:
        device.session.on_binary(bytes(100))
        device.detect("who are you")
        device.wait_turns()

        assert device.spoken() == ["I am your own"]
        assert [hello for _, hello in agents.asked] == [None]


def test_memory_is_given_back_while_waiting() -> None:
    agents = FakeAgents()
    agents.own[DEVICE] = lambda: Event().wait() and agents.default()
    with visitor(agents) as device:
        device.hello()
        device.say(600)
        assert device.session.weight().memory_bytes > 0

        device.session.trim()

        assert device.session.weight().memory_bytes == 0
        device.session.tick(device.clock.advance(121))
        assert device.sender.closed == (1000, "no voice"), "nobody says goodbye who is not known yet"
    assert agents.default_agent.holders.count == 1


def test_a_turn_says_for_whom_it_is(device: Visitor) -> None:
    device.detect("hello")
    device.wait_turns()

    [call] = device.agent.providers.llm.calls
    assert (call.context.device_id, call.context.client_id, call.context.turn_id) == (DEVICE, "client", 1)
    assert call.context.session_id == device.session.id
