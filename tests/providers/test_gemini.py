"""Gemini: what is sent, what becomes of its chunks, signatures on calls, and what is learnt from its refusals.

The vendor in these tests was asked by Google's own Python client (google-genai 3.6.1) once, which understood every
chunk; `GOOGLES_OWN` is what that client sent for the same dialogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.vendors.gemini_vendor import CHAT, GeminiVendor
from xiaozhi.chat import CallContext, Message, Seal, ToolCall, ToolSpec
from xiaozhi.errors import SettingsError, VendorBusy, VendorRejected, VendorUnavailable
from xiaozhi.providers.families.gemini import NO_SIGNATURE, stream_endpoint
from xiaozhi.providers.llm.gemini import GeminiLlm
from xiaozhi.providers.llm.openai import OpenAiLlm
from xiaozhi.providers.registry import validate
from xiaozhi.providers.vllm.gemini import GeminiVllm

WEATHER = ToolSpec(
    "get_weather",
    "d",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "c"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
TIME = ToolSpec("get_time", "t")
SIGNED: Final = Seal("127.0.0.1", b'{"google":{"thought_signature":"dGhvdWdodA=="}}')
TALK = [
    Message("system", "Be kind."),
    Message("user", "weather?"),
    Message(
        "assistant",
        "Let me see.",
        (ToolCall("fc_1", "get_weather", {"city": "Paris"}, seal=SIGNED), ToolCall("fc_3", "get_time", {})),
    ),
    Message("tool", "sunny", tool_call_id="fc_1"),
    Message("tool", "sunny", tool_call_id="fc_3"),
]
GOOGLES_OWN: Final[dict[str, Any]] = {
    "contents": [
        {"parts": [{"text": "weather?"}], "role": "user"},
        {
            "parts": [
                {"text": "Let me see."},
                {
                    "functionCall": {"id": "fc_1", "args": {"city": "Paris"}, "name": "get_weather"},
                    "thoughtSignature": "dGhvdWdodA==",
                },
                {"functionCall": {"id": "fc_3", "args": {}, "name": "get_time"}},
            ],
            "role": "model",
        },
        {
            "parts": [
                {"functionResponse": {"id": "fc_1", "name": "get_weather", "response": {"output": "sunny"}}},
                {"functionResponse": {"id": "fc_3", "name": "get_time", "response": {"output": "sunny"}}},
            ],
            "role": "user",
        },
    ],
    "systemInstruction": {"parts": [{"text": "Be kind."}], "role": "user"},
    "tools": [
        {
            "functionDeclarations": [
                {
                    "description": "d",
                    "name": "get_weather",
                    "parameters": {
                        "properties": {"city": {"description": "c", "type": "STRING"}, "days": {"type": "INTEGER"}},
                        "required": ["city"],
                        "type": "OBJECT",
                    },
                },
                {"description": "t", "name": "get_time"},
            ]
        }
    ],
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40.0,
        "maxOutputTokens": 2048,
        "thinkingConfig": {"thinking_level": "MINIMAL"},
    },
}


@contextmanager
def gemini(model: str = "gemini-3-flash", **more: Any) -> Iterator[tuple[GeminiVendor, GeminiLlm]]:
    with GeminiVendor("k-1") as vendor:
        vendor.signed.add("dGhvdWdodA==")
        timeout = {"connect": 1, "first_byte": 1, "gap": 1}
        block = {"base_url": vendor.base_url, "api_key": "k-1", "model_name": model, "timeout": timeout, **more}
        llm = GeminiLlm(validate("llm", "G", {"type": "gemini", **block}))  # type: ignore[arg-type]
        yield vendor, llm
        llm.close()
        assert vendor.refusals == []


def ask(llm: GeminiLlm, talk: list[Message] = TALK, tools: tuple[ToolSpec, ...] = (WEATHER, TIME)) -> list[Any]:
    return list(llm.chat(talk, tools, CallContext()))


def test_what_is_sent_is_what_googles_own_client_sends() -> None:
    with gemini(temperature=0.5, top_p=0.9, top_k=40) as (vendor, llm):
        ask(llm)
    (request,) = vendor.requests
    assert request.path == "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse"
    assert request.headers["x-goog-api-key"] == "k-1"
    expected = {**GOOGLES_OWN, "systemInstruction": {"parts": [{"text": "Be kind."}]}}
    expected["generationConfig"] = {
        **GOOGLES_OWN["generationConfig"],
        "thinkingConfig": {"thinkingLevel": "MINIMAL"},
    }
    assert request.json() == expected


def test_a_signature_goes_back_with_the_result() -> None:
    with gemini() as (vendor, llm):
        vendor.script(CHAT, Script(answer=[("thought", "Hm."), ("call", "get_weather", {"city": "P"}), "."]))
        vendor.script(CHAT, Script(answer=[("call", "get_time", {}), ("call", "get_time", {})]))
        talk = TALK[:2]
        for _ in range(2):
            calls = tuple(piece for piece in ask(llm, talk) if isinstance(piece, ToolCall))
            results = [Message("tool", "done", tool_call_id=call.id) for call in calls]
            talk = [*talk, Message("assistant", "", calls), *results]
        assert "".join(map(str, ask(llm, talk)))
    parts = [part for content in vendor.requests[2].json()["contents"] for part in content["parts"]]
    sent = [part.get("thoughtSignature") for part in parts if "functionCall" in part]
    assert len(sent) == 3 and set(sent) - {None} == vendor.signed - {"dGhvdWdodA=="} and sent[2] is None


def test_a_call_of_another_vendor_has_the_word_for_it() -> None:
    calls = (ToolCall("a", "get_time", {}, seal=Seal("elsewhere", b'{"x":1}')), ToolCall("b", "get_time", {}))
    results = [Message("tool", "noon", tool_call_id="a"), Message("tool", "noon", tool_call_id="b")]
    for model, expected in (("gemini-3-flash", [NO_SIGNATURE, None]), ("gemini-2.5-flash", [None, None])):
        with gemini(model) as (vendor, llm):
            ask(llm, [Message("user", "time?"), Message("assistant", "", calls), *results])
        parts = vendor.requests[0].json()["contents"][1]["parts"]
        assert [part.get("thoughtSignature") for part in parts] == expected


def test_openais_form_carries_signatures_too() -> None:
    """As Google's OpenAI-compatible endpoint has them; nobody else's are sent there."""
    signature = {"google": {"thought_signature": "dGhvdWdodA=="}}
    call = {"index": 0, "id": "c", "function": {"name": "get_time", "arguments": "{}"}, "extra_content": signature}
    with OpenAiVendor(sounds=Sounds()) as vendor:
        block = {"type": "openai", "url": vendor.base_url, "model": "m"}
        llm = OpenAiLlm(validate("llm", "L", block))  # type: ignore[arg-type]
        vendor.script(CHAT, Script(answer=[{"tool_calls": [call]}]))
        (made,) = llm.chat(TALK[:2], [TIME], CallContext())
        assert isinstance(made, ToolCall) and made.seal is not None
        for sealed, sent in ((made, signature), (replace(made, seal=Seal("other", made.seal.content)), None)):
            talk = [*TALK[:2], Message("assistant", "", (sealed,)), Message("tool", "noon", tool_call_id="c")]
            list(llm.chat(talk, [TIME], CallContext()))
            assert vendor.requests[-1].json()["messages"][2]["tool_calls"][0].get("extra_content") == sent
        llm.close()


SCHEMAS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"type": "object", "properties": {}}, None),
    ({"type": "object", "properties": {"n": {"type": "integer", "enum": [1, 2]}}}, {"n": {"type": "INTEGER"}}),
    (
        {"type": "object", "properties": {"s": {"enum": ["a", "b"]}}},
        {"s": {"type": "STRING", "enum": ["a", "b"]}},
    ),
    (
        {"type": "object", "properties": {"o": {"type": "object", "additionalProperties": True}}},
        {"o": {"type": "STRING", "description": "an object, as JSON"}},
    ),
    ({"type": "object", "properties": {"l": {"type": "array"}}}, {"l": {"type": "ARRAY", "items": {"type": "STRING"}}}),
    (
        {"type": "object", "$defs": {"P": {"type": "object", "properties": {"x": {"type": "number", "const": 1}}}},
         "properties": {"p": {"$ref": "#/$defs/P"}}, "additionalProperties": False, "title": "T"},
        {"p": {"type": "OBJECT", "properties": {"x": {"type": "NUMBER"}}}},
    ),
    (
        {"type": "object", "properties": {"v": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}}},
        {"v": {"type": "STRING"}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "properties"), SCHEMAS)
def test_schemas_as_gemini_takes_them(schema: dict[str, Any], properties: dict[str, Any] | None) -> None:
    with gemini() as (vendor, llm):
        ask(llm, tools=(ToolSpec("f", "d", schema),))
    (declaration,) = vendor.requests[0].json()["tools"][0]["functionDeclarations"]
    assert declaration.get("parameters", {}).get("properties") == properties


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gemini-2.0-flash", None),
        ("gemini-1.5-pro", None),
        ("gemini-2.5-flash", {"thinkingBudget": 0}),
        ("gemini-2.5-flash-lite", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"thinkingBudget": 128}),
        ("gemini-3-flash-preview", {"thinkingLevel": "MINIMAL"}),
    ],
)
def test_thinking_is_switched_off_or_made_short(model: str, sent: Any) -> None:
    with gemini(model) as (vendor, llm):
        ask(llm, TALK[:2])
        assert "thinking" not in llm.limitations
    (request,) = vendor.requests
    assert request.json()["generationConfig"].get("thinkingConfig") == sent


def test_a_model_that_cannot_do_with_the_least_is_asked_for_little() -> None:
    with gemini("gemini-3-pro") as (vendor, llm):
        ask(llm, TALK[:2])
        ask(llm, TALK[:2])
        assert llm.limitations == ("thinking", "tool_schema") and vendor.connections == 1
    levels = [request.json()["generationConfig"]["thinkingConfig"] for request in vendor.requests]
    assert [level["thinkingLevel"] for level in levels] == ["MINIMAL", "LOW", "LOW"]


def test_a_schema_that_is_refused_all_the_same_becomes_flat() -> None:
    refusal = "* GenerateContentRequest.tools[0].function_declarations[1].parameters.properties[x]: schema is too deep"
    deep = {"type": "object", "properties": {"x": {"type": "object", "properties": {"y": {"type": "string"}}}}}
    with gemini() as (vendor, llm):
        vendor.script(CHAT, Script(status=400, error=refusal))
        for _ in range(2):
            ask(llm, TALK[:2], (WEATHER, ToolSpec("deep", "d", deep)))
        assert vendor.counts[CHAT] == 3
    for request in list(vendor.requests)[1:]:
        first, second = request.json()["tools"][0]["functionDeclarations"]
        assert first["parameters"]["required"] == ["city"] and first["parameters"]["properties"]["city"]["description"]
        assert second["parameters"]["properties"] == {"x": {"type": "STRING"}}


def test_more_is_sent_where_a_block_says_so() -> None:
    settings = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}]
    more = {"safetySettings": settings, "generationConfig": {"stopSequences": ["X"]}}
    with gemini("gemini-2.0-flash", extra_body=more) as (vendor, llm):
        ask(llm, TALK[:2])
    body = vendor.requests[0].json()
    assert body["safetySettings"] == settings
    assert body["generationConfig"] == {"maxOutputTokens": 2048, "stopSequences": ["X"]}


def test_a_question_that_is_blocked() -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3}}
    with gemini() as (vendor, llm):
        vendor.script(CHAT, Script(answer=[blocked]))
        with pytest.raises(VendorRejected, match="PROHIBITED_CONTENT"):
            ask(llm)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("SAFETY", VendorRejected),
        ("PROHIBITED_CONTENT", VendorRejected),
        ("RECITATION", VendorRejected),
        ("OTHER", VendorRejected),
        ("MALFORMED_FUNCTION_CALL", VendorUnavailable),
    ],
)
def test_an_answer_that_is_no_answer(reason: str, kind: type[Exception]) -> None:
    with gemini() as (vendor, llm):
        vendor.script(CHAT, Script(answer=[{"candidates": [{"finishReason": reason, "index": 0}]}]))
        with pytest.raises(kind):
            ask(llm)


def test_an_answer_without_a_reason_to_end_broke_off() -> None:
    piece = {"candidates": [{"content": {"parts": [{"text": "It is"}], "role": "model"}, "index": 0}]}
    with gemini() as (vendor, llm):
        vendor.script(CHAT, Script(answer=[piece]))
        with pytest.raises(VendorUnavailable):
            ask(llm)


def test_an_answer_at_its_limit_is_spoken() -> None:
    cut = {"candidates": [{"content": {"parts": [{"text": "It is"}]}, "finishReason": "MAX_TOKENS", "index": 0}]}
    with gemini() as (vendor, llm):
        vendor.script(CHAT, Script(answer=[cut]))
        assert ask(llm) == ["It is"]


def test_a_wrong_key_and_a_limit() -> None:
    with gemini() as (vendor, llm):
        vendor.script(CHAT, Script(status=429, error="Resource has been exhausted"))
        with pytest.raises(VendorBusy) as busy:
            ask(llm)
        assert busy.value.after == 31
    with GeminiVendor("right") as vendor:
        block = {"type": "gemini", "api_key": "wrong", "base_url": vendor.base_url}
        llm = GeminiLlm(validate("llm", "G", block))  # type: ignore[arg-type]
        with pytest.raises(VendorRejected, match="API key not valid"):
            ask(llm)
        llm.close()


def test_the_block_of_existing_files() -> None:
    block = {
        "type": "gemini",
        "api_key": "k",
        "model_name": "gemini-2.0-flash",
        "http_proxy": "",
        "https_proxy": "",
        "timeout": 120,
    }
    options: Any = validate("llm", "GeminiLLM", block)
    assert (options.proxy, options.timeout.total) == (None, 120)
    both: Any = validate("llm", "GeminiLLM", {**block, "http_proxy": "http://a:1", "https_proxy": "http://b:2"})
    one: Any = validate("llm", "GeminiLLM", {**block, "http_proxy": "http://a:1"})
    assert (both.proxy, one.proxy) == ("http://b:2", "http://a:1")
    with pytest.raises(SettingsError):
        validate("llm", "GeminiLLM", {**block, "api_key": "你的gemini web key"})


def test_pictures() -> None:
    with GeminiVendor("k") as vendor:
        block = {"type": "gemini", "base_url": vendor.base_url, "api_key": "k"}
        vllm = GeminiVllm(validate("vllm", "G", block))  # type: ignore[arg-type]
        vendor.script(CHAT, Script(answer="A grey pixel."))
        assert vllm.describe("What is it?", b"\xff\xd8", "image/jpeg", CallContext()) == "A grey pixel."
        vllm.close()
        assert vendor.refusals == []
    parts = [{"text": "What is it?"}, {"inlineData": {"mimeType": "image/jpeg", "data": "/9g="}}]
    assert vendor.requests[0].json()["contents"] == [{"role": "user", "parts": parts}]


@pytest.mark.parametrize("end", ["", "/", "/v1beta", "/v1beta/openai"])
def test_addresses(end: str) -> None:
    block = {"type": "gemini", "api_key": "k", "base_url": f"https://generativelanguage.googleapis.com{end}"}
    options: Any = validate("llm", "G", block)
    expected = "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse"
    assert stream_endpoint(options.base_url, "m") == expected
