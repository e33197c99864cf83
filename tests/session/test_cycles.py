"""A session leaves nothing for the garbage collector, whatever happened in it: full collections stop the hub, so the
server makes them rarely, and what a cycle holds meanwhile is memory that a stranger can take."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from tests.fakes.hearing import FakeAsr
from tests.fakes.sessions import FakeAgents, Visitor, make_agent, make_services, visitor
from tests.fakes.thinking import FakeLlm
from tests.fakes.voice import FakeTts
from xiaozhi.chat import ToolCall
from xiaozhi.errors import VendorGarbage, VendorUnavailable

VISITS = 3


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """What only the collector can free of what was made in the block, by class, once the block has ended."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        for _ in range(3):
            gevent.sleep(0)  # callbacks that still hold something
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(thing).__qualname__ for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_a_cycle_is_seen() -> None:
    """The measure itself."""
    with collected() as found:
        loop: list[Any] = []
        loop.append(loop)
        del loop

    assert found["list"] >= 1


def describe(device: Visitor) -> None:
    """Things of both kinds: old firmware's and MCP."""
    thing = {"properties": {"volume": {}}, "methods": {"SetVolume": {"parameters": {"volume": {"type": "number"}}}}}
    device.tell("iot", descriptors=[{"name": f"Thing{number}", **thing} for number in range(5)])
    device.tell("iot", states=[{"name": "Thing0", "state": {"volume": 7}}])
    tools = [{"name": f"self.tool{number}", "description": "a tool", "inputSchema": {}} for number in range(5)]
    for method, result in (("initialize", {}), ("tools/list", {"tools": tools})):
        device.wait(lambda method=method: any(asked["method"] == method for asked in requests(device)))
        (number,) = [asked["id"] for asked in requests(device) if asked["method"] == method]
        device.tell("mcp", payload={"jsonrpc": "2.0", "id": number, "result": result})
    device.wait(lambda: len(device.services.telemetry.turns) == 0)


def requests(device: Visitor) -> list[dict[str, Any]]:
    return [message["payload"] for message in device.messages("mcp")]


def talk(device: Visitor) -> None:
    device.tell("listen", state="start", mode="auto")
    device.say(1_500)
    device.wait_turns(1)
    device.detect("and now?")
    device.wait_turns(2)


def use_tools(device: Visitor) -> None:
    describe(device)
    device.detect("how loud is it?")
    device.wait(lambda: any(asked["method"] == "tools/call" for asked in requests(device)))
    (number,) = [asked["id"] for asked in requests(device) if asked["method"] == "tools/call"]
    device.tell("mcp", payload={"jsonrpc": "2.0", "id": number, "error": {"message": "no"}})
    device.wait_turns(1)


def leave_a_tool_unanswered(device: Visitor) -> None:
    describe(device)
    device.detect("how loud is it?")
    device.wait(lambda: any(asked["method"] == "tools/call" for asked in requests(device)))


def leave_while_it_speaks(device: Visitor) -> None:
    device.detect("tell me")
    device.wait(lambda: device.session.speaking)


def interrupt(device: Visitor) -> None:
    leave_while_it_speaks(device)
    device.tell("abort")
    device.hello(features={"mcp": True})
    device.detect("again")
    device.wait_turns(2)


def leave_in_the_middle_of_a_word(device: Visitor) -> None:
    device.tell("listen", state="start", mode="realtime")
    device.say(1_000, silence_ms=0)


def be_called(device: Visitor) -> None:
    device.detect("[device_call]somebody calls")
    device.wait_turns(1)


def garbage(device: Visitor) -> None:
    device.session.on_text('{"type": "iot", "descriptors": [{"name": 1}], "states": [5]}')
    device.session.on_text('{"type": "mcp", "payload": {"x": 1}}')
    device.session.on_text("what?")


def mumble(device: Visitor) -> None:
    device.tell("listen", state="start", mode="auto")
    device.say(1_500)
    device.wait_turns(1)


def fail(device: Visitor) -> None:
    device.detect("tell me")
    device.wait_turns(1)


STORIES: dict[str, tuple[Callable[[Visitor], None], Callable[[], dict[str, Any]]]] = {
    "nothing": (lambda device: None, dict),
    "things of both kinds": (describe, dict),
    "talk": (talk, dict),
    "tools": (
        use_tools,
        lambda: {"llm": FakeLlm([ToolCall("1", "get_thing0_volume", {}), ToolCall("2", "self_tool0", {})], "Seven.")},
    ),
    "a tool unanswered": (leave_a_tool_unanswered, lambda: {"llm": FakeLlm([ToolCall("2", "self_tool0", {})])}),
    "left while it spoke": (leave_while_it_speaks, lambda: {"llm": FakeLlm("A long story. " * 40)}),
    "interrupted": (interrupt, lambda: {"llm": FakeLlm("A long story. " * 40, "Yes.")}),
    "left in the middle of a word": (leave_in_the_middle_of_a_word, dict),
    "called": (be_called, dict),
    "garbage": (garbage, dict),
    "a model that fails": (fail, lambda: {"llm": FakeLlm([VendorUnavailable("llm")])}),
    "a model that fails later": (fail, lambda: {"llm": FakeLlm(["Well. ", VendorGarbage("llm")])}),
    "a voice that fails": (
        fail,
        lambda: {"llm": FakeLlm("Hi. You."), "tts": FakeTts(ms_per_char=4, errors={"You.": VendorUnavailable("tts")})},
    ),
    "a recogniser that fails": (mumble, lambda: {"asr": FakeAsr([VendorUnavailable("asr")])}),
    "a bug": (fail, lambda: {"llm": FakeLlm([ZeroDivisionError()])}),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_session_is_freed_without_the_garbage_collector(story: str) -> None:
    play, providers = STORIES[story]
    # What belongs to the process outlives a session, and its cycles are its own.
    kept: list[Any] = []

    def visit(agent: Any) -> None:
        with visitor(FakeAgents(agent), make_services()) as device:
            kept.append((device.agents, device.services, device.sender))
            device.hello(features={"mcp": True})
            play(device)

    visit(make_agent(**providers()))
    agents = [make_agent(**providers()) for _ in range(VISITS)]

    with collected() as found:
        for agent in agents:
            visit(agent)

    assert not found, f"{story}: {found.most_common(20)}"
