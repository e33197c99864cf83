"""What a session refuses or does by itself: allowance, overload, silence, tools that act on it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hearing import FakeAsr
from tests.fakes.sessions import (
    DEVICE,
    FakeAgents,
    FakeQuota,
    Visitor,
    make_agent,
    make_prompter,
    make_services,
    visitor,
)
from tests.fakes.thinking import FakeLlm
from tests.session.visiting import LONG, visiting
from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.errors import Overloaded
from xiaozhi.runtime import usage
from xiaozhi.runtime.tasks import spawn
from xiaozhi.runtime.usage import ConnectionUsage
from xiaozhi.session.link import Identity
from xiaozhi.session.parts import NO_HELLO
from xiaozhi.session.session import HARD_CLOSE_SECONDS
from xiaozhi.tools.base import Action, FunctionTool, ToolContext, ToolOutcome


@pytest.fixture
def device() -> Iterator[Visitor]:
    """A device that has said hello."""
    with visitor() as arrived:
        arrived.hello()
        yield arrived


def tool(name: str, function: Any) -> FunctionTool:
    """A plugin made of a function of its context."""

    def run(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return function(context)

    return FunctionTool(ToolSpec(name, f"Does {name}."), run)


# --- allowance, overload, memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("allowance", "sentences"), [(None, "Yes"), (1, "Yes"), (0, "Enough")])
def test_when_the_allowance_is_used_up_that_is_said(allowance: int | None, sentences: str) -> None:
    agent = make_agent(llm=FakeLlm("Yes."), prompter=make_prompter(quota_refusal={"": "Enough."}))
    with visitor(FakeAgents(agent), make_services(quota=FakeQuota(allowance))) as device:
        device.hello()
        device.detect("hello")
        device.wait_stops()

        assert device.spoken() == [sentences]


def test_a_device_may_have_an_allowance_of_its_own() -> None:
    agent = make_agent(llm=FakeLlm("Yes."), prompter=make_prompter(quota_refusal={"": "Enough."}), output_limit=4)
    with visitor(FakeAgents(agent)) as device:
        device.hello()
        for stops in (1, 2):
            device.detect("hello")
            device.wait_stops(stops)

        assert device.spoken() == ["Yes", "Enough"]


def test_under_overload_there_is_an_apology() -> None:
    def refuse() -> None:
        raise Overloaded("server")

    with visiting({"system_error_response": "Sorry."}, make_services(admit_turn=refuse)) as device:
        device.hello()
        device.detect("hello")
        device.wait_stops()

        assert device.spoken() == ["Sorry"]
        assert device.services.telemetry.outcomes == ["overloaded"]


def test_what_was_said_is_handed_in_once(device: Visitor) -> None:
    device.agent.providers.llm.answers = ["Yes."]
    device.detect("do you hear me")
    device.wait_turns()

    device.session.drain(1.0)
    device.close()

    assert device.services.memories.noted == device.services.memories.saved, "while it lasted, too"
    [(memory, who, said, session)] = device.services.memories.saved
    assert (memory, who, session) == (device.agent.providers.memory, DEVICE, device.session.id)
    assert [(message.role, message.content) for message in said] == [("user", "do you hear me"), ("assistant", "Yes.")]


def test_a_dialogue_is_taken_up_again() -> None:
    services = make_services()
    for question in ("my name is Ann", "who am I"):
        with visiting(services=services, llm=FakeLlm("Yes.")) as device:
            device.hello()
            device.detect(question)
            device.wait_stops()
            asked = device.agent.providers.llm.calls[0].messages

    assert [message.content for message in asked if message.role == "user"] == ["my name is Ann", "who am I"]
    assert [len(said) for _, _, said, _ in services.memories.saved] == [2, 2], "each only what was said in it"


def test_a_sound_that_is_no_word_is_not_remembered() -> None:
    with visiting(asr=FakeAsr([""])) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["unheard"]
        device.close()
        assert device.services.memories.saved == []


@pytest.mark.parametrize("cached", [True, False], ids=["a ready greeting", "a greeting of the model"])
def test_who_only_woke_the_device_is_not_summarised(cached: bool) -> None:
    """A summary costs a question to a language model."""
    with visiting({"enable_wakeup_words_response_cache": cached, "wakeup_words": ["hey box"]}) as device:
        device.hello()
        device.detect("hey box")
        device.wait_turns()
        device.detect("[device_call]your tea is ready")
        device.wait_turns(2)
        device.close()

        assert device.services.telemetry.outcomes == ["answered", "answered"]
        assert device.services.memories.saved == []


def test_messages_are_charged_however_they_come() -> None:
    """JSON in a binary frame is JSON all the same."""
    used = ConnectionUsage()
    body = b'{"type": "iot", "descriptors": []}'

    def visit() -> None:
        usage.enter(used)
        with visitor(identity=Identity(DEVICE, protocol_version=3)) as device:
            device.session.on_text(body.decode())
            device.session.on_binary(struct.pack("!BBH", 1, 0, len(body)) + body)
            device.session.on_binary(struct.pack("!BBH", 0, 0, 4) + b"\xf8" * 4)

    spawn("visit", visit).join()

    assert used.text_bytes == 2 * len(body)
    assert used.hub_s > 0


def test_who_was_woken_and_then_spoken_to_is() -> None:
    with visiting({"wakeup_words": ["hey box"]}) as device:
        device.hello()
        device.detect("hey box")
        device.wait_turns()
        device.detect("my name is Ann")
        device.wait_turns(2)
        device.close()

        [(_, _, said, _)] = device.services.memories.saved
        assert "my name is Ann" in [message.content for message in said]


def test_without_a_memory_nothing_is_kept_for_it() -> None:
    class Forgets:
        name = "forgets"
        traits = type("Traits", (), {"remembers": False})

    with visiting(memory=Forgets()) as device:
        device.hello()
        device.detect("hello")
        device.wait_turns()
        device.close()

        assert device.services.memories.saved == []


# --- tools that act on the session ------------------------------------------------------------------------------------


def call_once(name: str) -> FakeLlm:
    """Calls a tool, then says nothing but a word."""
    return FakeLlm([ToolCall("1", name, {})], "Done.")


def test_a_tool_may_end_it_after_the_answer() -> None:
    leave = tool("leave", lambda context: context.actions.close_after_reply() or ToolOutcome(Action.SPEAK, "Bye."))
    with visiting(llm=call_once("leave"), tools=[leave]) as device:
        device.hello()
        device.detect("go")
        device.wait(lambda: device.sender.closed)

        assert device.spoken() == ["Bye"]
        assert device.sender.closed == (1000, "goodbye said")


def test_who_cuts_a_farewell_short_stays() -> None:
    slow = "See you soon, very soon, I am sure, and do not forget your hat. " * 30
    leave = tool("leave", lambda context: context.actions.close_after_reply() or ToolOutcome(Action.SPEAK, slow))
    with visiting(llm=call_once("leave"), tools=[leave]) as device:
        device.hello()
        device.detect("go")
        device.wait(lambda: device.sender.binaries)
        device.tell("abort")
        device.wait_turns()

        device.agent.providers.llm.answers = ["Yes."]
        device.detect("no, stay")
        device.wait_turns(2)
        assert device.services.telemetry.outcomes == ["interrupted", "answered"]
        assert device.sender.closed is None


def test_a_tool_may_change_the_role() -> None:
    role = tool("role", lambda context: context.actions.set_prompt("You are a pirate.") or ToolOutcome(Action.RECORD))
    with visiting(llm=call_once("role"), tools=[role]) as device:
        device.hello()
        device.detect("be a pirate")
        device.wait_turns()
        device.detect("who are you")
        device.wait_turns(2)

        prompts = [call.messages[0].content for call in device.agent.providers.llm.calls]
        assert "You are a test." in prompts[0]
        assert "You are a pirate." in prompts[-1]


def test_a_tool_may_play_a_file(tmp_path: Path) -> None:
    song = tmp_path / "no song.wav"
    play = tool("play", lambda context: context.actions.play(song) or ToolOutcome(Action.SPEAK, "Here it comes."))
    with visiting(llm=call_once("play"), tools=[play]) as device:
        device.hello()
        device.detect("play it")
        device.wait_turns()

        assert device.spoken()[0] == "Here it comes"


# --- silence ----------------------------------------------------------------------------------------------------------


QUIET = {"close_connection_no_voice_time": 100, "end_prompt": {"prompt": "Say goodbye."}}


def test_who_talks_without_hello_is_told_so_after_a_while() -> None:
    with visitor(FakeAgents(make_agent({"server": {"hello_timeout": 10}}))) as device:
        device.tell("listen", state="start", mode="auto")
        device.session.tick(device.clock.advance(9))
        assert device.sender.closed is None
        device.session.tick(device.clock.advance(2))
        assert device.sender.closed == (1008, NO_HELLO)


def test_who_says_nothing_that_needs_a_hello_may_take_its_time() -> None:
    with visitor(FakeAgents(make_agent({"server": {"hello_timeout": 10}}))) as device:
        device.tell("ping")
        device.session.tick(device.clock.advance(60))
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.session.tick(device.clock.advance(30))
        assert device.sender.closed is None


def test_after_a_long_silence_it_says_goodbye_and_leaves() -> None:
    with visiting(QUIET, llm=FakeLlm("Good night.")) as device:
        device.hello()
        device.session.tick(device.clock.advance(99))
        assert device.agent.providers.llm.calls == []

        device.session.tick(device.clock.advance(2))
        device.wait(lambda: device.sender.closed)

        assert device.spoken() == ["Good night"]
        assert device.agent.providers.llm.calls[0].asked == "Say goodbye."
        assert device.sender.closed == (1000, "goodbye said")


def test_a_goodbye_that_hangs_is_not_waited_for() -> None:
    with visiting(QUIET, llm=FakeLlm([60.0, "Good night."])) as device:
        device.hello()
        device.session.tick(device.clock.advance(101))
        device.session.tick(device.clock.advance(1))
        assert device.sender.closed is None

        device.session.tick(device.clock.advance(HARD_CLOSE_SECONDS))

        assert device.sender.closed == (1000, "no voice")


def test_who_speaks_during_the_goodbye_stays() -> None:
    with visiting(QUIET, llm=FakeLlm(LONG, "Fine.")) as device:
        device.hello()
        device.session.tick(device.clock.advance(101))
        device.wait(lambda: device.sender.binaries)

        device.detect("wait, I am here")
        device.wait_turns(2)

        assert device.services.telemetry.outcomes == ["interrupted", "answered"]
        device.session.tick(device.clock.advance(90))
        assert device.sender.closed is None


@pytest.mark.parametrize(("settings", "hello"), [(QUIET, False), ({**QUIET, "end_prompt": {"enable": False}}, True)])
def test_without_anybody_to_say_goodbye_to_it_just_closes(settings: Mapping[str, Any], hello: bool) -> None:
    with visiting(settings) as device:
        if hello:
            device.hello()

        device.session.tick(device.clock.advance(101))

        assert device.sender.closed == (1000, "no voice")


def test_a_device_with_a_button_is_said_goodbye_to_only_when_somebody_has_spoken() -> None:
    for spoken in (False, True):
        with visiting(QUIET, llm=FakeLlm("Yes?", "Good night.")) as device:
            device.hello()
            device.tell("listen", state="start", mode="manual")
            if spoken:
                device.say(1_200, silence_ms=0)
            device.tell("listen", state="stop")
            device.wait_turns(int(spoken))

            device.session.tick(device.clock.advance(101))
            device.wait(lambda device=device: device.sender.closed)

            assert device.sender.closed == (1000, "goodbye said" if spoken else "no voice")
            assert device.spoken() == (["Yes?", "Good night"] if spoken else [])


def test_silence_may_last_for_ever() -> None:
    with visiting({"close_connection_no_voice_time": 0}) as device:
        device.session.tick(device.clock.advance(1e6))

        assert device.sender.closed is None
        device.close()
        device.session.tick(device.clock())


def test_voice_and_answers_put_the_goodbye_off() -> None:
    with visiting(QUIET, llm=FakeLlm(LONG)) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.clock.advance(90)
        device.say(1_500)
        device.wait(lambda: device.sender.binaries)
        device.session.tick(device.clock.advance(90))
        device.session.tick(device.clock.advance(90))

        assert device.session.speaking
        assert device.services.telemetry.turns == []
        assert device.sender.closed is None


def test_a_server_that_stops_says_no_goodbye_of_its_own() -> None:
    with visiting(QUIET) as device:
        device.hello()
        device.session.drain(0.0)

        device.session.tick(device.clock.advance(101))

        assert device.sender.closed == (1000, "no voice")
