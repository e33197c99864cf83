"""MCP with a device that behaves, one that does not, one that is silent, and one that talks nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.fakes import SET_VOLUME, STATUS, FakeDevice, call, context
from tests.tools.mcp_device import QUICK, connect, many, names, ready
from tests.waiting import PATIENCE_S
from xiaozhi.errors import ToolError
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.base import Action
from xiaozhi.tools.device_mcp import DeviceMcpLimits
from xiaozhi.tools.mcp_content import ListingLimits
from xiaozhi.tools.toolbox import Toolbox


def listing(**limits: int) -> DeviceMcpLimits:
    return DeviceMcpLimits(listing=ListingLimits(**limits))


@pytest.fixture
def group() -> Iterator[Tasks]:
    made = Tasks()
    yield made
    made.kill()


# --- handshake ---


def test_handshake_says_who_we_are_and_learns_who_the_device_is(group: Tasks) -> None:
    device = FakeDevice()
    mcp = connect(device, group)

    mcp.start({"url": "http://host/mcp/vision/explain", "token": "t"})

    assert group.join(PATIENCE_S)
    assert [payload["method"] for payload in device.received] == [
        "initialize",
        "notifications/initialized",
        "tools/list",
    ]
    hello = device.received[0]
    assert hello["jsonrpc"] == "2.0"
    assert hello["params"]["protocolVersion"] == "2024-11-05"
    assert hello["params"]["capabilities"] == {"vision": {"url": "http://host/mcp/vision/explain", "token": "t"}}
    assert "id" not in device.received[1]
    assert names(mcp) == [SET_VOLUME["name"], STATUS["name"]]


def test_no_vision_no_capability(group: Tasks) -> None:
    device = FakeDevice()
    ready(device, group)

    assert device.received[0]["params"]["capabilities"] == {}


class Reluctant(FakeDevice):
    """Does not answer initialize, or with an error."""

    def __init__(self, error: Any = None) -> None:
        super().__init__()
        self.error = error

    def send(self, payload: dict[str, Any]) -> None:
        if payload.get("method") != "initialize":
            super().send(payload)
            return
        self.received.append(payload)
        if self.error is not None:
            assert self.mcp is not None
            self.mcp.on_payload({"id": payload["id"], "error": self.error})


@pytest.mark.parametrize("error", [None, {"code": -32603, "message": "'vision'"}, "no"])
def test_tools_are_listed_although_initialize_is_not_answered(group: Tasks, error: Any) -> None:
    device = Reluctant(error)
    mcp = ready(device, group, limits=QUICK)

    assert names(mcp) == [SET_VOLUME["name"], STATUS["name"]]
    assert [payload["method"] for payload in device.received] == ["initialize", "tools/list"]
    device.tools = [STATUS]
    mcp.on_payload({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    assert group.join(PATIENCE_S)
    assert names(mcp) == [STATUS["name"]]


@pytest.mark.parametrize(
    "result,told",
    [
        ({"serverInfo": {"name": "bread-compact-wifi"}}, ["bread-compact-wifi"]),
        ({"serverInfo": {"name": 5}}, []),
        ({"serverInfo": {"name": "\x1b[31m"}}, []),
        ({"serverInfo": []}, []),
        ([], []),
        (None, []),
    ],
)
def test_the_device_says_what_it_is(group: Tasks, result: Any, told: list[str]) -> None:
    heard: list[str] = []
    device = FakeDevice()
    device.answer = lambda payload: {"id": payload["id"], "result": result}  # type: ignore[method-assign]
    ready(device, group, on_server_name=heard.append)

    assert heard == told


def test_behind_the_gateway_the_tools_are_listed_until_no_more_come(group: Tasks) -> None:
    device = FakeDevice([])
    known = iter([0, 11, 19, 19, 19])
    device.page = lambda cursor: {"tools": many(next(known))}  # type: ignore[method-assign]
    mcp = ready(device, group, limits=QUICK, through_gateway=True)

    assert len(mcp.tools()) == 19
    assert len(device.requests("tools/list")) == 4


def test_behind_the_gateway_a_list_that_never_settles_is_not_followed_for_ever(group: Tasks) -> None:
    device = FakeDevice([])
    numbers = iter(range(1, 1000))
    device.page = lambda cursor: {"tools": many(next(numbers))}  # type: ignore[method-assign]
    ready(device, group, limits=QUICK, through_gateway=True)

    assert len(device.requests("tools/list")) == QUICK.gateway_listings


def test_tools_are_listed_page_by_page(group: Tasks) -> None:
    device = FakeDevice(many(7), page_size=3)
    mcp = ready(device, group)

    assert names(mcp) == [f"self.tool_{number}" for number in range(7)]
    assert [payload["params"]["cursor"] for payload in device.requests("tools/list")] == [
        "",
        "self.tool_3",
        "self.tool_6",
    ]


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
def test_cursors_that_go_in_circles_end_the_listing(group: Tasks, cursors: list[str]) -> None:
    device = FakeDevice()
    pages = iter([{"tools": [SET_VOLUME], "nextCursor": cursor} for cursor in cursors])
    device.page = lambda cursor: next(pages)  # type: ignore[method-assign]

    mcp = ready(device, group)

    assert names(mcp) == [SET_VOLUME["name"]]
    assert len(device.requests("tools/list")) == len(cursors)


def test_pages_and_tools_without_end_are_bounded(group: Tasks) -> None:
    device = FakeDevice()
    numbers = iter(range(10_000))
    device.page = lambda cursor: {"tools": many(1), "nextCursor": f"c{next(numbers)}"}  # type: ignore[method-assign]
    ready(device, group, limits=listing(pages=5))
    assert len(device.requests("tools/list")) == 5

    crowd = FakeDevice(many(500), page_size=50)
    mcp = ready(crowd, group, limits=listing(tools=60))
    assert len(mcp.tools()) == 60
    assert len(crowd.requests("tools/list")) == 2


def test_an_offer_has_a_size(group: Tasks) -> None:
    """What a device offers is kept and shown to the model with every question, so it is bounded tool by tool and
    altogether."""

    def fat(name: str, chars: int) -> dict[str, Any]:
        return {"name": name, "description": "d", "inputSchema": {"properties": {"x": {"description": "x" * chars}}}}

    device = FakeDevice([fat("fits", 100), fat("fat", 2000), *(fat(f"t{number}", 400) for number in range(10))])
    mcp = ready(device, group, limits=listing(schema_chars=1000, total_chars=2000))

    assert names(mcp) == ["fits", "t0", "t1", "t2"]


def test_a_long_cursor_is_not_sent_back(group: Tasks) -> None:
    device = FakeDevice()
    device.page = lambda cursor: {"tools": many(1), "nextCursor": "c" * 2000}  # type: ignore[method-assign]
    ready(device, group)

    assert len(device.requests("tools/list")) == 1


def test_a_silent_device_is_asked_twice_and_then_left_alone(group: Tasks) -> None:
    device = FakeDevice(answers=False)
    mcp = connect(device, group, limits=QUICK)

    mcp.start()

    assert group.join(PATIENCE_S)
    assert len(device.requests("initialize")) == 2
    assert mcp.tools() == ()
    assert mcp.rpc.pending == 0


def test_pages_that_came_are_offered_when_a_later_one_does_not(group: Tasks) -> None:
    device = FakeDevice(many(4), page_size=2)
    first = device.page
    device.page = lambda cursor: first("") if not cursor else "garbage"  # type: ignore
    mcp = ready(device, group)
    assert names(mcp) == ["self.tool_0", "self.tool_1"]

    dumb = FakeDevice(many(4), page_size=2)
    answer = dumb.answer
    dumb.answer = lambda payload: {} if payload.get("params", {}).get("cursor") else answer(payload)  # type: ignore[method-assign]
    mcp = ready(dumb, group, limits=QUICK)
    assert names(mcp) == ["self.tool_0", "self.tool_1"]


@pytest.mark.parametrize(
    "described",
    [None, 5, "x", [], {}, {"name": ""}, {"name": 5}, {"name": "n" * 300}, {"name": None, "inputSchema": {}}],
)
def test_descriptions_that_are_no_tools_are_skipped(group: Tasks, described: Any) -> None:
    device = FakeDevice([SET_VOLUME])
    device.page = lambda cursor: {"tools": [described, SET_VOLUME, SET_VOLUME]}  # type: ignore[method-assign]
    mcp = ready(device, group)

    assert names(mcp) == [SET_VOLUME["name"]]


@pytest.mark.parametrize(
    "schema", [None, 5, [], {"properties": []}, {"properties": {"a": 5}, "required": ["a", 3]}, {"type": "string"}]
)
def test_schemas_are_made_object_schemas(group: Tasks, schema: Any) -> None:
    device = FakeDevice()
    device.page = lambda cursor: {"tools": [{"name": "t", "inputSchema": schema}]}  # type: ignore[method-assign]
    mcp = ready(device, group)

    parameters = mcp.tools()[0].spec.parameters
    assert parameters["type"] == "object"
    assert parameters["properties"] == {}


# --- what the device says of its own accord ---


def test_changed_tools_are_listed_again_once_for_many_notifications(group: Tasks) -> None:
    device = FakeDevice([SET_VOLUME])
    mcp = ready(device, group, limits=QUICK)
    [old] = mcp.tools()

    device.tools = [SET_VOLUME, STATUS]
    for _ in range(100):
        mcp.on_payload({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    assert mcp.listing

    assert group.join(PATIENCE_S)
    assert not mcp.listing
    assert names(mcp) == [SET_VOLUME["name"], STATUS["name"]]
    assert len(device.requests("tools/list")) == 2
    assert mcp.tools()[0] is old, "an unchanged tool stays the same object"


def test_a_ping_of_the_device_is_answered_and_nothing_else(group: Tasks) -> None:
    device = FakeDevice()
    mcp = connect(device, group)

    mcp.on_payload({"jsonrpc": "2.0", "id": 7, "method": "ping"})
    mcp.on_payload({"jsonrpc": "2.0", "id": "x", "method": "roots/list"})

    assert device.received == [
        {"jsonrpc": "2.0", "id": 7, "result": {}},
        {"jsonrpc": "2.0", "id": "x", "error": {"code": -32601, "message": "method not found"}},
    ]


def test_a_listing_that_fails_keeps_the_old_offer(group: Tasks) -> None:
    device = FakeDevice()
    mcp = ready(device, group, limits=QUICK)
    device.answers = False

    mcp.on_payload({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    assert group.join(PATIENCE_S)

    assert len(device.requests("tools/list")) == 2
    assert names(mcp) == [SET_VOLUME["name"], STATUS["name"]]


def test_notifications_before_the_handshake_start_nothing(group: Tasks) -> None:
    device = FakeDevice()
    mcp = connect(device, group, limits=QUICK)

    mcp.on_payload({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})

    assert len(group) == 0


@pytest.mark.parametrize(
    "payload",
    [
        None,
        5,
        "text",
        [],
        [[]],
        {},
        {"id": 1},
        {"result": {}},
        {"id": True, "result": {}},
        {"id": 99, "error": {}},
        {"id": "x", "result": 1},
        {"method": 5},
    ],
)
def test_garbage_is_counted_and_ignored(group: Tasks, payload: Any) -> None:
    device = FakeDevice()
    mcp = ready(device, group)
    before = len(device.received)

    mcp.on_payload(payload)

    counts = mcp.rpc.counts
    assert counts.garbage + counts.unknown_ids == (0 if payload == [] else 1)
    assert len(device.received) == before
    assert mcp.call_tool("self.audio_speaker.set_volume", {"volume": 1}).text == "true"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)


keys = st.sampled_from(["jsonrpc", "id", "method", "result", "error", "params", "x"])


methods = st.sampled_from(["ping", "notifications/tools/list_changed", "tools/list", ""])


payloads = json_values | st.dictionaries(keys, json_values | st.integers(0, 5) | methods, max_size=6)


@given(st.lists(payloads, max_size=20))
def test_no_payload_whatsoever_raises_or_breaks_the_session(garbage: list[Any]) -> None:
    group = Tasks()
    device = FakeDevice()
    mcp = connect(device, group, limits=DeviceMcpLimits(relist_seconds=60))
    mcp.start()
    for payload in garbage:
        mcp.on_payload(payload)
    gevent.sleep(0)
    gevent.sleep(0)
    for payload in garbage:
        mcp.on_payload(payload)

    assert mcp.call_tool("self.audio_speaker.set_volume", {"volume": 3}).text == "true"
    assert mcp.rpc.pending <= 1
    mcp.close()
    group.kill()


@given(json_values)
def test_no_answer_whatsoever_breaks_the_handshake(result: Any) -> None:
    group = Tasks()
    device = FakeDevice()
    device.answer = lambda payload: {"id": payload["id"], "result": result}  # type: ignore[method-assign]
    mcp = connect(device, group)

    mcp.start()

    assert group.join(PATIENCE_S)
    outcome = Toolbox(mcp).call(call("anything"), context())
    assert outcome.action in (Action.NOT_FOUND, Action.ASK_LLM)
    assert mcp.call_tool("x", {}).action in (Action.ASK_LLM, Action.ERROR)
    mcp.close()


# --- tools that no model may have -------------------------------------------------------------------------------------


REBOOT = {"name": "self.reboot", "description": "Reboot.", "inputSchema": {}, "annotations": {"audience": ["user"]}}


@pytest.mark.parametrize(
    ("annotations", "offered"),
    [
        ({"audience": ["user"]}, False),
        ({"audience": "user"}, False),
        ({"audience": ["user", "assistant"]}, True),
        ({"audience": []}, True),
        ({"audience": 5}, True),
        ({"title": "x"}, True),
        (None, True),
        ("user", True),
    ],
)
def test_what_is_for_the_user_alone_is_never_offered(group: Tasks, annotations: Any, offered: bool) -> None:
    mcp = ready(FakeDevice([STATUS, {**REBOOT, "annotations": annotations}]), group)

    assert names(mcp) == ["self.get_device_status", *(["self.reboot"] if offered else [])]


def test_operators_are_shown_all_of_it_asked_for_anew(group: Tasks) -> None:
    device = FakeDevice(page_size=1)
    mcp = ready(device, group)
    device.tools = [STATUS, REBOOT]
    device.received.clear()

    assert [spec.name for spec in mcp.list_for_operators()] == ["self.get_device_status", "self.reboot"]
    assert [asked["params"]["withUserTools"] for asked in device.requests("tools/list")] == [True, True]
    assert "self.reboot" not in names(mcp), "the model's offer is another"


def test_operators_may_call_anything(group: Tasks) -> None:
    device = FakeDevice()
    mcp = ready(device, group)

    assert mcp.call_for_operators("self.audio_speaker.set_volume", {"volume": 5}).text == "true"
    assert device.volume == 5
    with pytest.raises(ToolError, match="Unknown tool"):
        mcp.call_for_operators("self.fly", {})


def test_a_device_that_never_answers_costs_an_operator_his_deadline_and_nobody_else(group: Tasks) -> None:
    device = FakeDevice()
    mcp = ready(device, group, limits=DeviceMcpLimits(operator_timeout=0.05, operator_call_timeout=0.05))
    device.answers = False

    waiting = group.spawn("operator", lambda: pytest.raises(ToolError, mcp.list_for_operators))
    gevent.sleep(0)
    with pytest.raises(ToolError, match="busy"):
        mcp.call_for_operators("self.reboot", {})
    device.answers = True
    assert mcp.call_tool("self.audio_speaker.set_volume", {"volume": 7}).text == "true", "the turn is not held up"
    assert waiting.get(timeout=PATIENCE_S)
    assert mcp.call_for_operators("self.audio_speaker.set_volume", {"volume": 8}).text == "true"


def test_a_listing_without_end_ends(group: Tasks) -> None:
    clock = iter(range(1_000))
    device = FakeDevice(many(500), page_size=1)
    mcp = ready(device, group, clock=lambda: float(next(clock)))

    with pytest.raises(ToolError, match="within 10 s"):
        mcp.list_for_operators()
