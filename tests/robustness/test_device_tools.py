"""Devices whose tools are nonsense: endless lists, answers to nobody, things that cannot be; the conversation goes on
without them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from tests.e2e.stage import Stage, ask
from tests.robustness.conftest import Talking
from tests.robustness.garbage import MAX_CHARS, Garbage
from tests.robustness.logbook import SAID, Logbook
from tests.robustness.witness import Mirror, calling
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.tools.device_mcp import DeviceMcpLimits

LIMITS = DeviceMcpLimits()
MOST_TOOLS_BYTES = 300_000
"""All tools in one request to a model: as long as they may be, and the JSON around them."""
Payload = Mapping[str, Any]


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    """Devices that do not answer a call are not waited for long."""
    return {"tool_call_timeout": 0.2}


class OddTools(DeviceTools):
    """Answers by `pages(cursor)` and `call(parameters)`, whatever these return; None: not at all."""

    def __init__(self, pages: Callable[[str], Any] | None = None, call: Callable[[Payload], Any] | None = None) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._pages = pages
        self._call_oddly = call

    def answer(self, payload: Payload) -> dict[str, Any] | None:
        """See DeviceTools."""
        method = str(payload.get("method"))
        self.asked.append(method)
        odd: Any = None
        if method == "tools/list" and self._pages is not None:
            odd = self._pages(payload["params"].get("cursor", ""))
        elif method == "tools/call" and self._call_oddly is not None:
            odd = self._call_oddly(payload)
        else:
            return super().answer(payload)
        return None if odd is None else {"jsonrpc": "2.0", "id": payload["id"], **odd}


def tool(name: str, **more: Any) -> dict[str, Any]:
    """A tool as `tools/list` shows it."""
    return {"name": name, "description": SAID, "inputSchema": {"type": "object", "properties": {}}, **more}


def endless(cursor: str) -> dict[str, Any]:
    """A new page behind every page."""
    number = int(cursor or 0)
    return {"result": {"tools": [tool(f"self.t{number}")], "nextCursor": str(number + 1)}}


def in_circles(cursor: str) -> dict[str, Any]:
    """Pages in a circle."""
    return {"result": {"tools": [tool("self.a"), tool("self.a")], "nextCursor": "b" if cursor == "a" else "a"}}


def fat(cursor: str) -> dict[str, Any]:
    """Pages as large as a message may be, for ever."""
    number = int(cursor or 0)
    schema = {
        "type": "object",
        "properties": {f"p{place}": {"type": "string", "description": SAID * 200} for place in range(6)},
    }
    tools = [tool(f"self.fat_{number}_{place}", inputSchema=schema, description=SAID * 2000) for place in range(12)]
    return {"result": {"tools": tools, "nextCursor": str(number + 1)}}


def obese(cursor: str) -> dict[str, Any]:
    """One tool that fills a message."""
    schema = {"type": "object", "properties": {f"p{place}": {"enum": [place] * 400} for place in range(100)}}
    return {"result": {"tools": [tool("self.obese", inputSchema=schema), tool("self.slim")]}}


def odd_names(cursor: str) -> dict[str, Any]:
    """Names that no model accepts, or that are no names."""
    names = [
        "",
        " ",
        "x" * 5000,
        "音量",
        "音量2",
        "a.b",
        "a_b",
        "a b",
        "\x00",
        "💥",
        "../../etc",
        '"',
        5,
        None,
        [],
        {"a": 1},
        True,
    ]
    return {"result": {"tools": [{"name": name} for name in names] + [None, 5, "x", [], {}]}}


def long_cursor(cursor: str) -> dict[str, Any]:
    """A cursor that would have to be sent back."""
    return {"result": {"tools": [tool("self.one")], "nextCursor": "c" * 200_000}}


LISTS: dict[str, Callable[[str], Any]] = {
    "endless": endless,
    "in circles": in_circles,
    "fat": fat,
    "obese": obese,
    "odd names": odd_names,
    "long cursor": long_cursor,
    "no list": lambda cursor: {"result": {"tools": {"name": "x"}}},
    "a number": lambda cursor: {"result": 5},
    "nothing": lambda cursor: {"result": None},
    "an error": lambda cursor: {"error": {"code": 1e300, "message": ["?"]}},
    "result and error": lambda cursor: {"result": {"tools": [tool("self.x")]}, "error": "both"},
}


def listings(book: Logbook) -> float:
    """Listings that are over, well or not."""
    return book.lines["device tools"] + book.lines["device mcp handshake failed"] / LIMITS.handshake_attempts


def test_lists_of_every_kind(stage: Stage, witness: Talking, book: Logbook) -> None:
    """The listing ends, the offer has a size that a model can be shown, and the next question is answered."""
    with witness():
        for name, pages in LISTS.items():
            tools, over = OddTools(pages), math.floor(listings(book))
            device = stage.device(tools=tools)
            wait_for(lambda over=over: listings(book) >= over + 1, name)
            assert tools.asked.count("tools/list") <= 2 * LIMITS.listing.pages, name
            answer = ask(device, f"{SAID} with {name}")
            assert answer.stt == f"{SAID} with {name}"
            (question,) = [
                asked for asked in stage.questions() if asked["messages"][-1]["content"] == f"{SAID} with {name}"
            ]
            assert len(json.dumps(question.get("tools", []))) < MOST_TOOLS_BYTES, name


CALLS: dict[str, Callable[[Payload], Any]] = {
    "nothing": lambda payload: None,
    "a wrong id": lambda payload: {"id": payload["id"] + 1000, "result": {}},
    "an odd id": lambda payload: {"id": [payload["id"]], "result": {}},
    "a number": lambda payload: {"result": 5},
    "null": lambda payload: {"result": None},
    "no texts": lambda payload: {
        "result": {"content": [None, 5, {"type": "image", "data": "x" * 50_000}, {"text": 7}]}
    },
    "too much": lambda payload: {"result": {"content": [{"type": "text", "text": SAID * 40_000}]}},
    "many texts": lambda payload: {"result": {"content": [{"type": "text", "text": SAID}] * 5000}},
    "deep": lambda payload: {"result": {"content": {"a": [[[[[[[[[[]]]]]]]]]]}}},
    "an error": lambda payload: {"error": {"message": f"{SAID} failed"}},
    "no error": lambda payload: {"error": False},
    "is an error": lambda payload: {"result": {"isError": True, "content": "x"}},
}


def test_answers_of_every_kind(stage: Stage, mirror: Mirror, witness: Talking) -> None:
    """The model is told something, and something is said, whatever the device answers."""
    with witness():
        for name, reply in CALLS.items():
            tools = OddTools(call=reply)
            device = stage.device(tools=tools)
            device.wait_until(lambda tools=tools: tools.listed, PATIENCE_S, "the tools to be listed")
            device.ping()
            mirror.rules.clear()
            mirror.when_asked(f"{SAID} call it", calling("self_get_device_status"))
            answer = ask(device, f"{SAID} call it")
            assert "tools/call" in tools.asked, name
            assert answer.sentences == [f"{SAID} call it"], name
            results = [
                message["content"]
                for asked in stage.questions()
                for message in asked["messages"]
                if message["role"] == "tool"
            ]
            stage.forget_requests()
            assert results and all(len(result) < 10_000 for result in results), name


def test_storms_of_notifications_requests_and_answers(stage: Stage, witness: Talking, book: Logbook) -> None:
    """Each is counted; a thousand notices of changed tools make one new listing, a thousand answers to nobody make
    nothing."""
    tools = OddTools()
    device = stage.device(tools=tools)
    device.wait_until(lambda: tools.listed, PATIENCE_S, "the tools to be listed")
    listings = tools.asked.count("tools/list")
    chance = random.Random(8)
    payloads: tuple[Any, ...] = (
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
        {"jsonrpc": "2.0", "method": "notifications/unheard_of", "params": {"x": SAID}},
        {"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {}},
        {"jsonrpc": "2.0", "id": {"no": "id"}, "method": "ping"},
        {"jsonrpc": "2.0", "id": 2**70, "method": "ping"},
        {"jsonrpc": "2.0", "method": 7},
        {"result": {}},
        {"x": 1},
    )
    with witness():
        for number in range(1000):
            device.tell("mcp", payload=chance.choice(payloads))
            device.tell("mcp", payload={"jsonrpc": "2.0", "id": number, "result": {"tools": []}})
            if number % 50 == 0:
                device.ping()
        assert ask(device, f"{SAID} after the storm").stt == f"{SAID} after the storm"
    assert tools.asked.count("tools/list") <= listings + 4
    assert book.lines["device mcp garbage"] <= 1


def test_answers_of_a_device_that_said_it_has_no_tools(stage: Stage, witness: Talking) -> None:
    """Before hello, after a hello without tools, and after its goodbye."""
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool("self.uninvited")]}}
    with witness():
        device = SimulatedDevice(stage.url, device_id="02:70:00:00:00:01").connect()
        stage.devices.append(device)
        device.tell("mcp", payload=answer)
        device.hello()
        device.tell("mcp", payload=answer)
        assert ask(device, f"{SAID} anything").sentences == [f"{SAID} anything"]
        assert "uninvited" not in json.dumps(stage.questions())
        device.tell("goodbye")
        device.tell("mcp", payload=answer)
        assert device.wait_closed()[0] == 1000


def test_things_of_every_kind(stage: Stage, witness: Talking) -> None:
    """A thousand descriptors and states of garbage: what is offered to the model stays small, and names are fit for
    it."""
    garbage = Garbage(70)
    device = stage.device()
    with witness():
        parameters = {f"v{place}": {"type": "number", "description": SAID * 190} for place in range(30)}
        for number in range(20):
            fat_thing = {
                "name": f"Fat{number}",
                "methods": {f"Set{place}": {"parameters": parameters} for place in range(7)},
            }
            device.tell("iot", descriptors=[fat_thing])
        for number in range(500):
            thing = {
                "name": garbage.chance.choice(("Lamp", f"T{number}", "灯", "x" * 64, garbage.message()[:64])),
                "description": SAID * garbage.chance.randrange(100),
                "properties": {
                    f"p{place}": {"type": garbage.chance.choice(("number", 5, None, "string"))}
                    for place in range(number % 40)
                },
                "methods": {f"Set{place}": {"parameters": {"v": {"type": "number"}}} for place in range(number % 7)},
            }
            message = {"type": "iot", "descriptors": [thing, garbage.hurt(dict(thing))]}
            device.send_text(json.dumps(message if number % 2 else garbage.hurt(message))[:MAX_CHARS])
            device.tell(
                "iot",
                states=[{"name": "Lamp", "state": {"p1": garbage.chance.choice((1, "x" * 2000, [], {}, None, 1e308))}}],
            )
        device.ping()
        assert ask(device, f"{SAID} lamp").stt == f"{SAID} lamp"
    offered = stage.questions()[-1]["tools"]
    assert 0 < len(offered) <= 200
    assert len(json.dumps(offered)) < 600_000


def test_a_thing_is_told_what_to_do_by_garbage(stage: Stage, mirror: Mirror, witness: Talking) -> None:
    """Arguments that a model made up never reach a device in another form than it declared."""
    device = stage.device()
    parameters = {"level": {"type": "number", "description": "0 to 9"}}
    device.tell(
        "iot", descriptors=[{"name": "Fan", "description": "a fan", "methods": {"Set": {"parameters": parameters}}}]
    )
    device.ping()
    with witness():
        for arguments in (
            '{"level": "three"}',
            '{"level": []}',
            "[]",
            "null",
            '{"level": NaN}',
            '{"level": 1e400}',
            '{"level": {}}',
            "{",
            '{"level": 3}',
        ):
            mirror.rules.clear()
            mirror.when_asked(f"{SAID} the fan", calling("fan_set", arguments))
            assert ask(device, f"{SAID} the fan").stt == f"{SAID} the fan", arguments
        ordered = device.next_json("iot").data["commands"]
    assert ordered == [{"name": "Fan", "method": "Set", "parameters": {"level": 3}}]
    assert not [message for message in device.replies.messages if message.type == "iot"]
