"""What a management console is told, and its orders."""

from __future__ import annotations

import base64
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.wire import UpgradeRefused
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, hear_nothing_more, open_stage, speak_to, tool_call
from tests.e2e.under_console import ANN, BEN, bind, page_of, under
from tests.vendors.console import (
    BASE,
    PRIVATE_KEY,
    REPORT,
    SECRET,
    SUMMARY,
    TITLE,
    BoundDevice,
    StrictConsole,
    refuses,
    strict_console,
)
from tests.waiting import wait_for
from xiaozhi.protocol.token import DeviceTokens
from xiaozhi.settings import masked_yaml

console = pytest.fixture(strict_console)


# --- what the console is told -----------------------------------------------------------------------------------------


def test_a_conversation_is_told_in_order_with_its_sound_then_title_and_summary(
    tmp_path: Path, sounds: Sounds, words: Any, console: StrictConsole
) -> None:
    memory = {"Memory_mem_local_short": {"type": "mem_local_short", "llm": "LLM_x"}}
    with open_stage(tmp_path, sounds, under(console)) as stage:
        ben = bind(console, stage, BEN, voice="ben", prompt="Hi.", plugins={"get_lunar": "{}"}, Memory=memory)
        ben.models["selected_module"]["Memory"] = "Memory_mem_local_short"
        console.stand(TITLE, Script(delay=0.3))
        device = stage.device(device_id=BEN)
        ask(device, "hello robot")
        stage.vendor.script(CHAT, Script(answer=[tool_call("get_lunar")]))
        speak_to(device, words("what is up with you"))
        device.close()

        wait_for(lambda: console.summaries, "the summary")

    told = [(report["chatType"], report["content"]) for report in console.reports]
    assert told[0] == (1, "嘿，你好呀")
    asked = told.index((1, "what is up"))
    assert {kind for kind, _ in told[1:asked]} == {2}, "the greeting"
    call, result, answer = told[asked + 1 :]
    assert call[1].startswith('[{"type":"tool","text":"get_lunar(')
    assert result[1].startswith('[{"type":"tool_result"')
    assert (call[0], result[0], answer) == (3, 3, (2, "Fine."))
    with_sound = [number for number, report in enumerate(console.reports) if report["audioBase64"]]
    assert with_sound == [number for number, (kind, _) in enumerate(told) if kind == 2 or number == asked]
    assert base64.b64decode(console.reports[-1]["audioBase64"])[44:].strip(b"\0"), "the voice, not silence"
    assert {report["macAddress"] for report in console.reports} == {BEN}, "as the console knows it"
    [session] = {report["sessionId"] for report in console.reports}
    assert console.titles == console.summaries == [session]
    assert console.order[-2:] == [TITLE, SUMMARY]


@pytest.mark.parametrize(("history", "reports"), [(0, 0), (1, 2)])
def test_no_more_is_told_than_the_console_keeps(
    history: int, reports: int, tmp_path: Path, sounds: Sounds, words: Any, console: StrictConsole
) -> None:
    console.bound[ANN] = BoundDevice({"prompt": "Hi."}, history=history)
    with open_stage(tmp_path, sounds, under(console)) as stage:
        device = stage.device(device_id=ANN)
        speak_to(device, words("what is up with you"))
        device.close()
        wait_for(lambda: len(console.reports) >= reports and len(stage.server.connections) == 0, "the reports")

    assert console.counts.get(REPORT, 0) == reports
    assert all(report["audioBase64"] is None for report in console.reports)


def test_what_was_said_last_is_told_before_a_server_stops(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    console.bound[ANN] = BoundDevice({"prompt": "Hi."})
    with open_stage(tmp_path, sounds, under(console)) as stage:
        ask(stage.device(device_id=ANN), "hello")

    assert [report["content"] for report in console.reports] == ["hello", "Fine."]


def test_what_was_said_while_the_console_was_away_is_told_later(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    console.bound[ANN] = BoundDevice({"prompt": "Hi."})
    console.stand(REPORT, Script(status=503))
    with open_stage(tmp_path, sounds, under(console)) as stage:
        ask(stage.device(device_id=ANN), "hello")
        stage.close_devices()
        wait_for(lambda: console.counts.get(REPORT), "a try")
    console.forget_scripts()
    with open_stage(tmp_path, sounds, under(console)):
        wait_for(lambda: len(console.reports) == 2, "the reports")

    assert [report["content"] for report in console.reports] == ["hello", "Fine."]


def test_a_device_calls_another_by_the_name_that_the_console_knows(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    """While it rings nothing is said, and from then on no end of an answer: the device would begin to listen."""
    with capture_logs() as lines, open_stage(tmp_path, sounds, under(console)) as stage:
        bind(console, stage, BEN, voice="ben", prompt="Hi.", plugins={"call_device": "{}"})
        console.books[BEN] = {"Ann": ANN}
        device = stage.device(device_id=BEN)
        stage.vendor.script(CHAT, Script(answer=[tool_call("call_device", nickname="Carl")]))
        assert ask(device, "please call Carl for me").sentences == ["未找到备注为'Carl'的设备"]

        device.replies.forget_answers()
        stage.vendor.script(CHAT, Script(answer=[tool_call("call_device", nickname="Ann")]))
        device.detect("please call Ann for me")
        wait_for(lambda: console.rung == [(BEN, ANN)], "the call")
        device.detect("are you still there")
        device.wait_until(lambda: "Fine" in device.replies.answer.text, 60, "an answer")
        hear_nothing_more(device)

        assert stops(device) == []
        device.abort()
        wait_for(lambda: (device.ping(), len(stops(device)) == 1)[1], "the answer to the user's own end")
        device.close()
        device = stage.device(device_id=BEN)
        ask(device, "hello")
    assert not [line for line in lines if "devices: is empty" in str(line)]


def stops(device: SimulatedDevice) -> list[Any]:
    """The ends of answers that the device was told since `forget_answers`."""
    return [message for message in device.replies.messages if message.data.get("state") == "stop"]


# --- orders of the console --------------------------------------------------------------------------------------------


def press(stage: Stage, action: str, secret: str = SECRET) -> list[dict[str, Any]]:
    """Press a button of the console's page; every message until its wait ends, by success or failure."""
    device = SimulatedDevice(stage.url, device_id="5f0c9a3e-6d0b-4f57-8a70-2f6d9f1f0c11")
    device.connect()
    try:
        device.send_json({"type": "server", "action": action, "content": {"secret": secret}})
        heard = [device.next_json("server").data]
        while heard[-1]["status"] != "success":
            heard.append(device.next_json("server").data)
        return heard
    finally:
        device.close()


def test_update_config_takes_effect_and_is_answered(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    with open_stage(tmp_path, sounds, under(console)) as stage:
        console.base["exit_commands"] = ["sink"]

        [answer] = press(stage, "update_config")

        assert (answer["status"], answer["content"]) == ("success", {"action": "update_config"})
        assert stage.generation.loaded.settings.exit_commands == ("sink",)


@pytest.mark.parametrize("wrong", ["secret", "console"])
def test_the_page_never_hangs_on_an_order_that_fails(
    wrong: str, tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    """What it takes for the end of its wait is a success; one without an action is a failure to it, at once."""
    with open_stage(tmp_path, sounds, under(console)) as stage:
        if wrong == "console":
            console.stand(BASE, refuses(401))

        first, last = press(stage, "update_config", secret="another one" if wrong == "secret" else SECRET)

        assert (first["status"], first["content"]["action"]) == ("error", "update_config")
        assert last["status"] == "success"
        assert "content" not in last


def test_the_console_signs_the_tokens_of_devices(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    """Its own connections too; an address without a device id can be tried without any."""
    console.base["server"]["auth"]["enabled"] = True
    console.bound[BEN] = BoundDevice({"prompt": "You are Ben."})
    with open_stage(tmp_path, sounds, under(console)) as stage:
        token = DeviceTokens(SECRET).issue("client", BEN, now=time.time())

        device = stage.device(device_id=BEN, client_id="client", token=token)
        assert ask(device, "hello").sentences == ["Fine"]

        assert "You are Ben." in stage.messages()[0]["content"]
        with pytest.raises(UpgradeRefused, match="401"):
            stage.device(device_id=BEN, client_id="client", token=token[:-1])


def test_devices_are_sent_to_the_consoles_ota(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    with open_stage(tmp_path, sounds, under(console)) as stage:
        url = f"http://127.0.0.1:{stage.server.http_port}/xiaozhi/ota/"
        with urllib.request.urlopen(url, timeout=60) as reply:
            assert f"{console.api_url}/ota/" in reply.read().decode()
        asked = urllib.request.Request(url, data=b"{}", headers={"Device-Id": ANN}, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=60)
        assert refused.value.code == 404
        refused.value.close()
        assert f"{console.api_url}/ota/" in page_of(stage)


def test_no_secret_is_told(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    """In the log at its most talkative, and in the configuration as it is printed."""
    with capture_logs() as lines, open_stage(tmp_path, sounds, under(console)) as stage:
        plugins = {"get_weather": '{"api_key": "weather-secret", "default_location": "x"}'}
        bind(
            console,
            stage,
            ANN,
            voice="ann",
            prompt="Hi.",
            plugins=plugins,
            mcp_endpoint="ws://h/call/?token=mcp-secret",
        )
        ask(stage.device(device_id=ANN), "hello")
        printed = masked_yaml(stage.generation.loaded.settings)
        shown = page_of(stage)
    everything = str(lines) + printed + shown
    for secret in (SECRET, PRIVATE_KEY, "key-of-ann", "weather-secret", "mcp-secret", "sms-secret"):
        assert secret not in everything
