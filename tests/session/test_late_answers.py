"""What a slow tool has found is told: in the conversation, or as a message to a device that does not talk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.fakes.sessions import DEVICE, FakeAgents, Visitor, make_agent, make_services, visitor
from tests.fakes.thinking import FakeLlm
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.devices.messages import DeviceMessage, MessageKind, MessageResult, MessageState
from xiaozhi.errors import Overloaded, ToolError, VendorUnavailable
from xiaozhi.providers.contracts.llm import LlmTraits
from xiaozhi.settings.fixed_texts import NOT_FOUND_OUT
from xiaozhi.tools.base import Action, FunctionTool, ToolOutcome

SOON = {"conversation": {"late_answer_seconds": 0.02}}
CALL = [ToolCall("c1", "research", {"about": "whales"})]
PROMISE = ["I will tell you."]


class Research:
    """A slow tool."""

    def __init__(self) -> None:
        self.gate = Event()
        self.outcome: ToolOutcome | Exception = ToolOutcome(Action.ASK_LLM, "Whales sing.")
        self.tool = FunctionTool(ToolSpec("research", "Finds out."), self._run)

    def _run(self, arguments: Any, context: Any) -> ToolOutcome:
        self.gate.wait(PATIENCE_S)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Post:
    """A `MessageSender` that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[DeviceMessage] = []
        self.error: Exception | None = None

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        if self.error is not None:
            raise self.error
        self.sent.append(message)
        return MessageResult("1", message.device, MessageState.SENT)


@pytest.fixture
def research() -> Iterator[Research]:
    made = Research()
    yield made
    made.gate.set()
    gevent.sleep(0)  # sleep: lets a tool that still waits see its gate


@pytest.fixture
def services() -> Iterator[Any]:
    made = make_services()
    made.late.sender = Post()
    yield made
    made.late.stop(PATIENCE_S)


def ask(device: Visitor) -> None:
    """The user asks, and is promised an answer."""
    device.hello()
    device.detect("what do whales do")
    device.wait_turns()
    assert device.spoken() == ["I will tell you"]


def agents(research: Research, *answers: Any, **traits: Any) -> FakeAgents:
    llm = FakeLlm(CALL, PROMISE, *answers)
    llm.traits = LlmTraits(**traits)
    return FakeAgents(make_agent(SOON, tools=[research.tool], llm=llm))


def requests(agents: FakeAgents) -> Any:
    return agents.default_agent.providers.llm.calls  # type: ignore[attr-defined]


def test_it_is_told_in_the_conversation_and_the_next_question_knows_it(research: Research, services: Any) -> None:
    known = agents(research, ["About the whales: they sing."], ["Yes."])
    with visitor(agents=known, services=services) as device:
        ask(device)
        research.gate.set()
        device.wait_turns(2)
        assert device.spoken()[-1] == "About the whales: they sing"
        told = requests(known)[2]
        assert 'The user had asked: "what do whales do"' in told.messages[-3].content
        assert (told.messages[-2].role, told.messages[-1].role) == ("assistant", "tool")
        assert told.messages[-1].content == "Whales sing."
        assert not told.tools, "or one late call would follow the other"

        device.detect("all of them?")
        device.wait_turns(3)
        assert "Whales sing." in [message.content for message in requests(known)[3].messages if message.role == "tool"]
    assert services.late.told == {"spoken": 1, "sent": 0, "lost": 0}
    assert services.late.sender.sent == []


def test_what_was_cut_off_before_its_first_word_is_told_again(research: Research, services: Any) -> None:
    known = agents(research, [PATIENCE_S, "Never heard."], ["Fine."], ["They sing."])
    with visitor(agents=known, services=services) as device:
        ask(device)
        research.gate.set()
        device.wait(lambda: len(requests(known)) == 3)
        device.detect("how are you")
        device.wait_turns(4)
        assert device.spoken()[1:] == ["Fine", "They sing"]


def test_a_device_that_is_gone_gets_a_message(research: Research, services: Any) -> None:
    known = agents(research, ["The whales sing."])
    with visitor(agents=known, services=services) as device:
        ask(device)
    research.gate.set()
    wait_for(lambda: services.late.sender.sent, "the message")

    [message] = services.late.sender.sent
    assert (message.device, message.kind, message.text, message.sender) == (
        DEVICE, MessageKind.NOTIFY, "The whales sing.", "tool",
    )  # fmt: skip
    assert "Whales sing." in requests(known)[2].messages[-1].content
    wait_for(lambda: known.default_agent.holders.count == 1, "the agent to be given back")


def test_a_device_that_has_come_back_hears_it(research: Research, services: Any) -> None:
    known = agents(research, ["They sing."])
    with visitor(agents=known, services=services) as device:
        ask(device)
    with visitor(agents=known, services=services) as device:
        device.hello()
        research.gate.set()
        device.wait_turns(2)
        assert device.spoken() == ["They sing"]


@pytest.mark.parametrize("failure", [ToolError("the sea is closed"), RuntimeError("a fault of the tool")])
def test_a_failure_is_told_too(research: Research, services: Any, failure: Exception) -> None:
    research.outcome = failure
    known = agents(research, ["I could not find it out."])
    with visitor(agents=known, services=services) as device:
        ask(device)
        research.gate.set()
        device.wait_turns(2)
        assert device.spoken()[-1] == "I could not find it out"
        assert requests(known)[2].messages[-1].content.startswith("error: ")


def test_what_a_tool_says_itself_is_said_as_it_is(research: Research, services: Any) -> None:
    research.outcome = ToolOutcome(Action.SPEAK, "The laundry is done.")
    with visitor(agents=agents(research), services=services) as device:
        ask(device)
        research.gate.set()
        device.wait_turns(2)
        assert device.spoken()[-1] == "The laundry is done"


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (ToolOutcome(Action.ASK_LLM, "Whales sing."), "Whales sing."),
        (ToolOutcome(Action.ASK_LLM, '{"whales": ["sing"]}'), NOT_FOUND_OUT["en"]),
        (ToolOutcome(Action.ERROR, "no such sea"), NOT_FOUND_OUT["en"]),
    ],
)
def test_without_a_model_that_writes_it_is_told_as_well_as_it_goes(
    research: Research, services: Any, outcome: ToolOutcome, text: str
) -> None:
    research.outcome = outcome
    with visitor(agents=agents(research, [VendorUnavailable("llm", "down")]), services=services) as device:
        ask(device)
    research.gate.set()
    wait_for(lambda: services.late.sender.sent, "the message")

    assert services.late.sender.sent[0].text == text


def test_a_model_that_fails_in_the_conversation_leaves_it_to_the_message(research: Research, services: Any) -> None:
    with visitor(agents=agents(research, [VendorUnavailable("llm", "down")]), services=services) as device:
        ask(device)
        research.gate.set()
        wait_for(lambda: services.late.sender.sent, "the message")
    assert services.late.told["spoken"] == 0


def test_a_result_that_nobody_takes_is_counted(research: Research, services: Any) -> None:
    services.late.sender.error = Overloaded("storage")
    with visitor(agents=agents(research, ["They sing."]), services=services) as device:
        ask(device)
    research.gate.set()

    wait_for(lambda: services.late.told["lost"] == 1, "the loss to be counted")


def test_a_server_that_stops_says_that_it_could_not_be_found_out(research: Research, services: Any) -> None:
    known = agents(research, ["I could not find it out."])
    with visitor(agents=known, services=services) as device:
        ask(device)
        assert services.late.stop(PATIENCE_S)
        assert device.spoken()[-1] == "I could not find it out"
        assert "had to be stopped" in requests(known)[2].messages[-1].content
