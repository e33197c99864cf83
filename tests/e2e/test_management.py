"""Devices of a server under a management console, over real sockets: whose settings they get, what they hear without
any, and what happens while the console is slow, away or wrong."""

from __future__ import annotations

import base64
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.wire import UpgradeRefused
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, hear_nothing_more, open_stage, speak_to, tool_call
from tests.vendors.console import (
    BASE,
    MODELS,
    NO_AGENT,
    PRIVATE_KEY,
    REPORT,
    SECRET,
    SUMMARY,
    TITLE,
    WORDS,
    BoundDevice,
    StrictConsole,
    refuses,
)
from tests.waiting import wait_for
from xiaozhi.errors import SettingsError
from xiaozhi.protocol.token import DeviceTokens
from xiaozhi.session import agent_wait
from xiaozhi.settings import masked_yaml

ANN, BEN = "02:00:00:00:0c:01", "02:00:00:00:0C:02"
"""As they write themselves: the console compares letter by letter."""


@pytest.fixture
def console() -> Iterator[StrictConsole]:
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        yield console
        assert console.faults == []


def under(console: StrictConsole, **more: Any) -> dict[str, Any]:
    """Settings of a server under this console."""
    return {"manager-api": {"url": console.api_url, "secret": SECRET, "retry_delay": 0}, **more}


def bind(console: StrictConsole, stage: Stage, mac: str, *, voice: str, prompt: str, **more: Any) -> BoundDevice:
    """An agent with a prompt and a voice of its own."""
    endpoint = {"type": "openai", "api_key": f"key-of-{voice}", "model_name": "m", "base_url": stage.vendor.base_url}
    speech = {"type": "openai", "api_key": "k", "api_url": stage.vendor.base_url, "model": "m", "voice": "unused",
              "private_voice": voice, "response_format": "wav", "language": "普通话"}  # fmt: skip
    models = {
        "LLM": {"LLM_x": endpoint},
        "TTS": {"TTS_x": speech},
        "Memory": {"Memory_nomem": {"type": "nomem"}},
        "Intent": {"Intent_function_call": {"type": "function_call"}},
        "selected_module": {"TTS": "TTS_x", "LLM": "LLM_x", "Memory": "Memory_nomem", "Intent": "Intent_function_call"},
        "prompt": prompt,
        "summaryMemory": None,
        **more,
    }
    device = console.bound[mac] = BoundDevice(models)
    return device


def voices(stage: Stage) -> list[str]:
    """Of the speech requests so far."""
    return [request.json()["voice"] for request in stage.vendor.requests if stage.vendor.kind(request) == TTS]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without an agent is looked after sooner."""
    monkeypatch.setattr(agent_wait, "ASK_AGAIN_S", 0.05)


# --- whose settings a device gets -------------------------------------------------------------------------------------


def test_two_devices_talk_each_with_its_own_prompt_voice_and_tools(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    with open_stage(tmp_path, sounds, under(console)) as stage:
        bind(console, stage, ANN, voice="ann", prompt="You are Ann.", plugins={"get_lunar": "{}"})
        ben = bind(console, stage, BEN, voice="ben", prompt="You are Ben.")
        ben.words = ["Fine|Feyn", "|"]
        for mac, name, spoken in ((ANN, "ann", "Fine"), (BEN, "ben", "Feyn")):
            device = stage.device(device_id=mac)
            stage.forget_requests()

            assert ask(device, "who are you").sentences == ["Fine"]

            assert f"You are {name.title()}." in stage.messages()[0]["content"]
            assert "普通话" in stage.messages()[0]["content"]
            assert any(spoken in text for text in stage.spoken())
            assert set(voices(stage)) == {name}
            offered = {tool["function"]["name"] for tool in stage.questions()[-1].get("tools", [])}
            assert ("get_lunar" in offered) == (name == "ann")
            [asked] = [request for request in stage.vendor.requests if stage.vendor.kind(request) == CHAT]
            assert asked.headers["authorization"] == f"Bearer key-of-{name}"
    asked_of_console = [request.json() for request in console.requests if console.kind(request) == MODELS]
    assert [each["macAddress"] for each in asked_of_console] == [ANN, BEN]
    assert all(each["selectedModule"] == {"VAD": "Ears", "ASR": "Vendor"} for each in asked_of_console)


def test_the_settings_of_the_server_come_from_the_console(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    console.base["xiaozhi"]["audio_params"]["frame_duration"] = 40
    console.base["tool_call_timeout"] = 17
    with open_stage(tmp_path, sounds, under(console)) as stage:
        settings = stage.generation.loaded.settings

        assert settings.tool_call_timeout == 17
        assert settings.exit_commands == ("退出", "关闭")
        assert settings.server.auth.enabled is False


def test_what_the_console_remembers_of_a_device_is_told_to_the_model(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    memory = {"Memory_mem_local_short": {"type": "mem_local_short", "llm": "LLM_small"}}
    with open_stage(tmp_path, sounds, under(console)) as stage:
        ann = bind(
            console, stage, ANN, voice="ann", prompt="Hi.", Memory=memory, summaryMemory="Her cat is called Tom."
        )
        ann.models["selected_module"]["Memory"] = "Memory_mem_local_short"

        ask(stage.device(device_id=ANN), "hello")

        assert "Her cat is called Tom." in stage.messages()[0]["content"]


def test_types_that_are_not_here_are_replaced_and_told_once(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    console.base["tts_timeout"] = "soon"
    with capture_logs() as lines, open_stage(tmp_path, sounds, under(console)) as stage:
        alien = {"TTS_alien": {"type": "voice_of_mars", "api_key": "mars-secret"}}
        for mac in (ANN, BEN):
            device = bind(console, stage, mac, voice="ann", prompt=f"You are {mac}.", TTS=alien)
            device.models["selected_module"]["TTS"] = "TTS_alien"

            heard = ask(stage.device(device_id=mac), "hello")

            assert heard.sentences == ["Fine"]
            assert f"You are {mac}." in stage.messages()[0]["content"]
        page = page_of(stage)
    told = [line["fault"] for line in lines if "left out" in line["event"]]
    assert [fault.partition(":")[0] for fault in told] == ["tts_timeout", "TTS.TTS_alien.type"]
    assert "TTS.TTS_alien.type" in page
    assert "mars-secret" not in page + str(lines)


def test_a_console_cannot_have_code_loaded(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    with open_stage(tmp_path, sounds, under(console)) as stage:
        for mac, more in (
            (ANN, {"LLM": {"LLM_x": {"type": "os:system"}}}),
            (BEN, {"plugins": {"dirs": '{"0": "/tmp"}', "get_lunar": "{}"}}),
        ):
            bind(console, stage, mac, voice="ann", prompt="Hi.", **more)

            assert ask(stage.device(device_id=mac), "hello").sentences == ["Fine"]

        page = page_of(stage)
    assert "LLM.LLM_x.type" in page
    assert "plugins.dirs" in page


# --- devices without an agent -----------------------------------------------------------------------------------------


def test_a_device_that_nobody_has_bound_hears_its_code_digit_by_digit(
    tmp_path: Path, sounds: Sounds, console: StrictConsole, impatient: None
) -> None:
    """Once, however much it sends; and it is answered as soon as it is bound, without connecting anew."""
    console.codes[ANN] = "204815"
    with open_stage(tmp_path, sounds, under(console)) as stage:
        ann = stage.device(device_id=ANN)
        stage.forget_requests()

        heard = ask(ann, "hello")

        assert "204815" in heard.stt
        assert "2 0 4 8 1 5" in "".join(stage.spoken())
        assert stage.questions() == []
        asked = console.counts[MODELS]
        ann.detect("hello again")
        wait_for(lambda: console.counts[MODELS] > asked, "the console to be asked again")
        assert len(stage.spoken()) == 1 or stage.questions() == []

        bind(console, stage, ANN, voice="ann", prompt="You are Ann.")
        stage.forget_requests()
        wait_for(lambda: ask_until_answered(ann, stage), "an answer")
        assert "You are Ann." in stage.messages()[0]["content"]
        assert {role for role, content in stage.said() if "204815" in content} == set()


def ask_until_answered(device: SimulatedDevice, stage: Stage) -> bool:
    """One more question; whether the model has been asked."""
    device.detect("who are you")
    gevent.sleep(0.05)  # sleep: a device that asks again and again
    return bool(stage.questions())


def test_a_code_may_be_silenced(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    console.codes[ANN] = "204815"
    with open_stage(tmp_path, sounds, under(console)) as stage:
        stage.vendor.stand(TTS, Script(answer=("wav", 10.0)))
        ann = stage.device(device_id=ANN)
        ann.detect("hello")
        ann.wait_until(lambda: ann.replies.answer.arrivals, 60, "sound")

        ann.abort()

        ann.collect_answer()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "The console does not know this device"),
        (NO_AGENT, "主人，小智现在有点忙"),
        (500, "主人，小智现在有点忙"),
        (401, "主人，小智现在有点忙"),
    ],
)
def test_a_device_without_settings_hears_why(
    code: int | None, said: str, tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    with open_stage(tmp_path, sounds, under(console)) as stage:
        if code is not None:
            console.stand(MODELS, refuses(code))
        ann = stage.device(device_id=ANN)
        stage.forget_requests()

        heard = ask(ann, "hello")

        assert said in heard.text or said in "".join(stage.spoken())
        assert stage.questions() == []


# --- a console that is slow, away, or out of its mind -----------------------------------------------------------------


def test_a_slow_console_costs_no_word(tmp_path: Path, sounds: Sounds, console: StrictConsole) -> None:
    with open_stage(tmp_path, sounds, under(console)) as stage:
        bind(console, stage, ANN, voice="ann", prompt="You are Ann.")
        console.stand(MODELS, Script(delay=1.0))
        console.stand(WORDS, Script(stall="before"))
        ann = stage.device(device_id=ANN)

        assert ask(ann, "hello").sentences == ["Fine"]

        assert "You are Ann." in stage.messages()[0]["content"]


@pytest.mark.parametrize(
    "trouble",
    [
        Script(status=503),
        Script(garbage="json"),
        Script(garbage="html"),
        Script(garbage="binary"),
        Script(garbage="empty"),
        Script(disconnect=-1),
        Script(answer=["no envelope"]),
        Script(answer={"code": 0, "msg": "success", "data": "no object"}),
        refuses(500),
        refuses(401),
    ],
    ids=str,
)
def test_the_last_good_settings_serve_while_the_console_does_not(
    trouble: Script, tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    """Also those of an earlier process; and the fresh ones as soon as it answers again."""
    console.bound[ANN] = BoundDevice({"prompt": "You are Ann."})
    with open_stage(tmp_path, sounds, under(console)) as stage:
        assert ask(stage.device(device_id=ANN), "hello").sentences == ["Fine"]
    console.stand(BASE, trouble)
    console.stand(MODELS, trouble)
    with open_stage(tmp_path, sounds, under(console)) as stage:
        console.bound[ANN] = BoundDevice({"prompt": "You are Ann in pink."})
        assert ask(stage.device(device_id=ANN), "hello").sentences == ["Fine"]
        assert "You are Ann." in stage.messages()[0]["content"]
        assert "last good settings" in page_of(stage)

        console.forget_scripts()
        stage.server.reload()
        stage.close_devices()
        wait_for(lambda: "You are Ann in pink." in prompt_of(stage, ANN), "the new settings")
        assert "last good settings" not in page_of(stage)
    for file in (tmp_path / "console").iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert PRIVATE_KEY.encode() not in file.read_bytes()
    assert (tmp_path / "console").stat().st_mode & 0o077 == 0


def prompt_of(stage: Stage, mac: str) -> str:
    """The system prompt of a new connection of this device."""
    stage.forget_requests()
    device = stage.device(device_id=mac)
    ask(device, "hello")
    device.close()
    return str(stage.messages()[0]["content"]) if stage.questions() else ""


def test_a_device_that_was_unbound_is_not_served_from_a_copy(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    with open_stage(tmp_path, sounds, under(console)) as stage:
        bind(console, stage, ANN, voice="ann", prompt="You are Ann.")
        ask(stage.device(device_id=ANN), "hello")
        stage.close_devices()
        del console.bound[ANN]
        ask(stage.device(device_id=ANN), "hello")
        stage.close_devices()
        console.stand(MODELS, Script(status=503))
        stage.forget_requests()

        ask(stage.device(device_id=ANN), "hello")

        assert stage.questions() == []


def test_without_a_console_and_without_a_copy_there_is_no_start(
    tmp_path: Path, sounds: Sounds, console: StrictConsole
) -> None:
    console.stand(BASE, Script(status=502))
    own = under(console)
    own["manager-api"]["max_retries"] = 1

    with pytest.raises(SettingsError, match=r"manager-api\.url"), open_stage(tmp_path, sounds, own):
        pass

    assert console.counts[BASE] >= 2


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


def page_of(stage: Stage) -> str:
    """The page for people."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.server.http_port}/", timeout=60) as reply:
        return str(reply.read().decode())
