"""Home Assistant: what it is asked, and what of its answer is spoken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.hass_agent import PATH, TOKEN, HassAgent
from xiaozhi.chat import CallContext, Message
from xiaozhi.errors import SettingsError, VendorGarbage, VendorRejected
from xiaozhi.providers.llm.homeassistant import HassAgentLlm
from xiaozhi.providers.registry import ignored, validate

# As in the configuration of the existing server, with the key filled in.
BLOCK = {
    "type": "homeassistant",
    "base_url": "http://homeassistant.local:8123",
    "agent_id": "conversation.chatgpt",
    "api_key": TOKEN,
}
TURN = CallContext(device_id="d", session_id="s1", turn_id=1)


@pytest.fixture
def vendor(_no_leaks: None) -> Iterator[HassAgent]:
    with HassAgent() as server:
        assert isinstance(server, HassAgent)
        yield server


def hass(vendor: HassAgent, **more: Any) -> Any:
    block = BLOCK | {"base_url": f"{vendor.url}/", "timeout": 2} | more
    return closing(HassAgentLlm(validate("llm", "HomeAssistant", block)))  # type: ignore[arg-type]


def ask(llm: Any, context: CallContext = TURN) -> list[Any]:
    return list(llm.chat([Message("system", "You are a toy."), Message("user", "light on")], [], context))


def test_a_block_of_the_existing_server_is_taken_as_it_is() -> None:
    validate("llm", "HomeAssistant", BLOCK)
    assert ignored("llm", "HomeAssistant", BLOCK) == []
    other = {"type": "homeassistant", "url": "http://ha:8123", "api_key": TOKEN, "agent_id": ""}
    assert validate("llm", "H", other).base_url == "http://ha:8123"  # type: ignore[attr-defined]


@pytest.mark.parametrize("key, sample", [("api_key", "你的home assistant api访问令牌"), ("base_url", "")])
def test_what_cannot_work_is_a_fault(key: str, sample: str) -> None:
    with pytest.raises(SettingsError) as refused:
        validate("llm", "HomeAssistant", BLOCK | {key: sample})
    assert [fault.key for fault in refused.value.faults] == [f"LLM.HomeAssistant.{key}"]


def test_what_was_said_goes_there_as_it_is(vendor: HassAgent) -> None:
    with hass(vendor, language="en") as llm:
        assert ask(llm) == ["Turned on the light."]
    expected = {"text": "light on", "agent_id": "conversation.chatgpt", "language": "en", "conversation_id": "s1"}
    assert vendor.asked == [expected]


def test_the_agent_and_language_that_home_assistant_prefers(vendor: HassAgent) -> None:
    with hass(vendor, agent_id="") as llm:
        ask(llm, CallContext(session_id="s1"))
    assert vendor.asked == [{"text": "light on"}]


def test_the_conversation_that_it_names_goes_on(vendor: HassAgent) -> None:
    with hass(vendor) as llm:
        vendor.next_conversation = "01HXYZ"
        ask(llm)
        ask(llm)
        ask(llm, CallContext(session_id="s2", turn_id=1))
    assert [body["conversation_id"] for body in vendor.asked] == ["s1", "01HXYZ", "s2"]


@pytest.mark.parametrize(
    "response, spoken",
    [
        (
            {"response_type": "error", "speech": {"plain": {"speech": "Sorry, I do not know."}}},
            ["Sorry, I do not know."],
        ),
        ({"response_type": "action_done", "speech": {}}, ["OK."]),
        ({"response_type": "action_done", "speech": {"plain": {"speech": " "}}}, ["OK."]),
        ({"response_type": "query_answer", "speech": {"plain": {"speech": "21 degrees"}}}, ["21 degrees"]),
        ({"response_type": "error"}, []),
    ],
)
def test_what_is_spoken(vendor: HassAgent, response: Any, spoken: list[str]) -> None:
    vendor.script(PATH, Script(answer=response))
    with hass(vendor) as llm:
        assert ask(llm) == spoken


def test_an_answer_of_another_shape_is_garbage(vendor: HassAgent) -> None:
    vendor.script(PATH, Script(answer="nonsense"))
    with hass(vendor) as llm, pytest.raises(VendorGarbage):
        ask(llm)


def test_a_wrong_token_is_a_rejection(vendor: HassAgent) -> None:
    with hass(vendor, api_key="eyJ.another-one") as llm, pytest.raises(VendorRejected) as refused:
        ask(llm)
    assert "another-one" not in str(refused.value)
