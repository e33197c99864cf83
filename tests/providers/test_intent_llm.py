"""Intents by a language model: from what it says to calls, and everything else to plain chat."""

from typing import Any

import pytest

from tests.fakes.inference import InlineInference
from tests.fakes.thinking import FakeLlm
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.intent import Intention
from xiaozhi.providers.contracts.provider import Services

TOOLS = [
    ToolSpec("set_volume", "Sets the volume."),
    ToolSpec("light_on", "Light."),
    ToolSpec("handle_exit_intent", "Ends."),
]
CONTEXT = CallContext(device_id="dev")


def intent(llm: FakeLlm, **options: Any) -> Any:
    services = Services(inference=InlineInference(), provider=lambda kind, name: llm)  # type: ignore[arg-type]
    return registry.build("intent", "intent", {"type": "intent_llm", **options}, services)


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        ('{"function_call": {"name": "set_volume", "arguments": {"volume": 30}}}', [("set_volume", {"volume": 30})]),
        ('```json\n{"function_call": {"name": "light_on"}}\n```', [("light_on", {})]),
        (
            '{"function_call": {"name": "set_volume", "arguments": "{\\"volume\\": 5}"}}',
            [("set_volume", {"volume": 5})],
        ),
        (
            '{"function_calls": [{"name": "light_on"}, {"name": "set_volume", "arguments": {"volume": 1}}]}',
            [("light_on", {}), ("set_volume", {"volume": 1})],
        ),
        ('[{"function_call": {"name": "light_on"}}]', [("light_on", {})]),
        ('{"function_call": {"name": "continue_chat"}}', []),
        ('{"function_call": {"name": "result_for_context"}}', []),
        ('{"function_call": {"name": "no_such_tool"}}', []),
        ('{"function_call": "light_on"}', []),
        ('{"function_call": {"name": "set_volume", "arguments": "{\\"volume\\": 3"}}', []),
        ('{"function_call": {"name": "set_volume", "arguments": [3]}}', []),
        ('{"function_call": {"name": "light_on", "arguments": null}}', [("light_on", {})]),
        ("I think you want light_on", []),
        ('{"function_call": {"name": ', []),
        ("", []),
    ],
)
def test_what_the_model_says(said: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    found = intent(FakeLlm(said or [])).classify("do it", [], TOOLS, CONTEXT)
    assert [(call.name, dict(call.arguments)) for call in found.calls] == calls
    assert len({call.id for call in found.calls}) == len(calls)


def test_without_tools_nobody_is_asked() -> None:
    llm = FakeLlm("x")
    assert intent(llm).classify("hello", [], [], CONTEXT) == Intention()
    assert llm.calls == []


def test_the_model_sees_the_functions_the_recent_past_and_the_request() -> None:
    llm = FakeLlm('{"function_call": {"name": "continue_chat"}}')
    past = [
        Message("system", "prompt"),
        Message("user", "old"),
        Message("assistant", "very old"),
        Message("user", "a lamp"),
        Message("assistant", "yes?"),
    ]
    intent(llm, history=2).classify("turn it on", past, TOOLS, CONTEXT)
    instruction, question = llm.calls[0].messages
    assert "set_volume" in instruction.content and "light_on" in instruction.content
    assert "turn it on" in question.content and "a lamp" in question.content and "very old" not in question.content


def test_the_same_words_are_decided_once_but_not_in_the_middle_of_a_conversation() -> None:
    llm = FakeLlm('{"function_call": {"name": "light_on"}}')
    decider = intent(llm)
    for _ in range(3):
        assert decider.classify("light please", [], TOOLS, CONTEXT).calls == (ToolCall("intent-0", "light_on", {}),)
    assert len(llm.calls) == 1
    for _ in range(2):
        decider.classify("turn it up", [Message("user", "music"), Message("assistant", "ok")], TOOLS, CONTEXT)
    assert len(llm.calls) == 3


def test_the_question_is_no_part_of_the_dialogue() -> None:
    """A model that keeps the dialogue itself must not take it for something that the user said."""
    llm = FakeLlm("{}")
    intent(llm).classify("hello", [], TOOLS, CallContext(device_id="dev", session_id="s", turn_id=3))
    assert (llm.calls[0].context.turn_id, llm.calls[0].context.session_id) == (0, "s")
