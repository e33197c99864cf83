"""Chat completions: what is sent, how fragments become text and tool calls, and the oddities of compatible servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.families.openai import endpoint, error_in_answer
from xiaozhi.providers.families.thinking_switches import thinking_switches
from xiaozhi.providers.llm.openai import OpenAiLlm
from xiaozhi.providers.registry import validate

SOUNDS = Sounds()
HELLO = [Message("user", "hello")]
TOOL = ToolSpec("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.fixture
def vendor() -> Iterator[OpenAiVendor]:
    with OpenAiVendor(sounds=SOUNDS) as running:
        yield running


@pytest.fixture
def llm(vendor: OpenAiVendor) -> Iterator[OpenAiLlm]:
    made = llm_for(vendor)
    yield made
    made.close()


def llm_for(vendor: OpenAiVendor, **block: Any) -> OpenAiLlm:
    base = {"type": "openai", "url": vendor.base_url, "model_name": "m", "timeout": {"first_byte": 1, "gap": 0.5}}
    return OpenAiLlm(validate("llm", "L", base | block))  # type: ignore[arg-type]


def ask(llm: OpenAiLlm, tools: list[ToolSpec] | None = None) -> list[str | ToolCall]:
    return list(llm.chat(HELLO, tools or [], CallContext()))


def said(llm: OpenAiLlm, tools: list[ToolSpec] | None = None) -> str:
    return "".join(piece for piece in ask(llm, tools) if isinstance(piece, str))


def sse(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def test_what_is_sent(vendor: OpenAiVendor) -> None:
    llm = llm_for(
        vendor,
        api_key="k-123",
        temperature="0.7",
        max_tokens=500,
        top_p=1,
        frequency_penalty="",
        extra_body={"seed": 7},
    )
    messages = [
        Message("system", "Be kind."),
        Message("user", "weather?"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "get_weather", {"city": "北京"}),)),
        Message("tool", "sunny", tool_call_id="c1"),
        Message("user", "thanks"),
    ]
    list(llm.chat(messages, [TOOL], CallContext()))
    request = vendor.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k-123"
    body = request.json()
    sent = body.pop("messages")
    assert body == {
        "model": "m",
        "stream": True,
        "temperature": 0.7,
        "max_tokens": 500,
        "top_p": 1.0,
        "seed": 7,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "The weather.",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                },
            }
        ],
    }
    assert sent[0] == {"role": "system", "content": "Be kind."}
    assert sent[2]["tool_calls"][0] == {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"北京"}'},
    }
    assert sent[3] == {"role": "tool", "content": "sunny", "tool_call_id": "c1"}
    assert vendor.refusals == []
    llm.close()


def test_no_key_no_header_and_no_tools_no_key(vendor: OpenAiVendor, llm: OpenAiLlm) -> None:
    ask(llm)
    assert "authorization" not in vendor.requests[0].headers
    assert "tools" not in vendor.requests[0].json()


def test_pieces_come_as_they_are_and_connections_are_kept(vendor: OpenAiVendor, llm: OpenAiLlm) -> None:
    vendor.stand(CHAT, Script(answer=["Hel", "lo ", "你", "好！"]))
    for _ in range(5):
        assert ask(llm) == ["Hel", "lo ", "你", "好！"]
    assert vendor.connections == 1


def call(index: int | None, identity: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    fragment: dict[str, Any] = {
        "function": {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    }
    if index is not None:
        fragment["index"] = index
    if identity is not None:
        fragment["id"] = identity
    return {"tool_calls": [fragment]}


TOOL_STREAMS: dict[str, tuple[list[Any], list[tuple[str, Mapping[str, Any]]]]] = {
    "one, in fragments": (
        [call(0, "a", "f", ""), call(0, None, None, '{"x"'), call(0, None, None, ": 1}")],
        [("f", {"x": 1})],
    ),
    "two, interleaved": (
        [
            call(0, "a", "f", ""),
            call(1, "b", "g", '{"y": '),
            call(0, None, None, '{"x": 1}'),
            call(1, None, None, "2}"),
        ],
        [("f", {"x": 1}), ("g", {"y": 2})],
    ),
    "no index": (
        [call(None, "a", "f", '{"x": '), call(None, None, None, "1}"), call(None, "b", "g", "{}")],
        [("f", {"x": 1}), ("g", {})],
    ),
    "no index, no id": (
        [call(None, None, "f", '{"x": '), call(None, None, None, "1}"), call(None, None, "g", "")],
        [("f", {"x": 1}), ("g", {})],
    ),
    "every call is number 0": (
        [call(0, "a", "f", '{"x": '), call(0, "a", None, "1}"), call(0, "b", "g", '{"y": '), call(0, "b", None, "2}")],
        [("f", {"x": 1}), ("g", {"y": 2})],
    ),
    "name repeated": ([call(0, "a", "f", "{"), call(0, "a", "f", "}")], [("f", {})]),
    "arguments as an object": ([call(0, "a", "f", {"x": 1})], [("f", {"x": 1})]),
    "null arguments": ([call(0, "a", "f", "null")], [("f", {})]),
    "text before": (["Let me see. ", call(0, "a", "f", "{}")], [("f", {})]),
}


@pytest.mark.parametrize("name", TOOL_STREAMS)
def test_tool_calls_are_put_together(vendor: OpenAiVendor, llm: OpenAiLlm, name: str) -> None:
    deltas, expected = TOOL_STREAMS[name]
    vendor.script(CHAT, Script(answer=deltas))
    calls = [piece for piece in ask(llm, [TOOL]) if isinstance(piece, ToolCall)]
    assert [(found.name, found.arguments) for found in calls] == expected
    assert len({found.id for found in calls}) == len(calls)
    assert all(found.id for found in calls)


def test_a_call_cut_off_by_the_length_limit_is_not_completed(vendor: OpenAiVendor, llm: OpenAiLlm) -> None:
    vendor.script(CHAT, Script(answer=[call(0, "a", "f", '{"volume": 1'), {"finish_reason": "length"}]))
    (found,) = ask(llm, [TOOL])
    assert isinstance(found, ToolCall)
    assert found.arguments == {} and "cut off" in found.fault
    vendor.script(CHAT, Script(answer=["only text is ", "still fine", {"finish_reason": "length"}]))
    assert ask(llm) == ["only text is ", "still fine"]


def test_thinking_is_not_spoken(vendor: OpenAiVendor, llm: OpenAiLlm) -> None:
    vendor.script(CHAT, Script(answer=[{"reasoning_content": "hmm"}, "<thi", "nk>secret", "</thin", "k>\n\n", "Hello"]))
    assert "".join(map(str, ask(llm))) == "Hello"


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([sse('{"choices": []}'), "hi"], "hi"),
        ([sse('{"choices": [{"delta": null}]}'), "hi"], "hi"),
        ([sse('{"choices": [{"delta": {"content": null}}]}'), "hi"], "hi"),
        (
            [sse('{"choices": [{"delta": {"content": [{"type": "text", "text": "par"}, {"type": "image"}]}}]}'), "ts"],
            "parts",
        ),
        ([b": keep-alive\n\n", b"event: message\n", "hi"], "hi"),
        ([sse('{"choices": [{"delta": {"content": "hi"}, "finish_reason": ""}]}')], "hi"),
        (
            [
                (
                    b'data:{"choices":[{"delta":{"content":"no blank "}}]}\n'
                    b'data:{"choices":[{"delta":{"content":"lines"}}]}\n'
                )
            ],
            "no blank lines",
        ),
    ],
)
def test_oddities_of_compatible_servers(vendor: OpenAiVendor, llm: OpenAiLlm, deltas: list[Any], expected: str) -> None:
    vendor.script(CHAT, Script(answer=deltas))
    assert "".join(map(str, ask(llm))) == expected


def test_a_server_that_ignores_stream(vendor: OpenAiVendor) -> None:
    llm = llm_for(vendor, extra_body={"stream": False})
    vendor.script(CHAT, Script(answer="all <think>hm</think>at once"))
    assert ask(llm) == ["all at once"]
    llm.close()


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (sse('{"error": {"message": "slow down", "type": "rate_limit_error"}}'), VendorBusy),
        (sse('{"error": {"message": "bad", "code": 400}}'), VendorRejected),
        (sse('{"error": {"message": "down", "type": "server_error"}}'), VendorUnavailable),
        (sse('{"error": "just text"}'), VendorUnavailable),
        (sse('{"choices": [{"delta": {}, "finish_reason": "content_filter"}]}'), VendorRejected),
    ],
)
def test_errors_in_mid_stream(vendor: OpenAiVendor, llm: OpenAiLlm, event: bytes, expected: type[VendorError]) -> None:
    vendor.script(CHAT, Script(answer=["Hello ", event, "never heard"]))
    got = []
    with pytest.raises(expected):
        for piece in llm.chat(HELLO, [], CallContext()):
            got.append(piece)
    assert got == ["Hello "]
    assert ask(llm)


@pytest.mark.parametrize(
    "event",
    [
        sse("not json"),
        sse('{"choices": [{"delta": {"content": "half'),
        sse("[1]"),
        sse("{}"),
        sse('{"choices": [17]}'),
        sse('{"choices": {}}'),
        sse('{"choices": [{"delta": {"tool_calls": [17]}}]}'),
        sse('{"choices": [{"delta": {"tool_calls": "x"}}]}'),
        sse('{"choices": [{"delta": {"content": {"odd": 1}}}]}'),
        sse('{"choices": [{"delta": {"content": false}}]}'),
        sse('{"choices": [{"delta": [1]}]}'),
        sse('{"choices": [{"delta": {}, "finish_reason": ["stop"]}]}'),
        sse('{"choices": [{"delta": {}, "finish_reason": "because"}]}'),
        sse('{"choices": [], "usage": {"total_tokens": "many"}}'),
        sse('{"error": null, "code": 0, "message": "success"}'),
        sse('{"type": "ping"}'),
        sse(""),
        b"data:\n\n",
        b"event: ping\n\n",
        b": comment\n\n",
        b"garbage without a field\n\n",
        b"\n\n\n",
    ],
)
def test_one_odd_event_costs_that_event(vendor: OpenAiVendor, llm: OpenAiLlm, event: bytes) -> None:
    for script in (["Hello ", event, "there."], [event, "Hello there."], ["Hello there.", event]):
        vendor.script(CHAT, Script(answer=script))
        assert said(llm) == "Hello there."


@pytest.mark.parametrize("garbage", ["html", "binary", "json", "empty", "sse"])
def test_what_is_no_completion_is_garbage(vendor: OpenAiVendor, llm: OpenAiLlm, garbage: str) -> None:
    vendor.script(CHAT, Script(garbage=garbage))
    with pytest.raises(VendorGarbage):
        ask(llm)


def test_the_end_of_the_body_is_an_end(llm: OpenAiLlm, vendor: OpenAiVendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "events", lambda content: iter([sse('{"choices": [{"delta": {"content": "all"}}]}')]))
    assert said(llm) == "all"


def test_done_alone_and_a_finish_reason_alone_end_the_answer(
    llm: OpenAiLlm, vendor: OpenAiVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = sse('{"choices": [{"delta": {"content": "all"}}]}')
    for end in (sse("[DONE]"), sse('{"choices": [{"delta": {}, "finish_reason": "stop"}]}')):
        monkeypatch.setattr(vendor, "events", lambda content, end=end: iter([text, end]))
        assert ask(llm) == ["all"]


def test_a_vendor_that_leaves_the_body_open_costs_no_time(
    llm: OpenAiLlm, vendor: OpenAiVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [
        sse('{"choices": [{"delta": {"content": "all"}}]}'),
        sse('{"choices": [{"delta": {}, "finish_reason": "stop"}]}'),
        b": never\n\n",
    ]
    monkeypatch.setattr(vendor, "events", lambda content: iter(pieces))
    vendor.script(CHAT, Script(stall="after"))
    assert ask(llm) == ["all"]
    assert vendor.wait_gone()


@pytest.mark.parametrize(
    ("url", "switch"),
    [
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", {"enable_thinking": False}),
        ("https://api.deepseek.com", {"thinking": {"type": "disabled"}}),
        ("https://deepseek.com.evil.example", {}),
        ("http://localhost:1234/v1", {}),
    ],
)
def test_thinking_is_switched_off_where_the_switch_is_known(url: str, switch: dict[str, Any]) -> None:
    options: Any = validate("llm", "L", {"type": "openai", "base_url": url, "model": "m"})
    assert options.chosen(thinking_switches(url, "m"))[:1] == ((switch,) if switch else ())


def test_blocks_of_existing_files() -> None:
    options: Any = validate(
        "llm",
        "AliLLM",
        {
            "type": "openai",
            "base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1/",
            "model_name": "qwen-flash",
            "api_key": "sk-1",
            "temperature": 0.7,
            "max_tokens": "",
            "top_p": None,
            "frequency_penalty": 0,
            "timeout": {"pool": 2, "connect": 3, "write": 5, "read": 60},
        },
    )
    assert options.base_url == "https://dashscope.aliyuncs.com/compatible-mode/v1"
    assert (options.max_tokens, options.timeout.first_byte, options.timeout.gap) == (None, 60, 60)
    assert validate("llm", "L", {"type": "openai", "url": "http://h", "model": "m", "timeout": 30}).timeout.total == 30  # type: ignore[attr-defined]


def test_faults_of_a_block_come_together_and_hide_the_key() -> None:
    with pytest.raises(SettingsError) as caught:
        validate(
            "llm",
            "L",
            {
                "type": "openai",
                "base_url": "api.openai.com",
                "api_key": "你的deepseek web key",
                "temperature": 9,
                "timeout": "soon",
            },
        )
    faults = {fault.key: fault for fault in caught.value.faults}
    assert {"LLM.L.base_url", "LLM.L.api_key", "LLM.L.temperature", "LLM.L.model_name"} <= set(faults)
    assert "deepseek" not in faults["LLM.L.api_key"].value


def test_endpoints() -> None:
    assert endpoint("http://h/v1", "audio/speech") == "http://h/v1/audio/speech"
    assert endpoint("http://h/v1/", "audio/speech") == "http://h/v1/audio/speech"
    assert endpoint("http://h/v1/audio/speech", "audio/speech") == "http://h/v1/audio/speech"
    assert endpoint("http://h/openai?api-version=1", "audio/speech") == "http://h/openai/audio/speech?api-version=1"


def test_error_objects_by_their_words() -> None:
    for error, expected in (
        ({"code": 429}, VendorBusy),
        ({"type": "overloaded_error"}, VendorBusy),
        ({"code": 504, "message": "upstream"}, VendorTimeout),
        ({"type": "invalid_request_error", "message": "x"}, VendorRejected),
        ({"code": "insufficient_quota"}, VendorRejected),
        ({"message": "?"}, VendorUnavailable),
        ("text", VendorUnavailable),
        ({"code": "data_inspection_failed", "message": "Output data may contain ..."}, VendorRejected),  # Qwen
        ({"code": "OutputTextSensitiveContentDetected"}, VendorRejected),  # Doubao
        ({"code": 402, "message": "Insufficient credits"}, VendorRejected),  # OpenRouter
        ({"code": 502, "message": "Provider returned error"}, VendorUnavailable),
        ({"type": "invalid_request_error", "code": "tool_use_failed"}, VendorUnavailable),  # Groq
        ({"type": "engine_overloaded_error"}, VendorBusy),  # Kimi
    ):
        assert type(error_in_answer("v", error)) is expected


@pytest.mark.parametrize(
    ("vendor", "code", "expected"),
    [
        ("spark-api-open.xf-yun.com", 11202, VendorBusy),
        ("spark-api-open.xf-yun.com", 10013, VendorRejected),
        ("spark-api-open.xf-yun.com", "11200", VendorRejected),
        ("open.bigmodel.cn", "1302", VendorBusy),
        ("open.bigmodel.cn", "1301", VendorRejected),
        ("open.bigmodel.cn", "1234", VendorUnavailable),
        ("elsewhere.example", "1302", VendorUnavailable),
    ],
)
def test_errors_that_are_numbers(vendor: str, code: Any, expected: type[VendorError]) -> None:
    assert type(error_in_answer(vendor, {"code": code, "message": "?"})) is expected
