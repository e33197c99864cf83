"""What the language model is shown: what was really said, trimmed, resumed after a loss of the network; a prompt that
knows the moment."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.vendors.http_vendor import HttpVendor, VendorAnswer, VendorRequest
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, LONG, TTS, UNANSWERED, Script, Stage, ask, open_stage, tool_call, wait_for_sound
from tests.waiting import wait_for
from xiaozhi.errors import SettingsError

STORY = "Once upon a time there was a robot. It lived in a small house. One day it went out."


# --- what was spoken --------------------------------------------------------------------------------------------------


def test_the_model_is_shown_the_whole_conversation(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer="Hello **Anna** 😀."), Script(answer="Second."))
    ask(device, "I am Anna")
    ask(device, "who am I")
    ask(device, "and now")

    assert stage.said() == [
        ("user", "I am Anna"),
        ("assistant", "Hello **Anna** 😀."),
        ("user", "who am I"),
        ("assistant", "Second."),
        ("user", "and now"),
    ]


def test_an_interrupted_answer_is_remembered_as_far_as_it_was_heard(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=STORY))
    stage.vendor.script(TTS, LONG, LONG)
    device.detect("tell me a story")
    wait_for_sound(device)
    stage.wait_for(TTS, 2)
    stage.calm()
    device.abort()
    device.collect_answer()

    ask(device, "what was that about")

    assert stage.said() == [
        ("user", "tell me a story"),
        ("assistant", "Once upon a time there was a robot."),
        ("user", "what was that about"),
    ]


def test_what_was_never_heard_is_not_remembered(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=STORY))
    stage.vendor.script(TTS, Script(stall="before"))
    device.detect("tell me a story")
    stage.wait_for(TTS)
    stage.calm()
    device.abort()
    device.collect_answer()

    ask(device, "what was that about")

    assert stage.said() == [("user", "tell me a story"), UNANSWERED, ("user", "what was that about")]


def test_an_apology_is_no_answer(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(status=400))
    assert ask(device, "first").sentences[0].startswith("Sorry")

    ask(device, "second")

    assert stage.said() == [("user", "first"), UNANSWERED, ("user", "second")]


# --- trimming ---------------------------------------------------------------------------------------------------------


def test_trimming_never_splits_a_tool_pair(tmp_path: Path, sounds: Sounds) -> None:
    """The vendor refuses tool results without their calls, and calls without results; with three remembered turns of
    six, none comes."""
    with open_stage(tmp_path, sounds, {"conversation": {"history_turns": 3}}) as stage:
        device = stage.device()
        for number in range(6):
            stage.vendor.script(
                CHAT, Script(answer=[tool_call("get_time"), tool_call("get_time", 1)]), Script(answer=f"Done {number}.")
            )
            assert ask(device, f"question {number}").sentences == [f"Done {number}"]

        roles = [message["role"] for message in stage.messages()]
        assert roles == [
            "system",
            *["user", "assistant", "tool", "tool", "assistant"] * 3,
            "user",
            "assistant",
            "tool",
            "tool",
        ]
        assert stage.messages()[1]["content"] == "question 2"
        assert stage.vendor.refusals == []


def test_a_budget_of_tokens_is_kept(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"conversation": {"history_tokens": 100}}) as stage:
        device = stage.device()
        stage.vendor.stand(CHAT, Script(answer="word " * 60))
        for number in range(4):
            ask(device, f"question {number}")

        assert stage.said()[0] == ("user", "question 2")


# --- coming back ------------------------------------------------------------------------------------------------------


def test_a_device_that_comes_back_goes_on_where_it_was(stage: Stage) -> None:
    device_id = "02:00:00:00:be:ef"
    first = stage.device(device_id=device_id)
    ask(first, "I am Anna")
    first.drop()
    wait_for(lambda: not len(stage.server.connections), "the end of the visit")

    ask(stage.device(device_id=device_id), "who am I")
    assert stage.said()[:2] == [("user", "I am Anna"), ("assistant", "Fine.")]

    ask(stage.device(), "who am I")
    assert stage.said() == [("user", "who am I")], "another device knows nothing of it"


def test_the_window_for_coming_back_can_be_closed(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"conversation": {"resume_seconds": 0}}) as stage:
        first = stage.device(device_id="02:00:00:00:be:ef")
        ask(first, "I am Anna")
        stage.close_devices()

        ask(stage.device(device_id="02:00:00:00:be:ef"), "who am I")

        assert stage.said() == [("user", "who am I")]


def test_a_second_connection_of_a_device_takes_over(stage: Stage) -> None:
    first = stage.device(device_id="02:00:00:00:be:e0")
    ask(first, "I am Anna")

    second = stage.device(device_id="02:00:00:00:be:e0")

    assert first.wait_closed()[0] in (1000, 1008, 1001, 4000)
    assert ask(second, "hello").sentences == ["Fine"]


# --- the prompt -------------------------------------------------------------------------------------------------------


class Sensors(HttpVendor):
    """A source of live data; `delays` are per path."""

    def __init__(self) -> None:
        super().__init__(keep_alive=False)

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.path.startswith("/room"):
            return VendorAnswer(b'{"code": 0, "data": {"Temperature": "21 degrees", "Door": "open"}}')
        if request.path.startswith("/todo"):
            return VendorAnswer(b'{"code": 0, "data": ["Buy milk", "Call Bob"]}')
        return VendorAnswer(b'{"code": 500, "msg": "broken"}')


@pytest.fixture
def sensors(_no_leaks: None) -> Iterator[Sensors]:
    with Sensors() as vendor:
        assert isinstance(vendor, Sensors)
        yield vendor


def test_the_prompt_knows_the_moment_the_device_and_live_data(tmp_path: Path, sounds: Sounds, sensors: Sensors) -> None:
    sources = [
        {
            "url": f"{sensors.url}/room?device={{device_id}}",
            "headers": {"Authorization": "Bearer secret", "X-Client": "{client_id}"},
        },
        {"url": f"{sensors.url}/slow"},
        {"url": f"{sensors.url}/broken"},
        {"url": f"{sensors.url}/todo"},
    ]
    sensors.stand("/slow", Script(stall="before"))
    settings = {"context_providers": sources, "prompt": "You are Rover the dog.", "server": {"timezone_offset": 8}}
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device(device_id="02:00:00:00:ab:cd")
        ask(device, "quick question")
        assert "Buy milk" not in stage.messages()[0]["content"], "a slow source is not waited for"
        wait_for(lambda: sensors.counts.get("/todo"), "the sources")
        wait_for(lambda: not sensors.active, "the slow source to be given up")
        device.ping()

        ask(device, "and now")

        prompt = stage.messages()[0]["content"]
        now = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=8)))
        for expected in ("Rover the dog", f"{now:%Y-%m-%d}", f"{now:%H:}", "02:00:00:00:ab:cd", "年", "😶"):
            assert expected in prompt
        for line in ("- Temperature: 21 degrees", "- Door: open", "- Buy milk", "- Call Bob"):
            assert line in prompt
        room = next(request for request in sensors.requests if request.path.startswith("/room"))
        assert room.path == "/room?device=02%3A00%3A00%3A00%3Aab%3Acd"
        assert room.headers["device-id"] == "02:00:00:00:ab:cd"
        assert room.headers["authorization"] == "Bearer secret"
        assert room.headers["x-client"] == device.client_id
        assert sum(request.path == "/todo" for request in sensors.requests) == 1, "kept for a while"


def test_a_template_of_ones_own(tmp_path: Path, sounds: Sounds) -> None:
    template = tmp_path / "mine.txt"
    template.write_text(
        "{{ base_prompt }}|{{ device_id }}|{{ today_date }}|{{ language }}{% if memory %}|{{ memory }}{% endif %}"
    )
    with open_stage(tmp_path, sounds, {"prompt_template": str(template), "prompt": "Be brief."}) as stage:
        device = stage.device(device_id="02:00:00:00:ab:ce")
        ask(device, "hello")
        assert stage.messages()[0]["content"].startswith("Be brief.|02:00:00:00:ab:ce|20")


@pytest.mark.parametrize("text", ["{{ base_prompt", "{{ no_such_thing }}", "{% for x in %}"])
def test_a_template_that_cannot_work_is_refused_at_the_start(tmp_path: Path, sounds: Sounds, text: str) -> None:
    template = tmp_path / "broken.txt"
    template.write_text(text)
    with pytest.raises(SettingsError, match="prompt_template"):
        with open_stage(tmp_path, sounds, {"prompt_template": str(template)}):
            pass


def test_a_device_without_emoji_gets_none_and_asks_for_none(stage: Stage) -> None:
    device = stage.device(features={"emoji": False})
    stage.vendor.script(CHAT, Script(answer="😀 Hello."))

    answer = ask(device, "hello")

    assert answer.sentences == ["Hello"]
    assert [message.type for message in answer.messages] == ["stt", "tts", "tts", "tts"]
    assert "Use no emoji" in stage.messages()[0]["content"]


def test_a_role_holds_until_the_visit_ends(tmp_path: Path, sounds: Sounds) -> None:
    settings = {
        "plugins": {"change_role": {"roles": {"pirate": "You are a pirate."}}},
        "Intent": {"function_call": {"functions": ["change_role"]}},
    }
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=[tool_call("change_role", role="pirate")]))
        ask(device, "be a pirate")

        ask(device, "who are you")
        assert "You are a pirate." in stage.messages()[0]["content"]

        ask(stage.device(), "who are you")
        assert "You are a pirate." not in stage.messages()[0]["content"]
