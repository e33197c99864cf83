"""A conversation with an assistant that was made on a platform: its own memory, and tools that it is told of in
words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.device_tools import DeviceTools
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Script, ask, open_stage
from tests.vendors.dify_vendor import ASK, KEY, DifyVendor
from tests.waiting import wait_for


@pytest.fixture
def dify(_no_leaks: None) -> Iterator[DifyVendor]:
    with DifyVendor(keep_alive=False) as vendor:
        assert isinstance(vendor, DifyVendor)
        yield vendor


def settings_for(dify: DifyVendor) -> dict[str, Any]:
    block = {"type": "dify", "base_url": f"{dify.url}/v1", "api_key": KEY, "mode": "chat-messages"}
    return {"selected_module": {"LLM": "DifyLLM"}, "LLM": {"DifyLLM": block}}


def test_the_device_is_turned_down_by_a_call_in_words(tmp_path: Path, sounds: Sounds, dify: DifyVendor) -> None:
    call = '<tool_call>{"name": "self_audio_speaker_set_volume", "arguments": {"volume": 30}}</tool_call>'
    dify.script(ASK, Script(answer=call), Script(answer="It is quieter now."))
    tools = DeviceTools()
    with open_stage(tmp_path, sounds, settings_for(dify)) as stage:
        device = stage.device(tools=tools)
        wait_for(lambda: tools.listed, "the list of tools")
        device.ping()

        assert ask(device, "be quieter").sentences == ["It is quieter now"]
        assert tools.volume == 30
        assert ask(device, "thank you").sentences == ["It is late", "and the moon is up"]

    first, second, third = dify.queries
    assert "self_audio_speaker_set_volume" in first and first.endswith("be quieter")
    assert second.startswith("be quieter") and "- self_audio_speaker_set_volume: true" in second
    assert third == "thank you"
    assert len(dify.conversations) == 1 and dify.refusals == []
