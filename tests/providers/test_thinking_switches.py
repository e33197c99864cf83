"""Thinking is switched off by the vendor's host, and by less and less where it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from loadtest.vendors.sounds import Sounds
from tests.vendors.strict_chat import StrictChat
from xiaozhi.chat import CallContext, Message
from xiaozhi.providers.families.chat_llm import ChatLlm
from xiaozhi.providers.families.thinking_switches import Switches, thinking_switches
from xiaozhi.providers.registry import validate

DISABLED = {"thinking": {"type": "disabled"}}
SOUNDS = Sounds()


@pytest.mark.parametrize(
    ("url", "model", "first"),
    [
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", "qwen-flash", {"enable_thinking": False}),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen3-max", {"enable_thinking": False}),
        ("https://ark.cn-beijing.volces.com/api/v3", "doubao-1-5-pro-32k-250115", DISABLED),
        ("https://ai-gateway.vei.volces.com/v1", "doubao-pro-32k-functioncall", DISABLED),
        ("https://api.deepseek.com", "deepseek-v4-flash", DISABLED),
        ("https://open.bigmodel.cn/api/paas/v4/", "glm-4-flash", DISABLED),
        ("https://api.moonshot.cn/v1", "kimi-k2.5", DISABLED),
        ("https://spark-api-open.xf-yun.com/v1", "lite", None),
        ("https://spark-api-open.xf-yun.com/v2", "x1", DISABLED),
        ("https://api.groq.com/openai/v1", "qwen/qwen3-32b", {"reasoning_effort": "none"}),
        ("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", None),
        ("https://openrouter.ai/api/v1", "z-ai/glm-4.6", {"reasoning": {"enabled": False}}),
        ("https://api.openai.com/v1", "gpt-5.1", {"reasoning_effort": "none"}),
        ("https://api.openai.com/v1", "gpt-4o-mini", None),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "gemini-2.5-flash",
            {"reasoning_effort": "none"},
        ),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.0-flash", None),
        ("http://localhost:1234/v1", "deepseek-r1-distill-llama-8b@q4_k_m", None),
        ("https://deepseek.com.evil.example/v1", "m", None),
    ],
)
def test_the_switch_of_a_host(url: str, model: str, first: Mapping[str, Any] | None) -> None:
    assert next(iter(thinking_switches(url, model)), None) == first


def thinks(*allowed: str | None) -> Any:
    """A vendor that takes these efforts, and says which in OpenAI's words."""

    def check(body: Mapping[str, Any]) -> tuple[int, str] | None:
        effort = body.get("reasoning_effort")
        if effort in allowed:
            return None
        return 400, f"Unsupported value: 'reasoning_effort' does not support '{effort}' with this model."

    return check


EFFORTS: Switches = tuple({"reasoning_effort": effort} for effort in ("none", "minimal", "low"))


@pytest.mark.parametrize(
    ("check", "sent"),
    [
        (thinks("none"), ["none", "none"]),
        (thinks("minimal", "low"), ["none", "minimal", "minimal"]),
        (thinks("low"), ["none", "minimal", "low", "low"]),
        (thinks(None), ["none", "minimal", "low", None, None]),
    ],
)
def test_less_and_less_and_remembered(check: Any, sent: list[str | None]) -> None:
    with StrictChat(check, sounds=SOUNDS) as vendor:
        vendor.stand(CHAT, Script(answer=["fine"]))
        options: Any = validate("llm", "L", {"type": "openai", "url": vendor.base_url, "model": "m"})
        llm = ChatLlm(
            options.client(vendor.url), f"{vendor.base_url}/chat/completions", options.fixed(), switches=EFFORTS
        )
        for _ in range(2):
            assert list(llm.chat([Message("user", "hi")], [], CallContext())) == ["fine"]
        assert [body.get("reasoning_effort") for body in vendor.taken] == sent
        assert llm.limitations == (("thinking",) if len(sent) > 2 else ())
        llm.close()


@pytest.mark.parametrize(
    ("block", "left"),
    [
        ({}, True),
        ({"thinking": True}, False),
        ({"extra_body": {"reasoning_effort": "high"}}, False),
        ({"extra_body": {"seed": 1}}, True),
    ],
)
@pytest.mark.parametrize("kind", ["llm", "vllm"])
def test_who_decides(kind: str, block: dict[str, Any], left: bool) -> None:
    options: Any = validate(kind, "L", {"type": "openai", "url": "https://api.deepseek.com", "model": "m", **block})
    assert bool(options.chosen(EFFORTS)) is left
