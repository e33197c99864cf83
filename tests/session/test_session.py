"""A session by what a device sends and gets, between fakes: no socket, no vendor, no server."""

from __future__ import annotations

import gc
import json
import struct
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

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
from tests.fakes.thinking import FakeLlm, FakeVllm
from tests.subtitles import shown
from tests.waiting import PATIENCE_S
from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.errors import Overloaded, VendorRejected
from xiaozhi.protocol import messages as wire
from xiaozhi.runtime import usage
from xiaozhi.runtime.tasks import spawn
from xiaozhi.runtime.usage import ConnectionUsage
from xiaozhi.session.link import Identity
from xiaozhi.session.parts import NO_HELLO
from xiaozhi.session.session import HARD_CLOSE_SECONDS, JUST_WOKEN_SECONDS, MAX_TASKS
from xiaozhi.session.turns.wakeup import greetings_for
from xiaozhi.tools.base import Action, FunctionTool, ToolContext, ToolOutcome

WAKE_WORD = "Hello robot"
WOKEN = {"wakeup_words": ["hello robot"]}
LONG = ["Once upon a time there was a very small server. ", *["And it was never still, not even for a moment. "] * 40]


def visiting(settings: Mapping[str, Any] | None = None, services: Any = None, **parts: Any) -> Any:
    """A visitor of an agent."""
    return visitor(FakeAgents(make_agent(settings, **parts)), services)


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


# --- hello ------------------------------------------------------------------------------------------------------------


def test_hello_is_answered_at_once_and_what_takes_time_starts_behind_it() -> None:
    with visitor() as device:
        reply = device.hello()

        assert reply["session_id"] == device.session.id
        assert reply["audio_params"] == {"format": "pcm", "sample_rate": 24_000, "channels": 1, "frame_duration": 60}
        assert [(voice.format, voice.sample_rate, voice.frame_ms) for voice in device.agent.phrases.prepared] == [
            ("pcm", 24_000, 60)
        ]
        assert device.messages("mcp") == []


@pytest.mark.parametrize("vllm", [None, FakeVllm()])
def test_a_device_with_tools_is_asked_for_them_and_told_where_pictures_go(vllm: FakeVllm | None) -> None:
    with visiting(vllm=vllm) as device:
        device.hello(features={"mcp": True})
        device.wait(lambda: device.messages("mcp"))

        request = device.messages("mcp")[0]["payload"]
        assert request["method"] == "initialize"
        # Also without a model that could look at them: clients exist that fail without the address.
        assert request["params"]["capabilities"]["vision"] == {"url": "http://127.0.0.1/vision", "token": "token"}
        device.tell("mcp", payload={"jsonrpc": "2.0", "id": request["id"], "result": {}})
        device.wait(lambda: len(device.messages("mcp")) > 1)
        assert "tools/list" in [message["payload"]["method"] for message in device.messages("mcp")]


def test_hello_again_begins_anew(device: Visitor) -> None:
    device.agent.providers.llm.answers = [LONG]
    device.detect("tell me a story")
    device.wait(lambda: device.sender.binaries)

    device.hello(audio_params={"format": "pcm", "sample_rate": 16_000, "frame_duration": 20})

    device.wait_stops()
    assert device.services.telemetry.outcomes == ["interrupted"]
    assert device.messages("hello")[-1]["audio_params"]["frame_duration"] == 20
    sent = len(device.sender.binaries)
    device.agent.providers.llm.answers = ["Yes."]
    device.detect("are you there")
    device.wait_stops(2)
    assert {len(frame) for frame in device.sender.binaries[sent:]} == {2 * 24 * 20}


def test_a_device_that_never_says_hello_is_served() -> None:
    with visitor() as device:
        device.detect("hello")
        device.wait_stops()

        assert device.spoken() == ["Hello", "How are you?"]


def test_a_message_from_outside_reaches_a_device_that_has_said_hello() -> None:
    notice = wire.Alert("info", "The door is open.", "neutral")
    with visitor() as device:
        assert not device.session.push(notice)
        device.hello()

        assert device.session.push(notice)

        device.wait(lambda: device.messages("alert"))
        device.close()
        assert not device.session.push(notice)


# --- small messages ---------------------------------------------------------------------------------------------------


def test_pings_are_answered_and_goodbye_ends_it(device: Visitor) -> None:
    device.tell("ping")
    device.wait(lambda: device.messages("pong"))

    device.tell("goodbye")

    assert device.sender.closed == (1000, "goodbye")


def test_what_is_no_message_goes_back_and_nonsense_is_ignored(device: Visitor) -> None:
    for text in ("ping?", "7"):
        device.session.on_text(text)
    device.session.on_text('{"type": "unheard of"}')
    device.session.on_text('{"no": "type"}')
    device.session.on_text("[]")

    device.wait(lambda: device.sender.texts[-2:] == ["ping?", "7"])
    assert device.sender.closed is None


def test_an_echo_is_sent_before_anything_else_is_read(device: Visitor) -> None:
    """A close may stand right behind it."""
    device.session.on_text("are you there?")
    device.close()

    assert device.sender.texts[-1] == "are you there?"


def test_orders_are_bounded(device: Visitor) -> None:
    device.sender.hold()
    for _ in range(3 * MAX_TASKS):
        device.tell("server", action="restart", content={"secret": "s"})
    gevent.sleep(0)

    assert device.session.weight().queue_depth <= MAX_TASKS + 1
    device.sender.release()


def test_an_order_of_the_management_api_is_carried_out(device: Visitor) -> None:
    device.tell("server", action="update_config", content={"secret": "s"})
    device.wait(lambda: device.messages("server"))

    [reply] = device.messages("server")
    assert (reply["status"], reply["message"]) == ("success", "done for 192.0.2.1")


def test_an_order_needs_no_agent() -> None:
    agents = FakeAgents()
    agents.own[DEVICE] = lambda: Event().wait() and agents.default()
    with visitor(agents) as device:
        device.hello()
        device.tell("server", action="update_config", content={"secret": "s"})
        device.wait(lambda: device.messages("server"))


def test_answers_of_tools_that_nobody_has_asked_are_ignored(device: Visitor) -> None:
    device.tell("mcp", payload={"jsonrpc": "2.0", "id": 1, "result": {}})
    device.tell("ping")
    device.wait(lambda: device.messages("pong"))


def test_things_of_older_firmware_become_tools(device: Visitor) -> None:
    lamp = {
        "name": "Lamp",
        "description": "a lamp",
        "properties": {"on": {"type": "boolean", "description": "lit"}},
        "methods": {"TurnOn": {"description": "light it", "parameters": {}}},
    }
    device.tell("iot", descriptors=[lamp])
    device.tell("iot", states=[{"name": "Lamp", "state": {"on": False}}])
    device.detect("hello")
    device.wait_stops()

    offered = [spec.name for spec in device.agent.providers.llm.calls[0].tools]
    assert any("lamp" in name.lower() and "turn" in name.lower() for name in offered), offered


# --- binary frames ----------------------------------------------------------------------------------------------------


def test_a_frame_may_carry_json() -> None:
    with visitor(identity=Identity(DEVICE, protocol_version=3)) as device:
        body = json.dumps({"type": "ping"}).encode()
        device.session.on_binary(struct.pack("!BBH", 1, 0, len(body)) + body)
        device.wait(lambda: device.messages("pong"))


def test_frames_of_garbage_are_counted(device: Visitor) -> None:
    device.session.on_binary(b"")

    assert device.session.binary_faults == 1
    assert device.sender.closed is None


# --- listening --------------------------------------------------------------------------------------------------------


def test_from_voice_to_voice(device: Visitor) -> None:
    device.tell("listen", state="start", mode="auto")
    device.say(1_500)
    device.wait_stops()

    assert device.messages("stt")[0]["text"] == "hello"
    assert device.spoken() == ["Hello", "How are you?"]
    assert device.sender.binaries
    assert device.services.telemetry.outcomes == ["answered"]
    assert device.services.telemetry.frames
    assert device.services.quota.spent == [(DEVICE, len("Hello.How are you?"))]


def test_the_button_ends_an_utterance(device: Visitor) -> None:
    device.tell("listen", state="start", mode="manual")
    device.say(1_200, silence_ms=0)
    device.tell("listen", state="stop")

    device.wait_stops()
    assert device.services.telemetry.outcomes == ["answered"]


def test_a_question_that_was_prepared_in_vain_is_told() -> None:
    with visiting({"conversation": {"pause_ms": 100}}) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_000, silence_ms=300)
        device.say(1_000)
        device.wait_stops()

        assert device.services.telemetry.in_vain == 1
        assert device.services.telemetry.outcomes == ["answered"]


def test_nothing_is_prepared_when_that_is_switched_off() -> None:
    with visiting({"conversation": {"pause_ms": 100, "speculative": "off"}}) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_000, silence_ms=300)
        device.say(1_000)
        device.wait_stops()

        assert device.services.telemetry.in_vain == 0


def test_in_realtime_mode_who_speaks_interrupts() -> None:
    with visiting(llm=FakeLlm(LONG, "Yes.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="realtime")
        device.say(1_500)
        device.wait(lambda: device.sender.binaries)

        device.say(1_500)
        device.wait_turns(2)

        assert device.services.telemetry.outcomes == ["interrupted", "answered"]


def test_in_auto_mode_nobody_is_heard_while_the_server_speaks() -> None:
    with visiting(llm=FakeLlm(LONG, "Yes.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait(lambda: device.sender.binaries)

        device.say(1_500)
        device.tell("abort")
        device.wait_turns()

        assert len(device.services.telemetry.turns) == 1


@pytest.mark.parametrize("mode", ["auto", "realtime", None, "loud"])
def test_listen_start_does_not_cut_the_answer(mode: Any) -> None:
    """Clients exist that send it with every sentence; firmware that wants the answer to end sends abort first."""
    with visiting(llm=FakeLlm("One. Two. Three.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_000)
        device.wait(lambda: device.sender.binaries)
        device.clock.advance(JUST_WOKEN_SECONDS + 1)

        for _ in range(3):
            device.tell("listen", state="start", mode=mode)

        device.wait_turns()
        assert device.services.telemetry.outcomes == ["answered"]
        assert device.spoken() == ["One", "Two", "Three"]


def test_listen_start_while_an_answer_is_being_thought_of_does_not_cut_it_either() -> None:
    with visiting(llm=FakeLlm([0.2, "Yes."])) as device:
        device.hello()
        device.detect("are you there")
        device.wait(lambda: device.agent.providers.llm.calls)
        device.clock.advance(JUST_WOKEN_SECONDS + 1)
        device.tell("listen", state="start", mode="auto")
        device.wait_turns()
        assert device.services.telemetry.outcomes == ["answered"]


def test_the_button_cuts_the_answer() -> None:
    with visiting(llm=FakeLlm(LONG)) as device:
        device.hello()
        device.detect("tell me a story")
        device.wait(lambda: device.sender.binaries)

        device.tell("listen", state="start", mode="manual")

        device.wait_turns()
        assert device.services.telemetry.outcomes == ["interrupted"]


def test_listen_start_during_an_answer_forgets_what_the_ears_had() -> None:
    with visiting(llm=FakeLlm(LONG, "Yes.")) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait(lambda: device.sender.binaries)

        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.tell("abort")
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["interrupted"]
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait_turns(2)


# --- wake words, typed texts, calls -----------------------------------------------------------------------------------


def test_a_wake_word_is_answered_by_a_greeting() -> None:
    with visiting(WOKEN) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.wait_stops()

        assert " ".join(device.spoken()) in map(shown, greetings_for(["hello robot"]))
        assert device.messages("stt")[0]["text"] == WAKE_WORD
        assert device.agent.providers.llm.calls == []


def test_the_listen_start_behind_a_wake_word_does_not_interrupt_the_greeting() -> None:
    with visiting(WOKEN) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="auto")
        device.say(1_000, silence_ms=0)
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["answered"]


def test_the_listen_start_after_the_greeting_ends_the_deafness() -> None:
    with visiting(WOKEN, llm=FakeLlm("Yes.")) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="auto")
        device.wait_turns()

        device.tell("listen", state="start", mode="auto")
        device.say(1_000)
        device.wait_turns(2)

        assert device.spoken()[-1] == "Yes"


def test_the_listen_start_right_behind_the_wake_word_does_not_end_the_deafness() -> None:
    with visiting({**WOKEN, "enable_greeting": False}, llm=FakeLlm("Yes.")) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="auto")
        device.say(1_000)
        device.clock.advance(JUST_WOKEN_SECONDS)
        device.say(1_000)
        device.wait_turns()

        assert len(device.messages("stt")) == 2, "the wake word and one question"


def test_the_button_does_interrupt_a_greeting() -> None:
    with visiting(WOKEN) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.tell("listen", state="start", mode="manual")
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["interrupted"]


def test_a_wake_word_may_be_shown_only() -> None:
    with visiting({**WOKEN, "enable_greeting": False}) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.wait_stops()

        assert [message["type"] for message in device.messages()] == ["hello", "stt", "tts"]
        assert device.services.telemetry.turns == []


def test_a_wake_word_may_be_answered_by_the_language_model() -> None:
    with visiting({**WOKEN, "enable_wakeup_words_response_cache": False}) as device:
        device.hello()
        device.detect(WAKE_WORD)
        device.wait_stops()

        assert [call.asked for call in device.agent.providers.llm.calls] == [WAKE_WORD]


def test_a_call_is_spoken_as_it_is(device: Visitor) -> None:
    device.detect("[device_call] Grandma is calling.")
    device.wait_stops()
    device.detect("[device_call]")
    device.detect("   ")
    device.tell("ping")
    device.wait(lambda: device.messages("pong"))

    assert device.spoken() == ["Grandma is calling"]
    assert len(device.services.telemetry.turns) == 1
    assert device.agent.providers.llm.calls == []


def test_an_exit_command_ends_it() -> None:
    with visiting({"exit_commands": ["go away"]}) as device:
        device.hello()
        device.detect("Go away!")
        device.wait(lambda: device.sender.closed)

        assert device.sender.closed == (1000, "exit command")
        assert device.messages("stt")[0]["text"] == "Go away!"
        assert device.messages("tts") == []
        device.detect("are you still there")
        gevent.sleep(0)
        assert device.agent.providers.llm.calls == [], "who leaves takes no new turns"


# --- abort ------------------------------------------------------------------------------------------------------------


def test_abort_stops_what_is_said() -> None:
    with visiting(llm=FakeLlm(LONG)) as device:
        device.hello()
        device.detect("tell me a story")
        device.wait(lambda: device.sender.binaries)

        device.tell("abort", reason="wake_word_detected")

        device.wait_turns()
        _, record = device.services.telemetry.turns[0]
        assert (record.outcome.value, record.reason) == ("interrupted", "abort wake_word_detected")
        device.wait_stops()
        assert device.stops() == 1


def test_abort_is_answered_also_when_nothing_is_said(device: Visitor) -> None:
    device.tell("abort")

    device.wait_stops()


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


# --- the end ----------------------------------------------------------------------------------------------------------


def test_draining_lets_the_answer_finish_and_takes_no_new_turn() -> None:
    with visiting(llm=FakeLlm(["One. ", 0.05, "Two."])) as device:
        device.hello()
        device.detect("count")
        draining = gevent.spawn(device.session.drain, 10.0)
        gevent.sleep(0)
        device.detect("and again")
        draining.get()

        assert device.spoken() in (["One", "Two"], [])
        assert len(device.agent.providers.llm.calls) == 1


def test_draining_has_a_deadline() -> None:
    with visiting(llm=FakeLlm([60.0])) as device:
        device.hello()
        device.detect("count")
        gevent.sleep(0)

        device.session.drain(0.01)

        assert device.services.memories.saved == []


def test_an_answer_that_was_prepared_is_refused_while_draining() -> None:
    """What was heard before is heard out, but not answered any more."""
    asr_may_answer = Event()
    asr = FakeAsr(lambda pcm: asr_may_answer.wait(PATIENCE_S) and "hello")
    with visiting({"system_error_response": "Sorry."}, asr=asr) as device:
        device.hello()
        device.tell("listen", state="start", mode="auto")
        device.say(1_500)
        device.wait(lambda: asr.streams and asr.streams[-1].finished)
        draining = gevent.spawn(device.session.drain, 10.0)
        gevent.sleep(0)
        asr_may_answer.set()
        draining.get()

        assert device.services.telemetry.outcomes == ["overloaded"]


def ended(agents: FakeAgents) -> Visitor:
    """A visitor whose link went in the middle of everything."""
    device = Visitor(agents)
    device.hello(features={"mcp": True})
    device.tell("listen", state="start", mode="auto")
    device.detect("tell me a story")
    device.wait(lambda: device.sender.binaries)
    assert agents.default_agent.holders.count == 2
    device.close()
    device.session.closed("again")
    gevent.sleep(0)
    return device


def test_the_end_gives_everything_back() -> None:
    agents = FakeAgents(make_agent(llm=FakeLlm(LONG)))

    device = ended(agents)

    assert agents.default_agent.holders.count == 1
    assert device.services.telemetry.outcomes == ["interrupted"]


def test_a_session_that_has_ended_is_freed_without_the_garbage_collector() -> None:
    """A collection would stop the hub."""
    agents = FakeAgents(
        make_agent(llm=FakeLlm("And it was never still, not even for a moment, nor for less than that. " * 3))
    )
    gc.collect()
    gc.disable()
    try:
        held = weakref.ref(ended(agents).session)
        with gevent.Timeout(PATIENCE_S, AssertionError("the session is still there")):
            while held() is not None:  # its greenlets unwind in their own time
                gevent.sleep(0)
    finally:
        gc.enable()


def test_what_it_holds_can_be_told_and_given_back(device: Visitor) -> None:
    device.tell("listen", state="start", mode="auto")
    device.say(500, silence_ms=0)
    assert device.session.weight().memory_bytes > 0

    device.session.trim()

    assert device.session.weight().memory_bytes == 0


def test_a_turn_that_fails_is_no_end() -> None:
    with visiting({"system_error_response": "Sorry."}, llm=FakeLlm([VendorRejected("fake")], "Fine.")) as device:
        device.hello()
        device.detect("hello")
        device.wait_turns()
        device.detect("hello")
        device.wait_turns(2)

        assert device.services.telemetry.outcomes == ["failed", "answered"]
        assert device.spoken() == ["Sorry", "Fine"]


# --- its agent --------------------------------------------------------------------------------------------------------


def test_a_device_without_settings_of_its_own_asks_nobody() -> None:
    with visitor() as device:
        device.hello()
        device.detect("hello")
        device.wait_stops()

        assert device.agents.asked == []


def test_a_device_with_settings_of_its_own_gets_its_own_agent() -> None:
    agents = FakeAgents(make_agent({"conversation": {"speculative": "off"}}))
    own = agents.own[DEVICE] = make_agent(llm=FakeLlm("I am your own."))
    with visitor(agents) as device:
        device.hello(features={"mcp": True})
        device.detect("who are you")
        device.wait_stops()

        assert device.spoken() == ["I am your own"]
        assert [hello is not None and hello.features.mcp for _, hello in agents.asked] == [True]
        assert len(own.phrases.prepared) == 1
        assert device.agent.phrases.prepared == []
        assert (agents.default_agent.holders.count, own.holders.count) == (1, 2)
    assert own.holders.count == 1


def test_what_comes_meanwhile_waits_and_is_taken_in_order() -> None:
    there = Event()
    agents = FakeAgents()
    own = make_agent(llm=FakeLlm("Yes."))
    agents.own[DEVICE] = lambda: there.wait(PATIENCE_S) and own.hold()
    with visitor(agents) as device:
        device.hello()
        device.tell("listen", state="start", mode="manual")
        device.say(1_200, silence_ms=0)
        device.tell("listen", state="stop")
        device.tell("ping")
        device.wait(lambda: device.messages("pong"))
        assert device.session.weight().memory_bytes > 1_200 * 32
        assert device.session.weight().queue_depth > 10
        assert device.session.speaking is False

        there.set()
        device.wait_turns()

        assert device.services.telemetry.outcomes == ["answered"]
        assert len(own.providers.asr.streams[0].pcm) == 1_200 * 32
        assert agents.default_agent.providers.asr.streams == []


def test_hello_again_forgets_what_waited() -> None:
    there = Event()
    agents = FakeAgents()
    agents.own[DEVICE] = lambda: there.wait(PATIENCE_S) and agents.default()
    with visitor(agents) as device:
        device.hello()
        device.detect("one")
        device.hello()
        device.detect("two")
        assert len(agents.asked) == 1

        there.set()
        device.wait_turns()

        assert [call.asked for call in device.agent.providers.llm.calls] == ["two"]


def test_a_device_that_does_not_say_hello_has_its_own_agent_too() -> None:
    agents = FakeAgents()
    agents.own[DEVICE] = make_agent(llm=FakeLlm("I am your own."))
    with visitor(agents) as device:
        device.session.on_binary(bytes(100))
        device.detect("who are you")
        device.wait_turns()

        assert device.spoken() == ["I am your own"]
        assert [hello for _, hello in agents.asked] == [None]


def test_memory_is_given_back_while_waiting() -> None:
    agents = FakeAgents()
    agents.own[DEVICE] = lambda: Event().wait() and agents.default()
    with visitor(agents) as device:
        device.hello()
        device.say(600)
        assert device.session.weight().memory_bytes > 0

        device.session.trim()

        assert device.session.weight().memory_bytes == 0
        device.session.tick(device.clock.advance(121))
        assert device.sender.closed == (1000, "no voice"), "nobody says goodbye who is not known yet"
    assert agents.default_agent.holders.count == 1


def test_a_turn_says_for_whom_it_is(device: Visitor) -> None:
    device.detect("hello")
    device.wait_turns()

    [call] = device.agent.providers.llm.calls
    assert (call.context.device_id, call.context.client_id, call.context.turn_id) == (DEVICE, "client", 1)
    assert call.context.session_id == device.session.id
