"""Dify: conversations, the three kinds of applications, stopping, and errors by remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.dify_vendor import ASK, KEY, DifyVendor
from tests.waiting import wait_for
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.llm import Retraction
from xiaozhi.providers.llm.dify import DifyLlm
from xiaozhi.providers.registry import ignored, validate

MODES = ["chat-messages", "workflows/run", "completion-messages"]
# As in the configuration of the existing server, with the key filled in.
BLOCK = {"type": "dify", "base_url": "https://api.dify.ai/v1", "api_key": KEY, "mode": "chat-messages"}
VOLUME = ToolSpec("set_volume", "Set the volume.", {"type": "object", "properties": {"volume": {"type": "integer"}}})
TURN = CallContext(device_id="d", session_id="s1", turn_id=1)


@pytest.fixture
def vendor(_no_leaks: None) -> Iterator[DifyVendor]:
    with DifyVendor() as server:
        assert isinstance(server, DifyVendor)
        yield server


def dify(vendor: DifyVendor, **more: Any) -> Any:
    block = BLOCK | {"base_url": f"{vendor.url}/v1/", "timeout": 2} | more
    return closing(DifyLlm(validate("llm", "DifyLLM", block)))  # type: ignore[arg-type]


def ask(llm: Any, text: str = "hello", context: CallContext = TURN, tools: Any = (), more: Any = ()) -> list[Any]:
    return list(llm.chat([Message("system", "You are a toy."), Message("user", text), *more], tools, context))


# --- options ----------------------------------------------------------------------------------------------------------


def test_a_block_of_the_existing_server_is_taken_as_it_is() -> None:
    validate("llm", "DifyLLM", BLOCK)
    assert ignored("llm", "DifyLLM", BLOCK) == []
    assert validate("llm", "DifyLLM", {"type": "dify", "api_key": KEY, "mode": "", "base_url": ""}).mode == MODES[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "block, key",
    [
        (BLOCK | {"api_key": "你的DifyLLM web key"}, "api_key"),
        (BLOCK | {"api_key": ""}, "api_key"),
        (BLOCK | {"mode": "chat"}, "mode"),
        (BLOCK | {"base_url": "api.dify.ai"}, "base_url"),
    ],
)
def test_what_cannot_work_is_a_fault(block: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        validate("llm", "DifyLLM", block)
    assert [fault.key for fault in refused.value.faults] == [f"LLM.DifyLLM.{key}"]


# --- conversations ----------------------------------------------------------------------------------------------------


def test_each_session_has_its_conversation(vendor: DifyVendor) -> None:
    with dify(vendor) as llm:
        for session in ("s1", "s2", "s1", "s1"):
            ask(llm, context=CallContext(session_id=session, turn_id=1))
    told = [(request.json()["user"], request.json().get("conversation_id")) for request in vendor.requests]
    assert told == [("s1", None), ("s2", None), ("s1", "conversation-1"), ("s1", "conversation-1")]
    assert vendor.queries == ["hello"] * 4


def test_a_summary_is_no_part_of_the_conversation(vendor: DifyVendor) -> None:
    with dify(vendor) as llm:
        ask(llm)
        ask(llm, "Sum it up.", CallContext(session_id="s1"))
        ask(llm)
    assert [request.json().get("conversation_id") for request in vendor.requests] == [None, None, "conversation-1"]
    assert vendor.queries == ["hello", "You are a toy.\n\nSum it up.", "hello"]


def test_a_forgotten_conversation_begins_anew(vendor: DifyVendor) -> None:
    with dify(vendor) as llm:
        ask(llm, tools=[VOLUME])
        vendor.conversations.clear()
        assert "".join(ask(llm, "and now?", tools=[VOLUME])) == vendor.reply
        ask(llm, "again", tools=[VOLUME])
    told = [request.json().get("conversation_id") for request in vendor.requests]
    assert told == [None, "conversation-1", None, "conversation-2"]
    assert "set_volume" in vendor.queries[0] and "set_volume" in vendor.queries[1], "it was told of the tools once more"
    assert vendor.queries[2] == "again"


def test_another_404_is_told(vendor: DifyVendor) -> None:
    with dify(vendor, base_url=f"{vendor.url}/v2") as llm, pytest.raises(VendorRejected):
        ask(llm)
    assert len(vendor.requests) == 1


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_is_called_and_its_result_told(vendor: DifyVendor, mode: str) -> None:
    vendor.script(ASK, Script(answer='<tool_call>{"name": "set_volume", "arguments": {"volume": 30}}</tool_call>'))
    with dify(vendor, mode=mode) as llm:
        (call,) = [item for item in ask(llm, "louder", tools=[VOLUME]) if isinstance(item, ToolCall)]
        assert (call.name, call.arguments) == ("set_volume", {"volume": 30})
        result = [Message("assistant", "", tool_calls=(call,)), Message("tool", "done", tool_call_id=call.id)]
        assert "".join(ask(llm, "louder", tools=[VOLUME], more=result)) == vendor.reply
    first, second = vendor.queries
    assert "Set the volume." in first and first.endswith("louder")
    assert "- set_volume: done" in second
    assert ("Set the volume." in second) is (mode != MODES[0]), "what remembers nothing is told each time"


def test_variables_of_the_application(vendor: DifyVendor) -> None:
    with dify(vendor, inputs={"city": "Ulm"}, mode=MODES[1]) as llm:
        ask(llm)
    assert vendor.requests[0].json()["inputs"] == {"city": "Ulm", "query": "hello"}


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_is_left_is_stopped(vendor: DifyVendor, mode: str) -> None:
    vendor.script(ASK, Script(stall="after"))
    with dify(vendor, mode=mode) as llm:
        answer = llm.chat([Message("user", "hello")], [], TURN)
        next(answer)
        answer.close()
        wait_for(lambda: vendor.stopped, "the vendor to be told")
        assert "".join(ask(llm)) == vendor.reply
    assert vendor.stopped == ["task-1"] and vendor.refusals == []


def test_a_whole_answer_is_not_stopped(vendor: DifyVendor) -> None:
    with dify(vendor) as llm:
        ask(llm)
        ask(llm)
        assert vendor.connections == 1, "its connection is used again"
    assert vendor.counts == {ASK: 2}


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, made",
    [
        ({"status": 400, "code": "provider_quota_exceeded", "message": "quota"}, VendorRejected),
        (
            {"status": 400, "code": "completion_request_error", "message": "Connection Error"},
            VendorUnavailable,
        ),
        ({"status": 400, "code": "completion_request_error", "message": "Rate Limit Error, 429"}, VendorBusy),
        ({"status": 500, "code": "internal_server_error", "message": "oops"}, VendorUnavailable),
        ({"status": 429, "code": "too_many_requests", "message": "slow down"}, VendorBusy),
    ],
)
def test_errors_in_an_answer_by_remedy(vendor: DifyVendor, error: dict[str, Any], made: type[VendorError]) -> None:
    begun = {"event": "message", "task_id": "t", "conversation_id": "c", "answer": "Well, "}
    vendor.script(ASK, Script(answer=[begun, {"event": "error", "task_id": "t", **error}]))
    with dify(vendor) as llm, pytest.raises(made):
        ask(llm)
    assert vendor.counts == {ASK: 1}, "what has ended need not be stopped"


def test_an_answer_that_breaks_off_is_no_answer(vendor: DifyVendor) -> None:
    vendor.script(ASK, Script(answer=[{"event": "message", "task_id": "task-1", "answer": "Well, "}]))
    with dify(vendor) as llm, pytest.raises(VendorUnavailable, match="broke off"):
        ask(llm)


def test_moderation_replaces_what_was_said(vendor: DifyVendor) -> None:
    base = {"task_id": "t", "conversation_id": "c"}
    events = [
        {"event": "message", **base, "answer": "You are a bad "},
        {"event": "message_replace", **base, "answer": "Let us talk of something else."},
        {"event": "message_end", **base},
    ]
    vendor.script(ASK, Script(answer=events))
    with dify(vendor) as llm:
        items = ask(llm)
    assert isinstance(items[1], Retraction) and items[2:] == ["Let us talk of something else."]


# --- workflows --------------------------------------------------------------------------------------------------------


def test_a_workflow_is_heard_while_it_writes(vendor: DifyVendor) -> None:
    with dify(vendor, mode=MODES[1]) as llm:
        items = ask(llm)
    assert len(items) > 2 and "".join(items) == vendor.reply


def test_a_workflow_that_tells_its_answer_at_the_end(vendor: DifyVendor) -> None:
    vendor.chunks = False
    with dify(vendor, mode=MODES[1]) as llm:
        assert "".join(ask(llm)) == vendor.reply


def test_the_output_called_answer_counts(vendor: DifyVendor) -> None:
    vendor.outputs = {"answer": "No.", "thoughts": vendor.reply}
    with dify(vendor, mode=MODES[1]) as llm:
        items = ask(llm)
    withdrawn = max(at for at, item in enumerate(items) if isinstance(item, Retraction))
    assert "".join(items[withdrawn + 1 :]) == "No."


def test_a_workflow_without_an_answer_says_what_it_has(vendor: DifyVendor) -> None:
    vendor.chunks, vendor.outputs = False, {"text": "Hi", "more": 1}
    with dify(vendor, mode=MODES[1]) as llm, pytest.raises(VendorGarbage, match=r"`answer`.*text, more"):
        ask(llm)


def test_a_workflow_that_fails(vendor: DifyVendor) -> None:
    data = {"status": "failed", "error": "node crashed", "outputs": {}}
    vendor.script(ASK, Script(answer=[{"event": "workflow_finished", "task_id": "t", "data": data}]))
    with dify(vendor, mode=MODES[1]) as llm, pytest.raises(VendorUnavailable, match="node crashed"):
        ask(llm)
