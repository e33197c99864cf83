"""FastGPT: its conversations have our name; details, variables, errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.fastgpt_vendor import CHAT, KEY, FastGptVendor
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import SettingsError, VendorError, VendorRejected, VendorUnavailable
from xiaozhi.providers.llm.fastgpt import FastGptLlm
from xiaozhi.providers.registry import ignored, validate

# As in the configuration of the existing server, with the key filled in.
BLOCK = {"type": "fastgpt", "base_url": "https://host/api/v1", "api_key": KEY, "variables": {"k": "v", "k2": "v2"}}
VOLUME = ToolSpec("set_volume", "Set the volume.", {"type": "object", "properties": {"volume": {"type": "integer"}}})
TURN = CallContext(device_id="d", session_id="s1", turn_id=1)


@pytest.fixture
def vendor(_no_leaks: None) -> Iterator[FastGptVendor]:
    with FastGptVendor() as server:
        assert isinstance(server, FastGptVendor)
        yield server


def fastgpt(vendor: FastGptVendor, **more: Any) -> Any:
    block = BLOCK | {"base_url": f"{vendor.url}/api/v1", "timeout": 2} | more
    return closing(FastGptLlm(validate("llm", "FastgptLLM", block)))  # type: ignore[arg-type]


def ask(llm: Any, text: str = "hello", context: CallContext = TURN, tools: Any = ()) -> list[Any]:
    return list(llm.chat([Message("user", text)], tools, context))


def test_a_block_of_the_existing_server_is_taken_as_it_is() -> None:
    validate("llm", "FastgptLLM", BLOCK)
    assert ignored("llm", "FastgptLLM", BLOCK) == []
    options: Any = validate("llm", "FastgptLLM", BLOCK | {"detail": "", "variables": ""})
    assert (options.detail, options.variables) == (False, {})


@pytest.mark.parametrize("key, sample", [("api_key", "你的fastgpt密钥"), ("base_url", ""), ("base_url", "host")])
def test_what_cannot_work_is_a_fault(key: str, sample: str) -> None:
    with pytest.raises(SettingsError) as refused:
        validate("llm", "FastgptLLM", BLOCK | {key: sample})
    assert [fault.key for fault in refused.value.faults] == [f"LLM.FastgptLLM.{key}"]


@pytest.mark.parametrize("detail", [False, True])
def test_each_session_has_its_conversation(vendor: FastGptVendor, detail: bool) -> None:
    with fastgpt(vendor, detail=detail) as llm:
        assert "".join(ask(llm)) == vendor.reply
        ask(llm, "again")
        ask(llm, "another", CallContext(session_id="s2", turn_id=1))
        ask(llm, "alone", CallContext(session_id="s1"))
        assert vendor.connections == 1
    assert vendor.chats == {"s1": ["hello", "again"], "s2": ["another"], "": ["alone"]}
    assert vendor.variables == BLOCK["variables"]


@pytest.mark.parametrize("detail", [False, True])
def test_a_tool_is_called(vendor: FastGptVendor, detail: bool) -> None:
    vendor.script(CHAT, Script(answer='<tool_call>{"name": "set_volume", "arguments": {"volume": 30}}</tool_call>'))
    with fastgpt(vendor, detail=detail) as llm:
        (call,) = [item for item in ask(llm, "louder", tools=[VOLUME]) if isinstance(item, ToolCall)]
        ask(llm, "thanks", tools=[VOLUME])
    assert (call.name, call.arguments) == ("set_volume", {"volume": 30})
    assert "Set the volume." in vendor.chats["s1"][0]
    assert vendor.chats["s1"][1] == "thanks"


def test_thoughts_are_not_spoken(vendor: FastGptVendor) -> None:
    vendor.script(CHAT, Script(answer="<think>He wants the time.</think>It is late."))
    with fastgpt(vendor) as llm:
        assert "".join(ask(llm)) == "It is late."


def test_a_closed_answer_frees_the_vendor(vendor: FastGptVendor) -> None:
    vendor.script(CHAT, Script(stall="after"))
    with fastgpt(vendor) as llm:
        answer = llm.chat([Message("user", "hello")], [], TURN)
        next(answer)
        answer.close()
        vendor.wait_gone()


@pytest.mark.parametrize(
    "refused, made",
    [
        ({"code": 403, "statusText": "unAuthApiKey", "message": "no", "data": None}, VendorRejected),
        ({"code": 510, "statusText": "insufficientQuota", "message": "no", "data": None}, VendorRejected),
        ({"code": 500, "statusText": "", "message": "node failed", "data": None}, VendorUnavailable),
    ],
)
def test_refusals_by_remedy(vendor: FastGptVendor, refused: dict[str, Any], made: type[VendorError]) -> None:
    vendor.refuse = refused
    with fastgpt(vendor) as llm, pytest.raises(made):
        ask(llm)


def test_an_error_in_the_answer(vendor: FastGptVendor) -> None:
    vendor.fail = {"code": 500, "message": "the model is gone"}
    with fastgpt(vendor) as llm, pytest.raises(VendorUnavailable, match="the model is gone"):
        ask(llm)
