"""Coze: conversations, cancelling, and errors by remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.coze_vendor import ASK, BOT, TOKEN, USER, CozeVendor
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import SettingsError, VendorBusy, VendorError, VendorRejected, VendorUnavailable
from xiaozhi.providers.llm.coze import CozeLlm
from xiaozhi.providers.registry import ignored, validate

# As in the configuration of the existing server, filled in.
BLOCK = {"type": "coze", "bot_id": BOT, "user_id": USER, "personal_access_token": TOKEN}
VOLUME = ToolSpec("set_volume", "Set the volume.", {"type": "object", "properties": {"volume": {"type": "integer"}}})
TURN = CallContext(device_id="d", session_id="s1", turn_id=1)


@pytest.fixture
def vendor(_no_leaks: None) -> Iterator[CozeVendor]:
    with CozeVendor() as server:
        assert isinstance(server, CozeVendor)
        yield server


def coze(vendor: CozeVendor, **more: Any) -> Any:
    block = BLOCK | {"base_url": vendor.url, "timeout": 2} | more
    return closing(CozeLlm(validate("llm", "CozeLLM", block)))  # type: ignore[arg-type]


def ask(llm: Any, text: str = "hello", context: CallContext = TURN, tools: Any = ()) -> list[Any]:
    return list(llm.chat([Message("user", text)], tools, context))


def test_a_block_of_the_existing_server_is_taken_as_it_is() -> None:
    options: Any = validate("llm", "CozeLLM", BLOCK)
    assert ignored("llm", "CozeLLM", BLOCK) == []
    assert options.base_url == "https://api.coze.cn"
    number: Any = validate("llm", "CozeLLM", BLOCK | {"bot_id": 7347, "user_id": 1})
    assert (number.bot_id, number.user_id) == ("7347", "1")


@pytest.mark.parametrize(
    "key, sample",
    [
        ("bot_id", "你的bot_id"),
        ("user_id", "你的user_id"),
        ("personal_access_token", "你的令牌"),
        ("bot_id", ""),
    ],
)
def test_sample_text_is_refused(key: str, sample: str) -> None:
    with pytest.raises(SettingsError) as refused:
        validate("llm", "CozeLLM", BLOCK | {key: sample})
    assert [fault.key for fault in refused.value.faults] == [f"LLM.CozeLLM.{key}"]
    assert TOKEN not in str(refused.value)


def test_the_question_is_written_as_the_official_sdk_does(vendor: CozeVendor) -> None:
    """As cozepy 0.20.0 sent it to the same vendor, without its nulls and the default `auto_save_history`."""
    with coze(vendor) as llm:
        ask(llm)
    question = {"role": "user", "type": "question", "content": "hello", "content_type": "text"}
    assert vendor.requests[0].json() == {
        "bot_id": "7347000000000000001",
        "user_id": "u1",
        "additional_messages": [question],
        "stream": True,
    }


def test_each_session_has_its_conversation(vendor: CozeVendor) -> None:
    with coze(vendor) as llm:
        for session in ("s1", "s2", "s1"):
            assert "".join(ask(llm, context=CallContext(session_id=session, turn_id=1))) == vendor.reply
        ask(llm, context=CallContext(session_id="s1"))
    paths = [request.path.removeprefix("/v3/chat") for request in vendor.requests]
    assert paths == ["", "", "?conversation_id=100", ""]
    assert vendor.connections == 1


def test_a_forgotten_conversation_begins_anew(vendor: CozeVendor) -> None:
    with coze(vendor) as llm:
        ask(llm)
        vendor.conversations.clear()
        assert "".join(ask(llm)) == vendor.reply
    assert len(vendor.requests) == 3


def test_a_tool_is_called(vendor: CozeVendor) -> None:
    vendor.script(ASK, Script(answer='<tool_call>{"name": "set_volume", "arguments": {"volume": 30}}</tool_call>'))
    with coze(vendor) as llm:
        (call,) = [item for item in ask(llm, "louder", tools=[VOLUME]) if isinstance(item, ToolCall)]
    assert (call.name, call.arguments) == ("set_volume", {"volume": 30})


def test_the_next_question_finds_the_conversation_free(vendor: CozeVendor) -> None:
    """Coze refuses a question to a conversation that still answers: the one that was left must be cancelled first."""
    with coze(vendor) as llm:
        ask(llm)
        vendor.script(ASK, Script(stall="after"))
        answer = llm.chat([Message("user", "hello")], [], TURN)
        next(answer)
        answer.close()
        assert "".join(ask(llm, "something else")) == vendor.reply
    assert vendor.cancelled == ["2"] and vendor.refusals == []


def test_only_answers_are_spoken(vendor: CozeVendor) -> None:
    events = [
        ("conversation.message.delta", {"id": "a", "type": "answer", "content": "", "reasoning_content": "Hm."}),
        ("conversation.message.completed", {"id": "b", "type": "function_call", "content": "{}"}),
        ("conversation.message.completed", {"id": "c", "type": "tool_response", "content": "rain"}),
        ("conversation.message.delta", {"id": "a", "type": "answer", "content": "It rains."}),
        ("conversation.message.completed", {"id": "a", "type": "answer", "content": "It rains."}),
        ("conversation.message.completed", {"id": "d", "type": "answer", "content": " Take care."}),
        ("conversation.message.completed", {"id": "e", "type": "follow_up", "content": "And tomorrow?"}),
        ("conversation.message.completed", {"id": "f", "type": "answer", "content": "{}", "content_type": "card"}),
    ]
    vendor.script(ASK, Script(answer=events))
    with coze(vendor) as llm:
        assert "".join(ask(llm)) == "It rains. Take care."


@pytest.mark.parametrize(
    "code, made",
    [
        (4009, VendorBusy),
        (4016, VendorBusy),
        (4020, VendorBusy),
        (4013, VendorUnavailable),
        (5000, VendorUnavailable),
        (4006, VendorRejected),
        (4011, VendorRejected),
        (4015, VendorRejected),
        (4100, VendorRejected),
        (700012006, VendorRejected),
    ],
)
def test_refusals_by_remedy(vendor: CozeVendor, code: int, made: type[VendorError]) -> None:
    vendor.refuse = code, f"words of {code}"
    with coze(vendor) as llm, pytest.raises(made, match=str(code)):
        ask(llm)


def test_a_chat_that_fails(vendor: CozeVendor) -> None:
    failed = {"id": "1", "conversation_id": "100", "last_error": {"code": 4011, "msg": "no tokens left"}}
    vendor.script(ASK, Script(answer=[("conversation.chat.failed", failed)]))
    with coze(vendor) as llm, pytest.raises(VendorRejected, match="no tokens left"):
        ask(llm)
    assert vendor.counts == {ASK: 1}, "what has failed need not be cancelled"


def test_an_error_event(vendor: CozeVendor) -> None:
    vendor.script(ASK, Script(answer=[("error", {"code": 5000, "msg": "internal"})]))
    with coze(vendor) as llm, pytest.raises(VendorUnavailable, match="internal"):
        ask(llm)


def test_a_bot_that_wants_tools_of_its_caller(vendor: CozeVendor) -> None:
    vendor.script(ASK, Script(answer=[("conversation.chat.requires_action", {"id": "1", "conversation_id": "100"})]))
    with coze(vendor) as llm:
        with pytest.raises(VendorRejected, match="tool"):
            ask(llm)
        ask(llm)
    assert [request.path for request in vendor.requests] == ["/v3/chat"] * 2, "the conversation is left to itself"


def test_a_wrong_token_is_not_shown(vendor: CozeVendor) -> None:
    with coze(vendor, personal_access_token="pat_another-one") as llm, pytest.raises(VendorRejected) as refused:
        ask(llm)
    assert "another-one" not in str(refused.value) and refused.value.status == 401
