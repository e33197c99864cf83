"""The device's side of MCP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loadtest.simulator.device_tools import INVALID_PARAMS, METHOD_NOT_FOUND, DeviceTools, FakeTool


def ask(tools: DeviceTools, method: str, **params: Any) -> dict[str, Any]:
    return tools.answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def call(tools: DeviceTools, name: str, **arguments: Any) -> dict[str, Any]:
    return ask(tools, "tools/call", name=name, arguments=arguments)


def test_remembers_where_pictures_go():
    tools = DeviceTools()

    answer = ask(
        tools, "initialize", protocolVersion="2024-11-05", capabilities={"vision": {"url": "http://x/", "token": "t"}}
    )

    assert answer["result"]["protocolVersion"] == "2024-11-05"
    assert tools.vision == {"url": "http://x/", "token": "t"}


def test_notifications_get_no_answer():
    tools = DeviceTools()

    assert tools.answer({"jsonrpc": "2.0", "method": "notifications/initialized"}) is None
    assert tools.answer({"jsonrpc": "2.0", "id": 3, "result": {}}) is None
    assert tools.initialized


def test_lists_its_tools_in_pages():
    tools = DeviceTools([FakeTool("self.light.on", "Light on.", lambda arguments: "true")], page_size=3)
    seen, cursor = [], ""
    while True:
        page = ask(tools, "tools/list", cursor=cursor)["result"]
        seen.append([tool["name"] for tool in page["tools"]])
        if not (cursor := page.get("nextCursor", "")):
            break
        assert not tools.listed

    assert [len(names) for names in seen] == [3, 1]
    assert seen[0][1] == "self.audio_speaker.set_volume" and seen[1] == ["self.light.on"]
    assert tools.listed


def test_the_volume_can_be_set_and_seen():
    tools = DeviceTools(volume=10)

    assert call(tools, "self.audio_speaker.set_volume", volume=35)["result"]["isError"] is False
    status = call(tools, "self.get_device_status")["result"]["content"][0]["text"]

    assert json.loads(status)["audio_speaker"]["volume"] == 35
    assert tools.calls == [("self.audio_speaker.set_volume", {"volume": 35}), ("self.get_device_status", {})]


@pytest.mark.parametrize("arguments", [{}, {"volume": 101}, {"volume": "loud"}, {"volume": True}])
def test_a_wrong_volume_is_refused(arguments):
    tools = DeviceTools(volume=10)

    assert call(tools, "self.audio_speaker.set_volume", **arguments)["error"]["code"] == INVALID_PARAMS
    assert tools.volume == 10


def test_what_it_does_not_have_it_refuses():
    assert call(DeviceTools(), "self.rocket.launch")["error"]["code"] == INVALID_PARAMS
    assert ask(DeviceTools(), "resources/list")["error"]["code"] == METHOD_NOT_FOUND
