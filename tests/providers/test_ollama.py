"""Ollama and Xinference: what is sent, what becomes of the lines, models that are not there or not loaded. Ollama's own
client asks the vendor of these tests as well, so that it is known to be like the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import ollama
import pytest

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.vendors.ollama_vendor import CHAT, LOAD, OllamaVendor
from tests.waiting import wait_for
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.providers.families.ollama import base_of
from xiaozhi.providers.llm.ollama import OllamaLlm
from xiaozhi.providers.llm.xinference import XinferenceLlm
from xiaozhi.providers.registry import validate

WEATHER = ToolSpec("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
TALK = [
    Message("system", "Be kind."),
    Message("user", "weather?"),
    Message("assistant", "", (ToolCall("c1", "get_weather", {"city": "P"}),)),
    Message("tool", "sunny", tool_call_id="c1"),
    Message("assistant", "Sunny."),
    Message("user", "thanks"),
]


@contextmanager
def local(vendor: OllamaVendor | None = None, **more: Any) -> Iterator[tuple[OllamaVendor, OllamaLlm]]:
    with vendor or OllamaVendor() as running:
        block = {"type": "ollama", "base_url": running.url, "model_name": "qwen2.5", "timeout": {"first_byte": 1}}
        llm = OllamaLlm(validate("llm", "OllamaLLM", {**block, **more}))  # type: ignore[arg-type]
        yield running, llm  # type: ignore[misc]
        llm.close()
        assert running.refusals == []


def ask(llm: Any, talk: list[Message] = TALK, tools: tuple[ToolSpec, ...] = (WEATHER,)) -> list[Any]:
    return list(llm.chat(talk, tools, CallContext()))


def test_what_is_sent() -> None:
    block = {"temperature": 0.5, "max_tokens": 100, "num_ctx": 8192, "options": {"top_k": 20}, "keep_alive": "-1"}
    with local(**block) as (vendor, llm):
        ask(llm)
    body = vendor.requests[0].json()
    assert body.pop("messages") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "P"}}}],
        },
        {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
        {"role": "assistant", "content": "Sunny."},
        {"role": "user", "content": "thanks"},
    ]
    assert [tool["function"]["name"] for tool in body.pop("tools")] == ["get_weather"]
    assert body == {
        "model": "qwen2.5",
        "stream": True,
        "think": False,
        "keep_alive": -1,
        "options": {"temperature": 0.5, "num_predict": 100, "num_ctx": 8192, "top_k": 20},
    }


def test_text_thoughts_and_calls() -> None:
    with local() as (vendor, llm):
        lines = [("thinking", "Hm."), "Let me see.", ("call", "get_weather", {"city": "A"})]
        vendor.script(CHAT, Script(answer=[*lines, ("call", "get_weather", {"city": "A"})]))
        answer = ask(llm)
    assert "".join(piece for piece in answer if isinstance(piece, str)) == "Let me see."
    calls = [(piece.name, piece.arguments) for piece in answer if isinstance(piece, ToolCall)]
    assert calls == [("get_weather", {"city": "A"})] * 2


def test_a_model_that_is_not_there_names_the_command() -> None:
    with local(model_name="qwen3:8b") as (_, llm), pytest.raises(VendorRejected, match="`ollama pull qwen3:8b`"):
        ask(llm)


def test_a_model_without_tools_is_asked_without() -> None:
    with local(OllamaVendor(tools=False)) as (_, llm):
        assert "".join(map(str, ask(llm)))
        assert llm.limitations == ("tools",)


def test_an_error_in_the_middle_and_a_missing_end() -> None:
    piece = {"model": "qwen2.5", "message": {"role": "assistant", "content": "It"}, "done": False}
    for lines in ([piece, {"error": "an error was encountered while running the model"}], [piece]):
        with local() as (vendor, llm):
            vendor.script(CHAT, Script(answer=lines))
            with pytest.raises(VendorUnavailable):
                ask(llm)


def test_the_model_is_loaded_before_anybody_asks_and_once() -> None:
    with local(num_ctx=4096, temperature=0.5) as (vendor, llm):
        llm.warm_up()
        wait_for(lambda: vendor.loads, "the model to be loaded")
        ask(llm)
        ask(llm)
        assert vendor.counts == {LOAD: 1, CHAT: 2} and vendor.loads == 1


def test_nobody_waits_for_a_model_that_loads_for_long() -> None:
    with local() as (vendor, llm):
        vendor.script(LOAD, Script(stall="before"))
        with gevent.Timeout(10):
            llm.warm_up()
            wait_for(lambda: vendor.active, "the load to be asked for")
            assert "".join(map(str, ask(llm)))
            llm.close()
            vendor.wait_gone()


def test_a_model_that_was_waited_for_in_vain_goes_on_loading() -> None:
    with local(timeout={"first_byte": 0.2}) as (vendor, llm):
        vendor.script(CHAT, Script(stall="before"))
        with pytest.raises(VendorTimeout):
            ask(llm)
        wait_for(lambda: vendor.counts.get(LOAD), "the load to be asked for")


def test_a_model_that_cannot_be_loaded_is_no_reason_not_to_start() -> None:
    with local(model_name="gone") as (vendor, llm):
        llm.warm_up()
        wait_for(lambda: vendor.counts.get(LOAD), "the load to be asked for")


def test_addresses_of_existing_files() -> None:
    for end in ("", "/", "/v1", "/v1/", "/api", "/api/chat", "/v1/chat/completions"):
        options: Any = validate("llm", "O", {"type": "ollama", "base_url": f"http://h:11434{end}", "model_name": "m"})
        assert base_of(options.base_url) == "http://h:11434"
    default: Any = validate("llm", "O", {"type": "ollama", "model_name": "m", "base_url": ""})
    assert base_of(default.base_url) == "http://localhost:11434"


def test_ollamas_own_client_understands_the_vendor() -> None:
    with OllamaVendor() as vendor:
        vendor.stand(CHAT, Script(answer=[("thinking", "Hm."), "It is.", ("call", "get_weather", {"city": "P"})]))
        client = ollama.Client(host=vendor.url, trust_env=False)
        function = {"name": "get_weather", "description": "d", "parameters": dict(WEATHER.parameters)}
        call = {"function": {"name": "get_weather", "arguments": {"city": "P"}}}
        talk: list[dict[str, Any]] = [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
        ]
        parts = list(
            client.chat(
                "qwen2.5",
                messages=talk,
                tools=[{"type": "function", "function": function}],
                stream=True,
                think=False,
                keep_alive="30m",
                options={"num_ctx": 4096},
            )
        )
        assert "".join(part.message.content or "" for part in parts) == "It is."
        assert [part.message.tool_calls[0].function.arguments for part in parts if part.message.tool_calls] == [
            {"city": "P"}
        ]
        assert (parts[-1].done, parts[-1].done_reason) == (True, "stop")
        with pytest.raises(ollama.ResponseError) as missing:
            client.chat("nope", messages=talk)
        assert missing.value.status_code == 404
        assert vendor.refusals == []


def test_xinference() -> None:
    with OpenAiVendor(sounds=Sounds()) as vendor:
        for written in (vendor.url, vendor.base_url):
            block = {"type": "xinference", "base_url": written, "model_name": "qwen2.5:72b-AWQ"}
            llm = XinferenceLlm(validate("llm", "XinferenceLLM", block))  # type: ignore[arg-type]
            assert "".join(map(str, ask(llm)))
            llm.close()
        assert [request.path for request in vendor.requests] == ["/v1/chat/completions"] * 2
        assert vendor.requests[0].json()["chat_template_kwargs"] == {"enable_thinking": False}
        vendor.script(
            "chat", Script(status=400, error="[address=0.0.0.0:1, pid=2] Model not found, uid: qwen2.5:72b-AWQ")
        )
        llm = XinferenceLlm(validate("llm", "XinferenceLLM", block))  # type: ignore[arg-type]
        with pytest.raises(VendorRejected, match=r"launch qwen2\.5:72b-AWQ"):
            ask(llm)
        llm.close()
