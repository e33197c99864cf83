"""What a device says of its signal when somebody asks for its state anyway."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.device_mcp import STATUS, DeviceMcp


def told_by(answer: str, tool: str = STATUS) -> list[tuple[int | None, bool]]:
    """What is told of the signal when `tool` answers so."""
    told: list[tuple[int | None, bool]] = []

    def reply(payload: dict[str, Any]) -> None:
        result = {"content": [{"type": "text", "text": answer}], "isError": False}
        device.on_payload({"jsonrpc": "2.0", "id": payload["id"], "result": result})

    device = DeviceMcp(reply, Tasks(), on_signal=lambda rssi, weak: told.append((rssi, weak)))
    assert device.call_tool(tool, {}).text == answer
    device.close()
    return told


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"type": "wifi", "rssi": -84}, [(-84, False)]),
        ({"type": "wifi", "signal": "weak"}, [(None, True)]),
        ({"type": "wifi", "signal": "strong", "rssi": -50}, [(-50, False)]),
        ({"type": "wifi", "rssi": 30}, []),
        ({"type": "wifi", "rssi": True}, []),
        ({"type": "wifi", "rssi": "-84"}, []),
        ({"type": "wifi"}, []),
        ("wifi", []),
        (None, []),
    ],
)
def test_the_state_of_a_device_has_its_signal(network: Any, told: list[tuple[int | None, bool]]) -> None:
    assert told_by(orjson.dumps({"audio_speaker": {"volume": 70}, "network": network}).decode()) == told


@pytest.mark.parametrize("answer", ["fine", "", "[]", '"wifi"', "{"])
def test_an_answer_of_another_form_says_nothing(answer: str) -> None:
    assert told_by(answer) == []


def test_other_tools_are_not_read() -> None:
    assert told_by('{"network": {"rssi": -84}}', "self.other") == []
