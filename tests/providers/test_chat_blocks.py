"""The blocks of language and vision models in the existing server's sample configuration work as they stand there."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.providers import registry

ALI = "https://dashscope.aliyuncs.com/compatible-mode/v1"
ARK = "https://ark.cn-beijing.volces.com/api/v3"
GLM = "https://open.bigmodel.cn/api/paas/v4/"
KEY = "sk-0123456789"
BLOCKS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "llm",
        "AliLLM",
        {
            "type": "openai",
            "base_url": ALI,
            "model_name": "qwen-flash",
            "api_key": KEY,
            "temperature": 0.7,
            "max_tokens": 500,
            "top_p": 1,
            "frequency_penalty": 0,
        },
    ),
    (
        "llm",
        "DoubaoLLM",
        {"type": "openai", "base_url": ARK, "model_name": "doubao-1-5-pro-32k-250115", "api_key": KEY},
    ),
    (
        "llm",
        "DeepSeekLLM",
        {"type": "openai", "model_name": "deepseek-v4-flash", "url": "https://api.deepseek.com", "api_key": KEY},
    ),
    ("llm", "ChatGLMLLM", {"type": "openai", "model_name": "glm-4-flash", "url": GLM, "api_key": KEY}),
    ("llm", "OllamaLLM", {"type": "ollama", "model_name": "qwen2.5", "base_url": "http://localhost:11434"}),
    (
        "llm",
        "GeminiLLM",
        {"type": "gemini", "api_key": KEY, "model_name": "gemini-2.0-flash", "http_proxy": "", "https_proxy": ""},
    ),
    (
        "llm",
        "VolcesAiGatewayLLM",
        {
            "type": "openai",
            "base_url": "https://ai-gateway.vei.volces.com/v1",
            "model_name": "doubao-pro-32k-functioncall",
            "api_key": KEY,
        },
    ),
    (
        "llm",
        "LMStudioLLM",
        {
            "type": "openai",
            "model_name": "deepseek-r1-distill-llama-8b@q4_k_m",
            "url": "http://localhost:1234/v1",
            "api_key": "lm-studio",
        },
    ),
    (
        "llm",
        "XinferenceLLM",
        {"type": "xinference", "model_name": "qwen2.5:72b-AWQ", "base_url": "http://localhost:9997"},
    ),
    (
        "llm",
        "XinferenceSmallLLM",
        {"type": "xinference", "model_name": "qwen2.5:3b-AWQ", "base_url": "http://localhost:9997"},
    ),
    ("vllm", "ChatGLMVLLM", {"type": "openai", "model_name": "glm-4v-flash", "url": GLM, "api_key": KEY}),
    ("vllm", "QwenVLVLLM", {"type": "openai", "model_name": "qwen3.5-flash", "url": ALI, "api_key": KEY}),
]


@pytest.mark.parametrize(("kind", "name", "block"), BLOCKS)
def test_a_block_as_it_stands(kind: str, name: str, block: dict[str, Any]) -> None:
    registry.validate(kind, name, block)
    assert registry.ignored(kind, name, block) == []
    assert registry.oddities(kind, name, block) == []


@pytest.mark.parametrize(("kind", "name", "block"), [row for row in BLOCKS if row[2].get("api_key") == KEY])
def test_the_sample_text_is_no_key(kind: str, name: str, block: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        registry.validate(kind, name, block | {"api_key": "你的api_key"})
    assert [fault.key.rpartition(".")[2] for fault in caught.value.faults] == ["api_key"]


@pytest.mark.parametrize(
    ("written", "connect", "first_byte", "total"),
    [
        (None, 3, 15, 60),
        ("", 3, 15, 60),
        (0, 3, 15, 60),
        (300, 3, 15, 300),
        ("10", 3, 10, 10),
        ({"pool": 2.0, "connect": 3.0, "write": 5.0, "read": 60.0}, 3, 60, 60),
        ({"connect": "", "read": "120"}, 3, 120, 120),
        ({}, 3, 15, 60),
    ],
)
def test_timeouts_as_they_are_written(written: Any, connect: float, first_byte: float, total: float) -> None:
    options: Any = registry.validate("llm", "AliLLM", BLOCKS[0][2] | {"timeout": written})
    found = (options.timeout.connect, options.timeout.first_byte, options.timeout.total)
    assert found == (connect, first_byte, total)


@pytest.mark.parametrize("written", [-1, "soon", "nan", {"read": [1]}, {"connect": "x"}, [5]])
def test_timeouts_that_are_none(written: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        registry.validate("llm", "AliLLM", BLOCKS[0][2] | {"timeout": written})
    assert all(fault.key.startswith("LLM.AliLLM.timeout") for fault in caught.value.faults)
