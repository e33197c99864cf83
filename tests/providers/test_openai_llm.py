"""Chat completions: what is sent, how fragments become text and tool calls, and the oddities of compatible servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from xiaozhi.providers.families.openai_deltas import BadToolCall, ThinkFilter, ToolCalls, parse_arguments
from xiaozhi.providers.llm.openai import OpenAiLlm, fixed_body
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
    with pytest.raises(VendorGarbage):
        ask(llm, [TOOL])
    vendor.script(CHAT, Script(answer=["only text is ", "still fine", {"finish_reason": "length"}]))
    assert ask(llm) == ["only text is ", "still fine"]


def test_thinking_is_not_spoken(vendor: OpenAiVendor, llm: OpenAiLlm) -> None:
    vendor.script(CHAT, Script(answer=[{"reasoning_content": "hmm"}, "<thi", "nk>secret", "</thin", "k>\n\n", "Hello"]))
    assert "".join(map(str, ask(llm))) == "Hello"


def sse(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


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
        (sse("not json"), VendorGarbage),
        (sse("[1]"), VendorGarbage),
        (sse('{"choices": [17]}'), VendorGarbage),
        (sse('{"choices": [{"delta": {"tool_calls": [17]}}]}'), VendorGarbage),
        (sse('{"choices": [{"delta": {"content": 17}}]}'), VendorError),
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


@pytest.mark.parametrize("garbage", ["html", "binary", "json", "empty", "sse"])
def test_what_is_no_completion_is_garbage(vendor: OpenAiVendor, llm: OpenAiLlm, garbage: str) -> None:
    vendor.script(CHAT, Script(garbage=garbage))
    with pytest.raises(VendorGarbage):
        ask(llm)


def test_a_stream_that_ends_without_an_end_mark(
    llm: OpenAiLlm, vendor: OpenAiVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "events", lambda content: iter([sse('{"choices": [{"delta": {"content": "half"}}]}')]))
    with pytest.raises(VendorUnavailable, match="end mark"):
        ask(llm)


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
    block = {"type": "openai", "base_url": url, "model": "m"}
    assert fixed_body(validate("llm", "L", block)) == {"model": "m", "stream": True, **switch}  # type: ignore[arg-type]
    assert fixed_body(validate("llm", "L", block | {"thinking": True})) == {"model": "m", "stream": True}  # type: ignore[arg-type]


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
    ):
        assert type(error_in_answer("v", error)) is expected


# --- pieces, pure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("plain", "plain"),
        ("<think>a</think>b", "b"),
        ("a <think>b</think> c", "a c"),
        ("<think>never closed", ""),
        ("1 < 2 and <b>bold</b>", "1 < 2 and <b>bold</b>"),
        ("<think>a</think>\n\n<think>b</think>\n\n c", "c"),
        ("ends with <thi", "ends with <thi"),
        ("<think></think>", ""),
    ],
)
def test_think_filter_is_the_same_however_the_stream_is_cut(text: str, spoken: str) -> None:
    for size in (1, 2, 3, 5, 8, 100):
        think = ThinkFilter()
        said = "".join(think.feed(text[start : start + size]) for start in range(0, len(text), size)) + think.flush()
        assert said == spoken


@given(st.text("<think/>ab ", max_size=40), st.lists(st.integers(1, 6), max_size=40))
def test_think_filter_does_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    whole = ThinkFilter()
    expected = whole.feed(text) + whole.flush()
    think = ThinkFilter()
    said, at = "", 0
    for cut in cuts:
        said += think.feed(text[at : at + cut])
        at += cut
    assert said + think.feed(text[at:]) + think.flush() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ("null", {}),
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('{"a": 1} and so on', {"a": 1}),
        ('Sure: {"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": {"b": [1, 2]', {"a": {"b": [1, 2]}}),
        ("{'a': 'x', 'b': True}", {"a": "x", "b": True}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
    ],
)
def test_arguments_as_models_write_them(text: str, expected: dict[str, Any]) -> None:
    assert parse_arguments(text) == expected


@pytest.mark.parametrize("text", ['{"a": "half a str', "[1, 2]", "17", '"text"', "{a: b}", "no json", "{" * 5000])
def test_arguments_that_cannot_be_guessed(text: str) -> None:
    with pytest.raises(BadToolCall):
        parse_arguments(text)


def test_a_cut_off_call_must_be_whole() -> None:
    assert parse_arguments('{"a": 1}', cut_off=True) == {"a": 1}
    with pytest.raises(BadToolCall):
        parse_arguments('{"a": 1', cut_off=True)


@given(st.text(max_size=60))
def test_arguments_never_fail_in_another_way(text: str) -> None:
    try:
        assert isinstance(parse_arguments(text), dict)
    except BadToolCall:
        pass


@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=10), st.booleans()), max_size=5
    ),
    st.integers(1, 9),
)
def test_fragments_add_up(arguments: dict[str, Any], size: int) -> None:
    calls = ToolCalls()
    text = orjson.dumps(arguments).decode()
    calls.add([{"index": 0, "id": "a", "function": {"name": "f"}}])
    for start in range(0, len(text), size):
        calls.add([{"index": 0, "function": {"arguments": text[start : start + size]}}])
    assert calls.whole() == [ToolCall("a", "f", arguments)]


def test_endless_tool_calls_are_refused() -> None:
    calls = ToolCalls()
    with pytest.raises(BadToolCall):
        for number in range(1000):
            calls.add([{"index": number, "function": {"name": "f"}}])
    calls = ToolCalls()
    with pytest.raises(BadToolCall):
        for _ in range(1000):
            calls.add([{"index": 0, "function": {"name": "f", "arguments": "x" * 1000}}])
