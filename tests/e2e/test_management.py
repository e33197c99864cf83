"""Devices of a server under a management console, over real sockets: whose settings they get, what they hear without
any, and what happens while the console is slow, away or wrong."""

from __future__ import annotations

from pathlib import Path

import gevent
import pytest
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, open_stage
from tests.e2e.under_console import ANN, BEN, bind, page_of, under
from tests.vendors.console import (
    BASE,
    MODELS,
    NO_AGENT,
    PRIVATE_KEY,
    WORDS,
    BoundDevice,
    StrictConsole,
    refuses,
    strict_console,
)
from tests.waiting import wait_for
from xiaozhi.errors import SettingsError
from xiaozhi.session import agent_wait

console = pytest.fixture(strict_console)


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
