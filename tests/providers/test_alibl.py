"""Applications of Bailian: what is told of the dialogue, the address, errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.bailian_vendor import APP, KEY, PATH, BailianVendor
from xiaozhi.chat import CallContext, Message, ToolCall
from xiaozhi.errors import SettingsError, VendorBusy, VendorError, VendorRejected, VendorUnavailable
from xiaozhi.providers.llm.AliBL import AliBlLlm
from xiaozhi.providers.registry import ignored, validate

# As in the configuration of the existing server, with key and application filled in.
BLOCK = {
    "type": "AliBL",
    "base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "app_id": APP,
    "api_key": KEY,
    "is_no_prompt": True,
    "ali_memory_id": False,
}
TURN = CallContext(device_id="d", session_id="s1", turn_id=1)
CALL = ToolCall("c1", "get_time", {})
DIALOGUE = [
    Message("system", "You are a toy."),
    Message("user", "hello"),
    Message("assistant", "Hi!"),
    Message("user", "the time?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "noon", tool_call_id="c1"),
]


@pytest.fixture
def vendor(_no_leaks: None) -> Iterator[BailianVendor]:
    with BailianVendor() as server:
        assert isinstance(server, BailianVendor)
        yield server


def alibl(vendor: BailianVendor, **more: Any) -> Any:
    block = BLOCK | {"base_url": f"{vendor.url}/compatible-mode/v1", "timeout": 2} | more
    return closing(AliBlLlm(validate("llm", "AliAppLLM", block)))  # type: ignore[arg-type]


def ask(llm: Any, context: CallContext = TURN) -> str:
    return "".join(llm.chat(DIALOGUE, [], context))


def test_a_block_of_the_existing_server_is_taken_as_it_is() -> None:
    validate("llm", "AliAppLLM", BLOCK)
    assert ignored("llm", "AliAppLLM", BLOCK) == []
    warned = ignored("llm", "AliAppLLM", BLOCK | {"streaming_chunk_size": 3})
    assert len(warned) == 1 and "streaming_chunk_size" in warned[0], "it has no meaning where answers are streamed"


@pytest.mark.parametrize("written", [False, "false", "False", "", None])
def test_no_memory_in_all_spellings(written: Any) -> None:
    options: Any = validate("llm", "AliAppLLM", BLOCK | {"ali_memory_id": written})
    assert options.ali_memory_id is None


@pytest.mark.parametrize(
    "key, sample",
    [("app_id", "你的app_id"), ("api_key", "你的api_key"), ("ali_memory_id", "你的memory_id"), ("ali_memory_id", True)],
)
def test_sample_text_is_refused(key: str, sample: Any) -> None:
    with pytest.raises(SettingsError) as refused:
        validate("llm", "AliAppLLM", BLOCK | {key: sample})
    assert [fault.key for fault in refused.value.faults] == [f"LLM.AliAppLLM.{key}"]


def test_the_whole_dialogue_is_told(vendor: BailianVendor) -> None:
    with alibl(vendor) as llm:
        assert ask(llm) == vendor.reply
        assert ask(llm) == vendor.reply
        assert vendor.connections == 1
    (given, _) = vendor.inputs
    assert [message["role"] for message in given["messages"]] == ["user", "assistant", "user"]
    assert given["messages"][-1]["content"] == "the time?\n(get_time: noon)"
    assert given["session_id"] == "s1" and "memory_id" not in given


def test_the_request_is_written_as_the_official_sdk_does(vendor: BailianVendor) -> None:
    """As dashscope 2.0.2 (`Application.call`) sent it to the same vendor, without its empty `model`."""
    with alibl(vendor, ali_memory_id="m") as llm:
        list(llm.chat([Message("user", "hello")], [], TURN))
    assert vendor.requests[0].json() == {
        "parameters": {"incremental_output": True},
        "input": {"messages": [{"role": "user", "content": "hello"}], "session_id": "s1", "memory_id": "m"},
    }


def test_the_prompt_is_told_where_it_is_wanted(vendor: BailianVendor) -> None:
    with alibl(vendor, is_no_prompt="false", ali_memory_id="mem0123") as llm:
        ask(llm)
    (given,) = vendor.inputs
    assert given["messages"][0] == {"role": "system", "content": "You are a toy."}
    assert given["memory_id"] == "mem0123"


def test_a_summary_has_its_instruction(vendor: BailianVendor) -> None:
    with alibl(vendor) as llm:
        ask(llm, CallContext(session_id="s1"))
    assert vendor.inputs[0]["messages"][0]["role"] == "system"


@pytest.mark.parametrize("end", ["", "/", "/api/v1", "/api/v1/", "/compatible-mode/v1"])
def test_any_address_of_the_host(vendor: BailianVendor, end: str) -> None:
    with alibl(vendor, base_url=f"{vendor.url}{end}") as llm:
        assert ask(llm) == vendor.reply


@pytest.mark.parametrize(
    "code, made",
    [
        ("InvalidParameter", VendorRejected),
        ("Arrearage", VendorRejected),
        ("DataInspectionFailed", VendorRejected),
        ("Throttling.RateQuota", VendorBusy),
        ("InternalError", VendorUnavailable),
    ],
)
def test_errors_in_an_answer_by_remedy(vendor: BailianVendor, code: str, made: type[VendorError]) -> None:
    vendor.fail = {"code": code, "message": "no", "request_id": "r"}
    with alibl(vendor) as llm, pytest.raises(made):
        ask(llm)


def test_an_answer_comes_in_pieces_and_can_be_left(vendor: BailianVendor) -> None:
    vendor.script(PATH, Script(stall="after"))
    with alibl(vendor) as llm:
        answer = llm.chat(DIALOGUE, [], TURN)
        assert vendor.reply.startswith(next(answer))
        answer.close()
        vendor.wait_gone()
