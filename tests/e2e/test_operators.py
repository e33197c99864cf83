"""What operators do with a connected device, and what it sees for its user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from loadtest.simulator.device_tools import DeviceTools, FakeTool
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Stage, ask, open_stage, tool_call
from tests.waiting import PATIENCE_S, wait_for

ADMIN = {"Authorization": "Bearer operator-of-the-test"}
JPEG = b"\xff\xd8\xff\xe0" + b"x" * 2_000


@pytest.fixture(scope="module")
def eyes(sounds: Sounds) -> Iterator[OpenAiVendor]:
    """A vision model of its own."""
    with OpenAiVendor(sounds=sounds, keep_alive=False) as vendor:
        assert isinstance(vendor, OpenAiVendor)
        yield vendor


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds, eyes: OpenAiVendor) -> Iterator[Stage]:
    endpoint = {"type": "openai", "api_key": "test-key", "model_name": "m", "base_url": eyes.base_url}
    settings: dict[str, Any] = {
        "server": {"admin_token": "operator-of-the-test"},
        "selected_module": {"VLLM": "Eyes"},
        "VLLM": {"Eyes": endpoint},
        "show_tool_calls": True,
    }
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        yield opened


def request(stage: Stage, method: str, device_id: str, **body: Any) -> requests.Response:
    url = f"http://127.0.0.1:{stage.server.http_port}/admin/devices/{device_id}/tools"
    return requests.request(method, url, headers=ADMIN, timeout=PATIENCE_S, **body)


def test_operators_have_the_tools_that_no_model_is_offered(stage: Stage) -> None:
    reboot = FakeTool("self.reboot", "Reboot.", lambda arguments: "rebooting", for_user=True)
    tools = DeviceTools([reboot])
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()

    listed = request(stage, "GET", device.device_id.upper()).json()
    called = request(stage, "POST", device.device_id, json={"name": "self.reboot"})

    assert "self.reboot" in [tool["name"] for tool in listed["tools"]]
    assert called.json() == {"success": True, "text": "rebooting"}
    assert tools.calls == [("self.reboot", {})]
    ask(device, "hello")
    assert "self_reboot" not in json.dumps(stage.questions()[-1]["tools"])


def test_a_device_without_tools_and_one_that_is_not_there(stage: Stage) -> None:
    device = stage.device(features={})

    assert "no tools" in request(stage, "GET", device.device_id).json()["message"]
    assert request(stage, "GET", "02:ff:ff:ff:ff:ff").status_code == 404


@pytest.mark.parametrize("field", ["file", "image"])
def test_what_the_camera_sees_is_spoken(stage: Stage, eyes: OpenAiVendor, field: str) -> None:
    """From the question by way of the camera, the upload and the vision model, without a second request."""
    eyes.stand(CHAT, Script(answer="A cat sits on a sofa."))

    def take_photo(arguments: dict[str, Any]) -> str:
        assert tools.vision is not None
        return requests.post(
            tools.vision["url"],
            headers={"Authorization": f"Bearer {tools.vision['token']}", "Device-Id": device.device_id},
            data={"question": arguments["question"]},
            files={field: ("camera.jpg", JPEG, "image/jpeg")},
            timeout=PATIENCE_S,
        ).text

    question = {"question": {"type": "string"}}
    tools = DeviceTools([FakeTool("self.camera.take_photo", "Take a photo.", take_photo, question, ["question"])])
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()
    stage.vendor.script(CHAT, Script(answer=[tool_call("self_camera_take_photo", question="What is there?")]))

    assert ask(device, "what do you see").sentences == ["A cat sits on a sofa"]

    assert stage.vendor.counts[CHAT] == 1
    seen = eyes.requests[-1].json()["messages"][-1]["content"]
    assert "What is there?" in json.dumps(seen)
    assert "data:image/jpeg;base64," in json.dumps(seen)


def test_the_name_of_a_called_tool_is_shown(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call("get_time")]), Script(answer="Noon."))

    device.detect("what time is it")

    assert device.next_json("stt").data["text"] == "what time is it"
    assert device.next_json("stt").data["text"] == "% get_time"
    assert device.collect_answer().sentences == ["Noon"]
