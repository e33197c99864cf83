"""A tool that takes long: the talk goes on, and its result is heard when it is there, or reaches a device that is
gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Script, Stage, a_tool, ask, open_stage, tool_call
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.devices.messages import DeviceMessage, MessageResult, MessageState
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome

PROMISE = (Script(answer=[tool_call("research", about="whales")]), Script(answer="I will tell you."))


class Post:
    """A `MessageSender` that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[DeviceMessage] = []

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        self.sent.append(message)
        return MessageResult("1", message.device, MessageState.WAITING)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("late")
    with open_stage(directory, sounds, {"conversation": {"late_answer_seconds": 0.2}}) as stage:
        yield stage


@pytest.fixture
def post(stage: Stage) -> Post:
    stage.reset()
    stage.server.services.late.sender = made = Post()
    return made


@pytest.fixture
def found(stage: Stage) -> Iterator[Event]:
    """Set when the tool `research` is to end."""
    gate = Event()

    def research(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        gate.wait(PATIENCE_S)
        return ToolOutcome(Action.ASK_LLM, "Whales sing.")

    with stage.tools(a_tool("research", research, timeout=PATIENCE_S)):
        yield gate
    gate.set()


def test_it_is_heard_in_the_conversation_behind_another_question(stage: Stage, found: Event, post: Post) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, *PROMISE, Script(answer="It is noon."), Script(answer="They sing."))
    assert ask(device, "what do whales do").sentences == ["I will tell you"]
    assert ask(device, "what time is it").sentences == ["It is noon"]

    device.replies.forget_answers()
    found.set()

    assert device.collect_answer(PATIENCE_S).sentences == ["They sing"]
    ask(device, "all of them?")
    assert [message["content"] for message in stage.messages() if message["role"] == "tool"][-1] == "Whales sing."
    assert post.sent == []


def test_it_waits_for_a_device_that_is_gone(stage: Stage, found: Event, post: Post) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, *PROMISE, Script(answer="The whales sing."))
    assert ask(device, "what do whales do").sentences == ["I will tell you"]
    stage.close_devices()

    found.set()

    wait_for(lambda: post.sent, "the message")
    assert (post.sent[0].device, post.sent[0].text) == (device.device_id, "The whales sing.")
    assert stage.count("xiaozhi_late_answers_total", fate="sent") == 1
