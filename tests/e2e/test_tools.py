"""What the mind can do: device tools of both generations, rounds of tool calls, tools side by side, tools that must not
be cut in half."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from loadtest.simulator.device_tools import DeviceTools, FakeTool
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, TTS, UNANSWERED, Script, Stage, a_tool, ask, hear_nothing_more, open_stage, tool_call
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome


def say(text: str) -> Any:
    """A tool whose result is spoken."""
    return lambda arguments, context: ToolOutcome(Action.SPEAK, text)


def tell(text: str) -> Any:
    """A tool whose result the model goes on with."""
    return lambda arguments, context: ToolOutcome(Action.ASK_LLM, text)


def offered(stage: Stage, request: int = -1) -> set[str]:
    """Names of the tools offered to the model."""
    return {tool["function"]["name"] for tool in stage.questions()[request].get("tools", ())}


# --- the device's own -------------------------------------------------------------------------------------------------


def test_the_volume_is_set_through_the_devices_own_tools(stage: Stage) -> None:
    tools = DeviceTools()
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()
    stage.vendor.script(
        CHAT,
        Script(answer=[tool_call("self_audio_speaker_set_volume", volume=30)]),
        Script(answer="It is quieter now."),
    )

    answer = ask(device, "be quieter")

    assert answer.sentences == ["It is quieter now"]
    assert tools.calls == [("self.audio_speaker.set_volume", {"volume": 30})]
    assert tools.volume == 30
    assert {"self_audio_speaker_set_volume", "self_get_device_status", "handle_exit_intent", "get_time"} <= offered(
        stage
    )
    assert stage.messages()[-1] == {"role": "tool", "content": "true", "tool_call_id": "call-0"}


def test_a_tool_the_device_complains_about_is_explained_by_the_model(stage: Stage) -> None:
    tools = DeviceTools()
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()
    stage.vendor.script(
        CHAT,
        Script(answer=[tool_call("self_audio_speaker_set_volume", volume=300)]),
        Script(answer="It cannot be so loud."),
    )

    assert ask(device, "be loud").sentences == ["It cannot be so loud"]
    assert stage.messages()[-1]["role"] == "tool"
    assert tools.volume == 70


def test_what_was_seen_in_a_picture_is_spoken_without_another_request(stage: Stage) -> None:
    seen = json.dumps({"success": True, "action": "RESPONSE", "response": "A cat sits there."})
    camera = FakeTool("self.camera.take_photo", "Take a photo.", lambda arguments: seen)
    tools = DeviceTools([camera])
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()
    stage.vendor.script(CHAT, Script(answer=[tool_call("self_camera_take_photo")]))

    assert ask(device, "what is there").sentences == ["A cat sits there"]
    assert stage.vendor.counts[CHAT] == 1

    ask(device, "how nice")
    assert stage.said()[-2:] == [("assistant", "A cat sits there."), ("user", "how nice")]


def test_the_volume_of_an_older_device(stage: Stage) -> None:
    """`iot`: descriptors become tools, states are known, commands go out."""
    device = stage.device()
    speaker = {
        "name": "Speaker",
        "description": "The speaker",
        "properties": {"volume": {"type": "number", "description": "current volume"}},
        "methods": {
            "SetVolume": {
                "description": "Set the volume",
                "parameters": {"volume": {"type": "number", "description": "0 to 100"}},
            }
        },
    }
    device.tell("iot", descriptors=[speaker])
    device.tell("iot", states=[{"name": "Speaker", "state": {"volume": 55}}])
    device.ping()
    stage.vendor.script(
        CHAT,
        Script(answer=[tool_call("get_speaker_volume")]),
        Script(answer=[tool_call("set_speaker_volume", volume=40)]),
        Script(answer="It is at forty."),
    )

    answer = ask(device, "a bit quieter")

    assert answer.sentences == ["It is at forty"]
    command = device.next_json("iot").data["commands"][0]
    assert command == {"name": "Speaker", "method": "SetVolume", "parameters": {"volume": 40}}
    assert any("55" in message["content"] for message in stage.messages() if message["role"] == "tool")


# --- rounds -----------------------------------------------------------------------------------------------------------


def test_after_five_rounds_the_model_has_to_answer(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(
        CHAT, *[Script(answer=[tool_call("get_time")]) for _ in range(5)], Script(answer="Enough of that.")
    )

    assert ask(device, "what time is it").sentences == ["Enough of that"]

    assert stage.vendor.counts[CHAT] == 6
    assert all(offered(stage, request) for request in range(5))
    assert not offered(stage), "the last round comes without tools"


def test_a_model_that_never_stops_calling_is_not_obeyed_for_ever(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.stand(CHAT, Script(answer=[tool_call("get_time")]))

    ask(device, "what time is it")

    assert stage.vendor.counts[CHAT] == 6


def test_tools_run_side_by_side(stage: Stage) -> None:
    """Two tools that wait for each other: one after the other, neither would ever end."""
    met: dict[str, Event] = {"left": Event(), "right": Event()}

    def meet(me: str, other: str) -> Any:
        def run(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
            met[me].set()
            assert met[other].wait(timeout=PATIENCE_S)
            return ToolOutcome(Action.ASK_LLM, f"{me} is done")

        return run

    with stage.tools(a_tool("go_left", meet("left", "right")), a_tool("go_right", meet("right", "left"))):
        device = stage.device()
        stage.vendor.script(
            CHAT, Script(answer=[tool_call("go_left"), tool_call("go_right", 1)]), Script(answer="Both.")
        )

        assert ask(device, "go").sentences == ["Both"]

    results = [message["content"] for message in stage.messages() if message["role"] == "tool"]
    assert results == ["left is done", "right is done"], "in the order of the calls"


def test_words_before_a_tool_are_heard_while_it_works(stage: Stage) -> None:
    may_end = Event()

    def look(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        may_end.wait(timeout=PATIENCE_S)
        return ToolOutcome(Action.ASK_LLM, "found")

    with stage.tools(a_tool("look", look)):
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=["Let me look.", tool_call("look")]), Script(answer="Here it is."))
        device.detect("where is it")
        device.wait_until(lambda: device.replies.answer.arrivals, PATIENCE_S, "the first sentence")
        assert device.replies.answer.sentences == ["Let me look"]
        may_end.set()

        assert device.collect_answer().sentences == ["Let me look", "Here it is"]


def test_a_tool_slower_than_the_voice_is_patient_does_not_end_the_answer(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"tts_timeout": 0.3}) as stage, stage.tools(a_tool("look", slowly)):
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=["Let me look.", tool_call("look")]), Script(answer="Here it is."))

        assert ask(device, "where is it").sentences == ["Let me look", "Here it is"]
        assert stage.outcomes() == {"answered": 1}


def slowly(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
    """Takes longer than the voice is patient."""
    gevent.sleep(0.6)  # sleep: the tool is slow
    return ToolOutcome(Action.ASK_LLM, "found")


def test_a_tools_own_words_end_the_answer(stage: Stage) -> None:
    with stage.tools(a_tool("greet", say("Good evening."))):
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=[tool_call("greet")]))

        assert ask(device, "greet me").sentences == ["Good evening"]
        assert stage.vendor.counts[CHAT] == 1
        ask(device, "and now")
        assert [role for role, _ in stage.said()] == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("failure", ["raises", "hangs", "unknown"])
def test_a_tool_that_fails_is_told_to_the_model(stage: Stage, failure: str) -> None:
    def fail(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        if failure == "hangs":
            Event().wait()
        raise RuntimeError("broken")

    with stage.tools(a_tool("break_it", fail, timeout=0.2)):
        device = stage.device()
        called = "no_such_tool" if failure == "unknown" else "break_it"
        stage.vendor.script(CHAT, Script(answer=[tool_call(called)]), Script(answer="That did not work."))

        assert ask(device, "do it").sentences == ["That did not work"]
        assert stage.messages()[-1]["role"] == "tool"


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_a_tool_that_must_not_be_cut_in_half_finishes_on_its_own(stage: Stage) -> None:
    began, may_end, ended = Event(), Event(), Event()

    def pay(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        began.set()
        may_end.wait(timeout=PATIENCE_S)
        ended.set()
        return ToolOutcome(Action.SPEAK, "Paid.")

    with stage.tools(a_tool("pay", pay, uninterruptible=True)):
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=[tool_call("pay")]))
        device.detect("pay it")
        assert began.wait(timeout=PATIENCE_S)

        device.abort()
        device.collect_answer()
        assert ask(device, "and now").sentences == ["Fine"]
        assert not ended.is_set()
        may_end.set()

        assert ended.wait(timeout=PATIENCE_S)
        hear_nothing_more(device, 0.2)


def test_any_other_tool_is_stopped(stage: Stage) -> None:
    began, stopped = Event(), Event()

    def wait(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        began.set()
        try:
            Event().wait()
        finally:
            stopped.set()
        return ToolOutcome(Action.NOTHING)

    with stage.tools(a_tool("wait_long", wait, timeout=60)):
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=[tool_call("wait_long")]))
        device.detect("wait")
        assert began.wait(timeout=PATIENCE_S)

        device.abort()

        assert stopped.wait(timeout=PATIENCE_S)
        device.collect_answer()
        assert ask(device, "and now").sentences == ["Fine"]
        assert stage.said() == [("user", "wait"), UNANSWERED, ("user", "and now")]


# --- how intents are found --------------------------------------------------------------------------------------------


def test_a_model_that_must_call_a_tool_answers_through_one(tmp_path: Path, sounds: Sounds) -> None:
    settings = {"Intent": {"function_call": {"functions": ["direct_answer"]}}}
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=[tool_call("direct_answer", response="I am fine. And you?")]))

        assert ask(device, "how are you").sentences == ["I am fine", "And you?"]
        assert stage.vendor.counts[CHAT] == 1
        assert "direct_answer" in offered(stage)

        stage.vendor.script(
            CHAT,
            Script(answer=[tool_call("direct_answer", response="One moment."), tool_call("get_time", 1)]),
            Script(answer="It is late."),
        )
        assert ask(device, "what time is it").sentences == ["One moment", "It is late"]
        assert "direct_answer" not in offered(stage), "only in the first round"
        assert stage.said()[:2] == [("user", "how are you"), ("assistant", "I am fine. And you?")]


def test_without_intents_no_tool_is_offered_or_run(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"selected_module": {"Intent": "nointent"}}) as stage:
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=["Well. ", tool_call("handle_exit_intent", say_goodbye="Bye.")]))

        assert ask(device, "hello").sentences == ["Well"]
        assert offered(stage) == set()
        assert ask(device, "still there").sentences == ["Fine"]


def test_a_separate_model_finds_the_intent(tmp_path: Path, sounds: Sounds) -> None:
    with (
        open_stage(tmp_path, sounds, {"selected_module": {"Intent": "intent_llm"}}) as stage,
        stage.tools(a_tool("greet", say("Good evening."))),
    ):
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer='{"function_call": {"name": "greet", "arguments": {}}}'))
        assert ask(device, "greet me").sentences == ["Good evening"]
        assert stage.vendor.counts[CHAT] == 1, "a tool that speaks needs no other model"

        stage.vendor.script(
            CHAT, Script(answer='{"function_call": {"name": "continue_chat"}}'), Script(answer="Just talking.")
        )
        assert ask(device, "how are you").sentences == ["Just talking"]
        assert offered(stage) == set(), "the model of the conversation is not offered tools"

        stage.vendor.script(CHAT, Script(answer="no JSON at all"), Script(answer="Talking anyway."))
        assert ask(device, "what now").sentences == ["Talking anyway"]


def test_a_separate_model_whose_tool_needs_words(tmp_path: Path, sounds: Sounds) -> None:
    with (
        open_stage(tmp_path, sounds, {"selected_module": {"Intent": "intent_llm"}}) as stage,
        stage.tools(a_tool("look", tell("42 apples"))),
    ):
        device = stage.device()
        stage.vendor.script(
            CHAT,
            Script(answer='{"function_call": {"name": "look", "arguments": {}}}'),
            Script(answer="There are 42 apples."),
        )

        assert ask(device, "how many apples").sentences == ["There are 42 apples"]
        assert stage.said()[-1] == ("tool", "42 apples")


# --- music ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def music_stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Any:
    music = tmp_path_factory.mktemp("music")
    (music / "short tune.mp3").write_bytes(sounds.body("mp3", 1.0))
    (music / "endless wave.wav").write_bytes(sounds.body("wav", 10.0))
    (music / "old jingle.p3").write_bytes(p3_of(sounds))
    (music / "broken record.mp3").write_bytes(b"this is no sound " * 100)
    settings = {
        "Intent": {"function_call": {"functions": ["play_music"]}},
        "plugins": {"play_music": {"music_dir": str(music), "music_ext": [".mp3", ".wav", ".p3"]}},
    }
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        yield opened


@pytest.fixture
def jukebox(music_stage: Stage, _no_leaks: None) -> Any:
    music_stage.reset()
    yield music_stage
    music_stage.close_devices()


def p3_of(sounds: Sounds) -> bytes:
    """Half a second of sound in the packet format of the xiaozhi tools."""
    from xiaozhi.audio.opus import Encoder

    packets = Encoder(16_000, 60).encode(sounds.body("pcm", 1.0)[: 16_000 * 2 * 54 // 100])
    return b"".join(bytes([0, 0]) + len(packet).to_bytes(2, "big") + packet for packet in packets)


@pytest.mark.parametrize("song, seconds", [("short tune", 1.0), ("old jingle", 0.54)])
def test_music_is_played_after_the_announcement(jukebox: Stage, song: str, seconds: float) -> None:
    device = jukebox.device()
    jukebox.vendor.script(CHAT, Script(answer=[tool_call("play_music", song_name=song)]))

    answer = ask(device, f"play {song}")

    assert len(answer.sentences) == 1
    assert song in answer.sentences[0]
    played = len(answer.frames) * 0.06 - 0.06
    assert seconds - 0.13 <= played <= seconds + 0.13
    assert len(answer.pcm()) > 0


def test_music_can_be_interrupted(jukebox: Stage) -> None:
    device = jukebox.device()
    jukebox.vendor.script(CHAT, Script(answer=[tool_call("play_music", song_name="endless wave")]))
    device.detect("play it")
    device.wait_until(lambda: len(device.replies.answer.arrivals) >= 10, PATIENCE_S, "music")

    device.abort()

    assert len(device.collect_answer().frames) < 60
    hear_nothing_more(device)
    assert ask(device, "and now").sentences == ["Fine"]


def test_a_file_that_is_no_sound_is_apologised_for(jukebox: Stage) -> None:
    device = jukebox.device()
    jukebox.vendor.script(CHAT, Script(answer=[tool_call("play_music", song_name="broken record")]))

    answer = ask(device, "play it")

    assert answer.sentences[1].startswith("Sorry")
    assert ask(device, "and now").sentences == ["Fine"]


def test_voice_requests_of_a_song_are_only_its_announcement(jukebox: Stage) -> None:
    jukebox.vendor.script(CHAT, Script(answer=[tool_call("play_music", song_name="short tune")]))
    ask(jukebox.device(), "play it")
    assert jukebox.vendor.counts[TTS] == 1
