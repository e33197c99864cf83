"""Calls of a device's tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.tools.fakes import SET_VOLUME, STATUS, FakeDevice, call, context
from tests.tools.mcp_device import QUICK, connect, many, names, ready
from tests.waiting import PATIENCE_S
from xiaozhi.errors import ConnectionClosed, ToolError
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.base import Action
from xiaozhi.tools.device_mcp import DeviceMcp
from xiaozhi.tools.toolbox import Toolbox


@pytest.fixture
def group() -> Iterator[Tasks]:
    made = Tasks()
    yield made
    made.kill()


def test_the_volume_is_set_through_the_toolbox(group: Tasks) -> None:
    device = FakeDevice()
    mcp = ready(device, group)
    box = Toolbox(mcp)

    outcome = box.call(call("self_audio_speaker_set_volume", volume="30"), context())

    assert (outcome.action, outcome.text) == (Action.ASK_LLM, "true")
    assert device.volume == 30
    assert device.requests("tools/call")[0]["params"] == {
        "name": "self.audio_speaker.set_volume",
        "arguments": {"volume": 30},
    }


def test_a_volume_out_of_range_never_reaches_the_device(group: Tasks) -> None:
    device = FakeDevice()
    box = Toolbox(ready(device, group))

    outcome = box.call(call("self_audio_speaker_set_volume", volume=150), context())

    assert outcome.action is Action.ERROR
    assert "from 0 to 100" in outcome.text
    assert device.requests("tools/call") == []


@pytest.mark.parametrize(
    "reply,action,text",
    [
        (
            {"result": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}},
            Action.ASK_LLM,
            "a\nb",
        ),
        ({"result": {"content": [{"type": "image", "data": "..."}]}}, Action.ASK_LLM, "[image]"),
        ({"result": {"content": []}}, Action.ASK_LLM, ""),
        ({"result": {"content": [{"type": "text", "text": "too hot"}], "isError": True}}, Action.ERROR, "too hot"),
        ({"result": {"isError": True, "content": []}}, Action.ERROR, "the device reported an error"),
        ({"result": True}, Action.ASK_LLM, "true"),
        ({"result": "plain"}, Action.ASK_LLM, "plain"),
        ({"result": {"volume": 5}}, Action.ASK_LLM, '{"volume": 5}'),
        ({"result": None}, Action.ASK_LLM, "null"),
        ({"error": {"message": "Unknown tool: x"}}, Action.ERROR, "Unknown tool: x"),
        ({"error": {"code": -32601}}, Action.ERROR, "the device reported an error"),
        ({"error": "broken"}, Action.ERROR, "broken"),
        ({"error": {"message": "both"}, "result": {}}, Action.ERROR, "both"),
    ],
)
def test_results_in_every_shape(group: Tasks, reply: dict[str, Any], action: Action, text: str) -> None:
    device = FakeDevice()
    mcp = ready(device, group)
    device.call = lambda params: reply  # type: ignore[method-assign]

    outcome = Toolbox(mcp).call(call("self_get_device_status"), context())

    assert (outcome.action, outcome.text) == (action, text)


def test_a_call_without_answer_times_out(group: Tasks) -> None:
    device = FakeDevice()
    mcp = ready(device, group, limits=QUICK)
    device.answers = False

    with pytest.raises(ToolError, match=r"the device did not answer within 0\.02 seconds"):
        mcp.call_tool("self.get_device_status", {})


def test_close_fails_pending_calls_at_once_and_refuses_new_ones(group: Tasks) -> None:
    device = FakeDevice()
    mcp = ready(device, group)
    device.answers = False
    failed: list[str] = []

    def wait() -> None:
        try:
            mcp.call_tool("x", {})
        except ToolError as error:
            failed.append(str(error))

    waiting = group.spawn("call", wait)
    gevent.sleep(0)

    mcp.close()
    mcp.close()
    waiting.join(PATIENCE_S)

    assert failed == ["the device has disconnected"]
    assert mcp.tools() == ()
    with pytest.raises(ToolError, match="disconnected"):
        mcp.call_tool("x", {})
    mcp.start()
    mcp.on_payload({"method": "ping", "id": 1})
    assert len(device.received) == 4


def test_a_new_start_begins_anew_with_the_new_vision(group: Tasks) -> None:
    device = FakeDevice(answers=False)
    mcp = connect(device, group)
    mcp.start()
    gevent.idle()
    device.answers = True

    mcp.start({"url": "http://host/see", "token": "t"})

    assert group.join(PATIENCE_S)
    assert [payload["params"]["capabilities"] for payload in device.requests("initialize")] == [
        {},
        {"vision": {"url": "http://host/see", "token": "t"}},
    ]
    assert names(mcp) == [SET_VOLUME["name"], STATUS["name"]]


def test_a_device_that_leaves_between_two_pages_offers_nothing(group: Tasks) -> None:
    device = FakeDevice(many(4), page_size=2)
    first = device.answer

    def leave_at_the_second_page(payload: dict[str, Any]) -> dict[str, Any]:
        if payload.get("params", {}).get("cursor"):
            mcp.close()
        return first(payload)

    device.answer = leave_at_the_second_page  # type: ignore[method-assign]
    mcp = connect(device, group)
    mcp.start()

    assert group.join(PATIENCE_S)
    assert mcp.tools() == ()


def test_close_during_the_handshake_ends_it(group: Tasks) -> None:
    mcp = connect(FakeDevice(answers=False), group)
    mcp.start()
    gevent.sleep(0)

    mcp.close()

    assert group.join(PATIENCE_S)


def test_a_lost_connection_is_a_tool_error(group: Tasks) -> None:
    def lost(payload: dict[str, Any]) -> None:
        raise ConnectionClosed(1006)

    mcp = DeviceMcp(lost, group)

    with pytest.raises(ToolError, match="disconnected"):
        mcp.call_tool("x", {})
    mcp.start()
    assert group.join(PATIENCE_S)
    mcp.on_payload({"method": "ping", "id": 1})
    assert mcp.rpc.pending == 0
