"""Claude: what is sent, what becomes of its events, and what is learnt from its refusals.

The vendor in these tests was asked by Anthropic's own Python client (2.14.0) once, which understood every event; the
blocks that are sent passed the types of that client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.anthropic_vendor import CHAT, AnthropicVendor
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import SettingsError, VendorBusy, VendorRejected, VendorUnavailable
from xiaozhi.providers.families.anthropic import messages_endpoint
from xiaozhi.providers.families.learnt_limits import LearntLimits
from xiaozhi.providers.llm.anthropic import AnthropicLlm
from xiaozhi.providers.registry import validate
from xiaozhi.providers.vllm.anthropic import AnthropicVllm

WEATHER = ToolSpec(
    "get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)
TIME = ToolSpec("get_time", "The time.")
TALK = [
    Message("system", "Be kind."),
    Message("user", "weather?"),
    Message(
        "assistant",
        "Let me see.",
        (ToolCall("functions.get_weather:0", "get_weather", {"city": "P"}), ToolCall("c2", "get_time", {})),
    ),
    Message("tool", "sunny", tool_call_id="functions.get_weather:0"),
    Message("tool", "noon", tool_call_id="c2"),
    Message("assistant", "Sunny, and noon."),
    Message("user", "thanks"),
]
MARK = {"cache_control": {"type": "ephemeral"}}


@contextmanager
def claude(model: str = "claude-haiku-4-5", **more: Any) -> Iterator[tuple[AnthropicVendor, AnthropicLlm]]:
    always_thinks = more.pop("always_thinks", False)
    with AnthropicVendor("k-1", always_thinks=always_thinks) as vendor:
        timeout = {"connect": 1, "first_byte": 1, "gap": 1}
        block = {"base_url": vendor.url, "api_key": "k-1", "model_name": model, "timeout": timeout, **more}
        llm = AnthropicLlm(validate("llm", "C", {"type": "anthropic", **block}))  # type: ignore[arg-type]
        yield vendor, llm
        llm.close()
        assert vendor.refusals == []


def ask(llm: AnthropicLlm, talk: list[Message] = TALK, tools: tuple[ToolSpec, ...] = (WEATHER, TIME)) -> list[Any]:
    return list(llm.chat(talk, tools, CallContext()))


def test_what_is_sent() -> None:
    with claude() as (vendor, llm):
        ask(llm)
    (request,) = vendor.requests
    assert request.headers["authorization"] == "Bearer k-1"
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert request.json() == {
        "model": "claude-haiku-4-5",
        "stream": True,
        "max_tokens": 2048,
        "system": [{"type": "text", "text": "Be kind.", **MARK}],
        "tools": [
            {"name": "get_weather", "description": "The weather.", "input_schema": dict(WEATHER.parameters)},
            {"name": "get_time", "description": "The time.", "input_schema": dict(TIME.parameters), **MARK},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {
                        "type": "tool_use",
                        "id": "functions_get_weather_0",
                        "name": "get_weather",
                        "input": {"city": "P"},
                    },
                    {"type": "tool_use", "id": "c2", "name": "get_time", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "functions_get_weather_0", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "noon"},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "Sunny, and noon."}]},
            {"role": "user", "content": [{"type": "text", "text": "thanks", **MARK}]},
        ],
    }


def test_nothing_that_is_sent_changes_what_is_kept() -> None:
    with claude() as (vendor, llm):
        for _ in range(3):
            ask(llm)
    assert [request.json() for request in vendor.requests] == [vendor.requests[0].json()] * 3
    assert vendor.connections == 1


def test_text_thoughts_and_calls() -> None:
    with claude() as (vendor, llm):
        vendor.script(
            CHAT,
            Script(
                answer=[
                    ("thinking", "They want the weather."),
                    "Let me see.",
                    ("tool", "toolu_1", "get_weather", ['{"ci', 'ty": "Par', 'is"}']),
                    ("tool", "toolu_2", "get_time", []),
                ]
            ),
        )
        answer = ask(llm)
    assert "".join(piece for piece in answer if isinstance(piece, str)) == "Let me see."
    assert [piece for piece in answer if isinstance(piece, ToolCall)] == [
        ToolCall("toolu_1", "get_weather", {"city": "Paris"}),
        ToolCall("toolu_2", "get_time", {}),
    ]


def test_without_tools_on_offer_results_are_told() -> None:
    with claude() as (vendor, llm):
        ask(llm, tools=())
        assert llm.limitations == LearntLimits(results_without_tools=False).names
    said = [block["text"] for message in vendor.requests[0].json()["messages"] for block in message["content"]]
    assert said == ["weather?\n(get_weather: sunny)\n(get_time: noon)", "Sunny, and noon.", "thanks"]


def test_a_temperature_asks_by_the_version_that_knows_one() -> None:
    with claude(temperature=0.5) as (vendor, llm):
        ask(llm)
    assert vendor.requests[0].headers["anthropic-version"] == "2023-06-01"
    assert vendor.requests[0].json()["temperature"] == 0.5


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-3-5-haiku-latest", None),
        ("claude-sonnet-4-20250514", None),
        ("claude-opus-4-8", None),
        ("claude-opus-5", {"type": "disabled"}),
        ("claude-haiku-5-5", {"type": "disabled"}),
    ],
)
def test_thinking_is_switched_off_where_a_model_does_it_unasked(model: str, sent: Any) -> None:
    with claude(model) as (vendor, llm):
        ask(llm)
    assert vendor.requests[0].json().get("thinking") == sent


def test_a_model_that_always_thinks_thinks_little() -> None:
    with claude("claude-fable-5", always_thinks=True) as (vendor, llm):
        ask(llm)
        ask(llm)
        assert "thinking" in llm.limitations
    assert [request.json().get("output_config") for request in vendor.requests] == [
        None,
        {"effort": "low"},
        {"effort": "low"},
    ]


@pytest.mark.parametrize("block", [{"thinking": True}, {"extra_body": {"output_config": {"effort": "high"}}}])
def test_whoever_wants_thinking_has_it(block: dict[str, Any]) -> None:
    with claude("claude-opus-5-5", **block) as (vendor, llm):
        ask(llm)
    assert "thinking" not in vendor.requests[0].json()


@pytest.mark.parametrize(
    ("status", "kind"), [(529, VendorBusy), (429, VendorBusy), (500, VendorUnavailable), (400, VendorRejected)]
)
def test_errors_before_the_answer(status: int, kind: type[Exception]) -> None:
    with claude() as (vendor, llm):
        vendor.script(CHAT, Script(status=status, error="Your credit balance is too low"))
        with pytest.raises(kind):
            ask(llm)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("overloaded_error", VendorBusy),
        ("api_error", VendorUnavailable),
        ("billing_error", VendorRejected),
        ("rate_limit_error", VendorBusy),
    ],
)
def test_errors_within_the_answer(error: str, kind: type[Exception]) -> None:
    event = b'event: error\ndata: {"type":"error","error":{"type":"%s","message":"Sorry"}}\n\n' % error.encode()
    with claude() as (vendor, llm):
        vendor.script(CHAT, Script(answer=["Let me", event]))
        with pytest.raises(kind):
            ask(llm)


def test_an_answer_without_its_last_event_broke_off() -> None:
    with claude() as (vendor, llm):
        vendor.script(CHAT, Script(answer=["It is"]))
        vendor.events = lambda blocks: list(AnthropicVendor.events(vendor, blocks))[:-2]  # type: ignore[method-assign]
        with pytest.raises(VendorUnavailable):
            ask(llm)


def test_a_refusal_of_the_model_is_no_answer() -> None:
    stop = b'data: {"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null}}\n\n'
    with claude() as (vendor, llm):
        vendor.script(CHAT, Script(answer=["I can", stop]))
        with pytest.raises(VendorRejected, match="content filter"):
            ask(llm)


def test_pictures() -> None:
    with AnthropicVendor("k") as vendor:
        block = {"base_url": vendor.url, "api_key": "k", "model_name": "claude-haiku-4-5"}
        vllm = AnthropicVllm(validate("vllm", "C", {"type": "anthropic", **block}))  # type: ignore[arg-type]
        vendor.script(CHAT, Script(answer="A grey pixel."))
        assert vllm.describe("What is it?", b"\xff\xd8", "image/jpeg", CallContext()) == "A grey pixel."
        vllm.close()
        assert vendor.refusals == []
    assert vendor.requests[0].json()["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9g="}, **MARK},
            ],
        }
    ]


def test_addresses() -> None:
    for written in (
        "https://api.anthropic.com",
        "https://api.anthropic.com/v1",
        "https://api.anthropic.com/v1/messages",
    ):
        assert messages_endpoint(written) == "https://api.anthropic.com/v1/messages"
    assert messages_endpoint("https://api.moonshot.cn/anthropic") == "https://api.moonshot.cn/anthropic/v1/messages"


def test_a_block_needs_a_key_and_a_model() -> None:
    with pytest.raises(SettingsError) as caught:
        validate("llm", "C", {"type": "anthropic", "api_key": "", "temperature": 1.5})
    assert {fault.key for fault in caught.value.faults} == {"LLM.C.api_key", "LLM.C.model_name", "LLM.C.temperature"}
