"""The parts of a session: made when they are needed, as the device and its agent want them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gevent
import pytest
from structlog.testing import capture_logs

from tests.fakes.hearing import FakeAsr
from tests.fakes.sessions import DEVICE, FakeAgents, FakeLink, make_agent, make_services, visitor
from tests.fakes.sound import silence, tone
from tests.fakes.thinking import FakeLlm, FakeMemory
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.devices.dialogues import ResumeStore
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.contracts.asr import AsrStream
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn, EndOfTurnTraits
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.link import Identity
from xiaozhi.session.listening.listener import ListenerOptions
from xiaozhi.session.parts import SessionParts
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.tools.base import Action, FixedTools, FunctionTool, SourceKind, ToolOutcome


class Nobody:
    """Does not care what is heard."""

    def speech_started(self) -> None: ...
    def utterance_paused(self, utterance: Any) -> None: ...
    def utterance_resumed(self) -> None: ...
    def utterance_ended(self, utterance: Any) -> None: ...
    def utterance_dropped(self, reason: str) -> None: ...


def parts_of(
    settings: Mapping[str, Any] | None = None,
    services: Any = None,
    identity: Identity | None = None,
    **parts: Any,
) -> Any:
    """The parts of a device that has not said hello."""
    device = identity or Identity(DEVICE, "client")
    agent = make_agent(settings, **parts)
    context = CallContext(device_id=DEVICE, client_id=device.client_id)
    return SessionParts(FakeLink(device), services or make_services(), agent, context, Tasks())


def hello(**audio: Any) -> wire.Hello:
    """As a device says it."""
    return wire.Hello(audio=wire.AudioParams(**audio))


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (None, ("opus", 24_000, 60)),
        ({"format": "pcm", "frame_duration": 20}, ("pcm", 24_000, 20)),
        ({"format": "flac", "frame_duration": 35}, ("opus", 24_000, 60)),
    ],
)
def test_the_voice_is_what_the_device_can_play(audio: dict[str, Any] | None, expected: tuple[Any, ...]) -> None:
    parts = parts_of()
    if audio is not None:
        parts.adopt(hello(**audio))

    assert (parts.voice.format, parts.voice.sample_rate, parts.voice.frame_ms) == expected
    assert parts.speaker().voice == parts.voice


@pytest.mark.parametrize(
    ("identity", "header"),
    [
        (Identity(DEVICE), 0),
        (Identity(DEVICE, protocol_version=3), 4),
        (Identity(DEVICE, protocol_version=2), 16),
        (Identity(DEVICE, via_gateway=True), 16),
    ],
)
@pytest.mark.parametrize("version", [None, 1, 2, 3, 99, "3"])
def test_only_the_header_decides_the_framing(identity: Identity, version: Any, header: int) -> None:
    parts = parts_of(identity=identity)
    said = wire.parse_device(json.dumps({"type": "hello", "version": version}))
    assert isinstance(said, wire.Hello)

    parts.adopt(said)

    assert len(parts.codec.pack(b"packet", 0)) == header + len(b"packet")


def test_hello_again_makes_anew_what_does_not_fit() -> None:
    parts = parts_of()
    listener, speaker, outbox = parts.open_listener(Nobody(), wire.ListenMode.AUTO), parts.speaker(), parts.outbox
    assert parts.open_listener(Nobody(), wire.ListenMode.MANUAL) is listener
    assert parts.speaker() is speaker

    parts.adopt(hello(format="pcm"))

    assert outbox.closed
    assert parts.outbox is not outbox
    assert parts.speaker() is not speaker
    assert parts.open_listener(Nobody(), wire.ListenMode.AUTO) is not listener
    parts.close()
    parts.close()


@pytest.mark.parametrize(("speculative", "pauses"), [("off", False), ("asr", True), ("llm", True)])
def test_pauses_are_told_only_where_they_are_used(speculative: str, pauses: bool) -> None:
    class Noted(Nobody):
        paused = False

        def utterance_paused(self, utterance: Any) -> None:
            self.paused = True

    noted = Noted()
    parts = parts_of({"conversation": {"speculative": speculative, "pause_ms": 100}, "turn": {"words": "off"}})
    parts.adopt(hello(format="pcm"))
    listener = parts.open_listener(noted, wire.ListenMode.AUTO)
    for at in range(20):
        listener.hear(tone(60) if at < 16 else silence(60))
    gevent.sleep(0)

    assert parts.prepares is pauses
    assert noted.paused is pauses
    parts.close()


class LaggingAsr(FakeAsr):
    """Gives a partial text at once."""

    def open(self, context: CallContext) -> AsrStream:
        stream = super().open(context)
        stream.partial = "turn on the"
        return stream


class SureModel(EndOfTurn):
    """Everybody has finished."""

    traits = EndOfTurnTraits(offline=True)

    def judge(self, pcm: bytes) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("settings", "model", "silence_ms", "ends"),
    [
        ({}, None, 1_020, False),  # longer than the silence of this detector, 700 ms
        ({"turn": {"max_silence_ms": 900}}, None, 1_020, True),
        ({"turn": {"words": "off"}}, None, 1_020, True),
        ({"turn": {"words": "zh"}, "language": "English"}, None, 1_020, True),
        ({"turn": {"words": "off"}}, SureModel(), 420, True),
        ({"turn": {"words": "off", "min_silence_ms": 600}}, SureModel(), 420, False),
        ({}, SureModel(), 420, False),  # they contradict each other
        ({"conversation": {"pause_ms": 0}, "turn": {"words": "off"}}, SureModel(), 420, False),
    ],
)
def test_a_pause_is_judged_as_the_settings_say(
    settings: Mapping[str, Any], model: EndOfTurn | None, silence_ms: int, ends: bool
) -> None:
    class Noted(Nobody):
        ended = False

        def utterance_ended(self, utterance: Any) -> None:
            self.ended = True
            utterance.close()

    noted = Noted()
    own = {"conversation": {"speculative": "off"}, "language": "English", **settings}
    parts = parts_of(own, asr=LaggingAsr(), end_of_turn=model)
    parts.adopt(hello(format="pcm"))
    listener = parts.open_listener(noted, wire.ListenMode.AUTO)
    for at in range(16 + silence_ms // 60):
        listener.hear(tone(60) if at < 16 else silence(60))
        for _ in range(5):
            gevent.sleep(0)

    assert noted.ended is ends
    parts.close()


@pytest.mark.parametrize(("speculative", "lead_ms"), [("asr", 500), ("llm", 1_500)])
def test_a_pause_is_told_in_time_for_what_is_prepared(speculative: str, lead_ms: int) -> None:
    parts = parts_of({"conversation": {"speculative": speculative}})
    options = parts.listener_options()

    assert (options.pause_ms, options.lead_ms) == (None, lead_ms)
    parts.close()


def test_another_agent_takes_over() -> None:
    parts = parts_of()
    default, own = parts.agent, make_agent({"conversation": {"speculative": "off"}})

    parts.adopt_agent(own)

    assert parts.agent is own
    assert default.holders.count == 0
    assert parts.prepares is False


def test_a_faulty_microphone_is_told() -> None:
    services: Any = make_services()
    parts = parts_of(services=services)
    listener = parts.open_listener(Nobody(), wire.ListenMode.AUTO)
    for _ in range(ListenerOptions().queue_packets + 3):
        listener.hear(b"packet")

    assert services.telemetry.drops == ["microphone"] * 3
    parts.close()


def test_a_device_that_does_not_read_is_closed() -> None:
    with visitor() as device:
        device.hello()
        device.sender.hold()
        for _ in range(600):
            device.session.on_ping()
            gevent.sleep(0)

        assert device.sender.closed is not None
        assert device.sender.closed[0] == 1001


def test_whether_faces_are_drawn() -> None:
    parts = parts_of()
    assert parts.emotes

    parts.adopt(wire.Hello(features=wire.Features(emoji=False)))

    assert not parts.emotes
    assert "no emoji" in parts.brief("").history[0].content


def test_tools_of_the_device_join_those_of_the_agent() -> None:
    known = FunctionTool(ToolSpec("known", "Is known."), lambda arguments, context: ToolOutcome(Action.NOTHING))
    parts = parts_of(tools=[known])

    toolbox = parts.toolbox()

    assert parts.toolbox() is toolbox
    assert [spec.name for spec in toolbox.specs()] == ["known"]
    assert parts.device_iot() is parts.device_iot()
    assert parts.device_mcp() is parts.device_mcp()
    parts.close()
    parts.release()
    assert (parts.mcp, parts.iot, parts.listener) == (None, None, None)


# --- what was said ----------------------------------------------------------------------------------------------------


def test_a_dialogue_goes_on_where_it_ended() -> None:
    resume = ResumeStore()
    before = parts_of(services=make_services(resume=resume))
    assert before.known_dialogue is None
    before.dialogue().append(Message("user", "my name is Ann"), Message("assistant", "Hello Ann."))
    resume.put(DEVICE, "client", before.dialogue().snapshot())

    after = parts_of(services=make_services(resume=resume))

    assert [message.content for message in after.dialogue().messages()] == ["my name is Ann", "Hello Ann."]
    assert after.known_dialogue is after.dialogue()
    assert after.held_bytes > 0
    after.trim()
    assert after.held_bytes > 0, "a short dialogue is kept"


def test_a_dialogue_that_cannot_be_read_is_left_behind() -> None:
    resume = ResumeStore()
    resume.put(DEVICE, "client", b"{}")
    with capture_logs() as lines:
        assert parts_of(services=make_services(resume=resume)).dialogue().messages() == []

    assert "dialogue of the last session cannot be read" in [line["event"] for line in lines]


def test_the_prompt_has_role_memory_and_history() -> None:
    parts = parts_of(memory=FakeMemory("Likes tea."))
    parts.dialogue().append(Message("user", "hello"), Message("assistant", "Hi."))

    parts.role = "You are a pirate."
    system, *history = parts.brief("who am I").history

    assert "You are a pirate." in system.content
    assert "Likes tea." in system.content
    assert [message.content for message in history] == ["hello", "Hi."]


@pytest.mark.parametrize(
    ("cache", "question", "past", "kept"),
    [
        (True, "how tall is a giraffe", False, True),
        (True, "how tall is a giraffe", True, False),
        (True, "", False, False),
        (False, "how tall is a giraffe", False, False),
    ],
)
def test_where_an_answer_may_be_kept(cache: bool, question: str, past: bool, kept: bool) -> None:
    parts = parts_of(answers=AnswerCache() if cache else None)
    if past:
        parts.dialogue().append(Message("user", "hello"), Message("assistant", "Hi."))

    assert bool(parts.brief(question).cache_key) is kept


def test_a_repeated_question_is_answered_from_memory() -> None:
    agents = FakeAgents(make_agent(answers=AnswerCache(), llm=FakeLlm("Five metres.", "Six metres.")))
    for _ in range(2):
        with visitor(agents) as device:
            device.hello()
            device.detect("how tall is a giraffe")
            device.wait_stops()
            assert device.spoken() == ["Five metres"]


def test_a_board_is_known_by_what_its_device_says_to_ota_and_to_mcp() -> None:
    services = make_services()
    boards = {"bread-compact": {"prebuffer_frames": 5}, "bread-compact-wifi-lcd": {"prebuffer_frames": 8}}
    services.boards.learn(DEVICE, ["bread-compact-wifi"])
    parts = parts_of({"boards": boards}, services, Identity(DEVICE.upper()))
    assert parts.outbox.prebuffer_frames == 5

    parts.adopt(wire.Hello(features=wire.Features(mcp=True)))
    mcp = parts.device_mcp()
    assert parts.outbox.prebuffer_frames == 5
    gevent.sleep(0)
    server = {"name": "Bread-Compact-WiFi-LCD", "version": "2.2.0"}
    mcp.on_payload({"jsonrpc": "2.0", "id": 1, "result": {"serverInfo": server}})
    gevent.sleep(0)

    assert parts.outbox.prebuffer_frames == 8
    parts.adopt(wire.Hello())
    assert parts.outbox.prebuffer_frames == 8
    parts.close()
    gevent.sleep(0)


def test_tool_calls_are_noted() -> None:
    known = FunctionTool(ToolSpec("known", "Is known."), lambda arguments, context: ToolOutcome(Action.SPEAK, "Done."))
    with visitor(FakeAgents(make_agent(tools=[known], llm=FakeLlm([ToolCall("1", "known", {})])))) as device:
        device.hello()
        device.detect("do it")
        device.wait_turns()

        assert device.services.telemetry.tool_calls == [("plugins", Action.SPEAK)]


def test_what_agents_share_is_offered_beside_the_plugins() -> None:
    def named(source: str, name: str) -> FixedTools:
        tool = FunctionTool(ToolSpec(name, ""), lambda arguments, context: ToolOutcome(Action.SPEAK, name))
        return FixedTools(source, [tool], SourceKind.SERVER_MCP)

    llm = FakeLlm([ToolCall("1", "door", {})])
    shared = (named("mcp:one", "door"), named("mcp:two", "lamp"))
    with visitor(FakeAgents(make_agent(shared_tools=shared, llm=llm))) as device:
        device.hello()
        device.detect("open the door")
        device.wait_turns()

        assert device.services.telemetry.tool_calls == [("mcp:one", Action.SPEAK)]
        assert {spec.name for spec in llm.calls[0].tools} == {"door", "lamp"}


@pytest.mark.parametrize(
    ("setting", "aec", "cancels"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"conversation": {"echo": "on"}}, False, True),
        ({"conversation": {"echo": False}}, True, False),
        ({"conversation": {"echo": "off"}, "boards": {"bread": {"echo": True}}}, False, True),
        ({"boards": {"bread": {"echo": "off"}}}, True, False),
    ],
)
def test_the_echo_is_cancelled_for_who_asks_or_as_the_settings_say(
    setting: dict[str, Any], aec: bool, cancels: bool
) -> None:
    parts = parts_of(setting, identity=Identity(DEVICE, "client", user_agent="bread-compact-wifi/1.8.0"))
    parts.adopt(wire.Hello(features=wire.Features(aec=aec)))

    listener = parts.open_listener(Nobody(), wire.ListenMode.REALTIME)

    assert (listener.canceller is not None) is cancels
    assert (parts.outbox.on_sent is not None) is cancels
    parts.close()


@pytest.mark.parametrize(
    ("setting", "aec", "after"), [("auto", True, "same"), ("on", False, "new"), ("off", True, None)]
)
def test_a_canceller_at_work_stays_when_the_device_says_what_it_is(setting: str, aec: bool, after: str | None) -> None:
    """The segment under way has it: with another one it would hear itself."""
    parts = parts_of({"boards": {"bread": {"echo": setting}}})
    parts.adopt(wire.Hello(features=wire.Features(aec=aec, mcp=True)))
    mcp = parts.device_mcp()
    listener = parts.open_listener(Nobody(), wire.ListenMode.REALTIME)
    before, sent = listener.canceller, parts.outbox.on_sent
    assert (before is not None) is aec
    gevent.sleep(0)
    mcp.on_payload({"jsonrpc": "2.0", "id": 1, "result": {"serverInfo": {"name": "bread", "version": "1"}}})
    gevent.sleep(0)

    assert (listener.canceller is not None) is (parts.outbox.on_sent is not None) is (after is not None)
    assert (listener.canceller is before and parts.outbox.on_sent == sent) is (after == "same")
    parts.close()
    gevent.sleep(0)
