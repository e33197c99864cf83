"""Models and servers with habits of their own, heard by a device: calls written as text, thoughts without a beginning,
narrow templates and contexts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from loadtest.simulator.device_tools import DeviceTools
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, UNANSWERED, Script, Stage, ask, tool_call
from tests.vendors.strict_chat import StrictChat, context_of, strictest_template
from tests.waiting import wait_for
from xiaozhi.session.turns.dialogue import STARTED

CONTEXT_CHARS = 6_000
PROMPT = "You are a small robot."


@pytest.fixture(scope="module")
def narrow(sounds: Sounds) -> Iterator[StrictChat]:
    """A model with the strictest template and a context that five long answers fill."""
    full = context_of(CONTEXT_CHARS, "maximum context length is 1500 tokens")
    with StrictChat(strictest_template, full, sounds=sounds, keep_alive=False) as vendor:
        assert isinstance(vendor, StrictChat)
        vendor.stand(CHAT, Script(answer="Fine."))
        yield vendor


@pytest.fixture(scope="module")
def stage_settings(narrow: StrictChat) -> dict[str, Any]:
    return {"LLM": {"Vendor": {"base_url": narrow.base_url}}, "prompt": PROMPT}


def device_with_tools(stage: Stage, tools: DeviceTools | None = None) -> tuple[Any, DeviceTools]:
    tools = tools or DeviceTools()
    device = stage.device(tools=tools)
    wait_for(lambda: tools.listed, "the list of tools")
    device.ping()
    return device, tools


def shown(vendor: StrictChat) -> list[tuple[str, str]]:
    """(role, content) of the last request, without the system prompt."""
    return [(message["role"], message["content"]) for message in vendor.taken[-1]["messages"][1:]]


@pytest.mark.parametrize(
    "written",
    [
        '<tool_call>{"name": "self_audio_speaker_set_volume", "arguments": {"volume": 30}}</tool_call>',
        '<|FunctionCallBegin|>[{"name":"self_audio_speaker_set_volume","parameters":{"volume":30}}]<|FunctionCallEnd|>',
        '```json\n{"name": "self.audio_speaker.set_volume", "arguments": {"volume": "30"}}\n```',
    ],
)
def test_a_call_written_as_text_is_done_and_not_spoken(stage: Stage, narrow: StrictChat, written: str) -> None:
    device, tools = device_with_tools(stage)
    pieces = [written[at : at + 7] for at in range(0, len(written), 7)]
    narrow.script(CHAT, Script(answer=["One moment. ", *pieces]), Script(answer="It is quieter now."))

    answer = ask(device, "be quieter")

    assert answer.sentences == ["One moment", "It is quieter now"]
    assert tools.calls == [("self.audio_speaker.set_volume", {"volume": 30})]


def test_a_call_that_is_not_understood_is_told_to_the_model_and_not_done(stage: Stage, narrow: StrictChat) -> None:
    device, tools = device_with_tools(stage)
    half = {"name": "self_audio_speaker_set_volume", "arguments": '{"volume": 3'}
    narrow.script(
        CHAT,
        Script(answer=[{"tool_calls": [{"index": 0, "id": "a", "function": half}]}]),
        Script(answer="Sorry, how loud?"),
    )

    assert ask(device, "be quieter").sentences == ["Sorry, how loud?"]
    assert tools.calls == []
    result = narrow.taken[-1]["messages"][-1]
    assert (
        result["role"] == "tool" and result["content"].startswith("error: ") and "was not called" in result["content"]
    )


def test_a_thought_without_a_beginning_is_neither_spoken_nor_remembered(stage: Stage, narrow: StrictChat) -> None:
    device = stage.device()
    narrow.script(CHAT, Script(answer=["They greet me. ", "I greet back.", "\n</think>\n\n", "Hello."]))

    assert ask(device, "hello there").sentences == ["Hello"]
    assert ask(device, "and now").sentences
    assert [message["content"] for message in narrow.taken[-1]["messages"][1:]] == ["hello there", "Hello.", "and now"]


def test_after_an_answer_that_was_never_heard_a_strict_template_is_kept(stage: Stage, narrow: StrictChat) -> None:
    device = stage.device()
    narrow.script(CHAT, Script(stall="before"))
    device.detect("the first question")
    wait_for(lambda: narrow.active, "the request")
    device.abort()
    device.collect_answer()

    assert ask(device, "the second question").sentences
    assert ask(device, "the third question").sentences
    assert narrow.refused == []


@pytest.mark.parametrize("fault", [Script(stall="before"), Script(status=400), Script(answer="")])
def test_after_questions_that_nobody_answered_every_later_one_is(
    stage: Stage, narrow: StrictChat, fault: Script
) -> None:
    device = stage.device()
    for question in ("the first question", "the second question", "the third question"):
        narrow.script(CHAT, fault)
        device.replies.forget_answers()
        device.detect(question)
        wait_for(lambda: narrow.active or not fault.stall, "the request")
        if fault.stall:
            device.abort()
        device.collect_answer()

    for question in ("the fourth question", "the fifth question"):
        assert ask(device, question).sentences == ["Fine"]

    assert narrow.refused == []
    assert shown(narrow) == [
        ("user", "the third question"),
        UNANSWERED,
        ("user", "the fourth question"),
        ("assistant", "Fine."),
        ("user", "the fifth question"),
    ]


class Silent(DeviceTools):
    """A device that does what it is told and says nothing about it."""

    def answer(self, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        answer = super().answer(payload)
        return None if payload.get("method") == "tools/call" else answer


def test_what_a_device_was_told_to_do_is_known_when_it_was_interrupted(stage: Stage, narrow: StrictChat) -> None:
    device, tools = device_with_tools(stage, Silent())
    narrow.script(CHAT, Script(answer=[tool_call("self_audio_speaker_set_volume", volume=30)]))
    device.detect("be quieter")
    wait_for(lambda: tools.calls, "the call")
    device.abort()
    device.collect_answer()

    assert ask(device, "did you do it").sentences == ["Fine"]

    assert narrow.refused == []
    made = narrow.taken[-1]["messages"]
    assert [message["role"] for message in made] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert made[2]["tool_calls"][0]["function"]["name"] == "self_audio_speaker_set_volume"
    assert made[3]["content"] == STARTED


def test_after_what_the_server_said_unasked_a_strict_template_is_kept(stage: Stage, narrow: StrictChat) -> None:
    device = stage.device()
    for call in ("[device_call]Tea is ready.", "[device_call]Really."):
        device.replies.forget_answers()
        device.detect(call)
        assert device.collect_answer().sentences

    assert ask(device, "thank you").sentences == ["Fine"]

    assert narrow.refused == []
    assert ("assistant", "Tea is ready.") in shown(narrow)


def test_a_context_that_is_full_goes_on_with_the_newest(stage: Stage, narrow: StrictChat) -> None:
    device = stage.device()
    for number in range(8):
        narrow.script(CHAT, Script(answer="word after word " * 80 + f"{number}."))
        assert ask(device, f"question {number}").sentences
    assert 1 <= len(narrow.refused) <= 2
    assert stage.count("xiaozhi_vendor_limitations", kind="llm", vendor="Vendor", limitation="context") == 1
