"""A device sounds choppy, and its owner is told why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import requests

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools, FakeTool
from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, TTS, Script, Stage, ask, open_stage, tool_call
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.devices.lines import Lines
from xiaozhi.speech.line_quality import STALLS
from xiaozhi.web.device_line import described_line

ADMIN = {"Authorization": "Bearer operator-of-the-test"}
STALL_S = 0.35


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    settings = {"server": {"admin_token": "operator-of-the-test"}}
    with open_stage(tmp_path_factory.mktemp("line"), sounds, settings) as opened:
        yield opened


@pytest.fixture(autouse=True)
def calm(stage: Stage) -> None:
    stage.reset()


def line_of(stage: Stage, device: SimulatedDevice) -> dict[str, Any]:
    """What operators are told."""
    url = f"http://127.0.0.1:{stage.server.http_port}/admin/devices/{device.device_id}/line"
    answer = requests.get(url, headers=ADMIN, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def known(stage: Stage, device: SimulatedDevice) -> None:
    """Until the device stands in the database."""
    wait_for(
        lambda: device.device_id in {record.device for record in stage.server.known_devices.directory.all()},
        "the device to be known",
    )


def test_a_line_that_stands_still_again_and_again(stage: Stage, words: Callable[[str], Speech]) -> None:
    device = stage.device()
    known(stage, device)
    packets = words("tell me a long story").packets(device.frame_ms)
    device.listen_start("manual")
    for start in range(0, 60, 12):
        chunk = [packets[number % len(packets)] for number in range(start, start + 12)]
        device.send_frames(chunk, realtime=False)
        gevent.sleep(STALL_S)  # sleep: the network of the device stands still
    device.listen_stop()
    device.collect_answer(PATIENCE_S)

    told = line_of(stage, device)

    assert told["live"]
    assert told["findings"][0]["kind"] == "jitter"
    assert told["sentence"]["en"].startswith("Its packets arrive unevenly")
    assert told["figures"]["stalls"] >= STALLS
    assert told["figures"]["lead"] == 4, "a frame more than usual, as far as boards bear it"

    device.close()
    wait_for(lambda: not line_of(stage, device)["live"], "the visit to end")
    assert line_of(stage, device)["findings"] == told["findings"]
    wait_for(lambda: stage.server.known_devices.notes.waiting == 0, "the notes")
    record = stage.server.known_devices.directory.of(device.device_id)
    assert described_line(Lines(), record)["findings"] == told["findings"], "other workers know it, too"
    assert stage.count("xiaozhi_line_visits_total", finding="jitter") >= 1


def test_a_weak_signal_that_the_device_has_told(stage: Stage) -> None:
    device = stage.device()
    known(stage, device)
    body = {"application": {"version": "1.0.0"}, "board": {"type": "box", "name": "box", "rssi": -84}}
    headers = {"Device-Id": device.device_id, "Client-Id": "c"}
    url = f"http://127.0.0.1:{stage.server.http_port}/xiaozhi/ota/"
    assert requests.post(url, json=body, headers=headers, timeout=PATIENCE_S).status_code == 200

    assert line_of(stage, device)["sentence"] == {
        "en": "The Wi-Fi of this device is weak (-84 dBm).",
        "zh": "这台设备的 Wi-Fi 信号弱（-84 dBm）。",
    }


def test_a_signal_that_the_device_tells_with_its_status(stage: Stage) -> None:
    """Not asked for: the language model wanted to know the volume."""
    status = FakeTool(
        "self.get_device_status", "State.", lambda arguments: '{"network": {"type": "wifi", "rssi": -88}}'
    )
    tools = DeviceTools([status])
    device = stage.device(tools=tools)
    known(stage, device)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()
    stage.vendor.script(CHAT, Script(answer=[tool_call("self_get_device_status")]), Script(answer="Loud."))

    ask(device, "how loud are you")

    assert line_of(stage, device)["figures"]["rssi"] == -88


def test_a_connection_that_breaks_again_and_again(stage: Stage) -> None:
    device = stage.device()
    known(stage, device)
    for _ in range(4):
        device.drop()
        wait_for(lambda: len(stage.server.connections) == 0, "the end of the connection")
        device = stage.device(device_id=device.device_id)

    assert line_of(stage, device)["sentence"]["en"] == "It reconnects often: 4 times in the last hour."


def test_a_voice_that_stops_within_sentences(stage: Stage) -> None:
    device = stage.device()
    known(stage, device)
    stage.vendor.script(CHAT, Script(answer="A long sentence about whales."))
    stage.vendor.stand(TTS, Script(answer=("wav", 1.0), gap=0.4))

    ask(device, "tell me of whales")

    assert line_of(stage, device)["figures"]["starved"] >= 1
