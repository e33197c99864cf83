"""An address that belongs to another vendor than its block's name is pointed out; what may be so is not."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.providers.registry import oddities

ARK = "https://ark.cn-beijing.volces.com/api/v3"
ODD: list[tuple[str, dict[str, Any], str]] = [
    ("XunfeiSparkLLM", {"base_url": ARK}, "https://spark-api-open.xf-yun.com/v1"),
    ("DoubaoLLM", {"base_url": "https://api.deepseek.com"}, "belongs to DeepSeek"),
    ("AliLLM", {"url": ARK}, "belongs to Volcengine"),
    ("GeminiLLM", {"base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1"}, "belongs to Aliyun"),
    ("DeepSeekLLM", {"url": "https://open.bigmodel.cn/api/paas/v4/"}, "belongs to Zhipu"),
    ("TencentTTS", {"api_url": "https://openspeech.bytedance.com/api/v1/tts"}, "belongs to Volcengine"),
]
FINE: list[tuple[str, dict[str, Any]]] = [
    ("DoubaoLLM", {"base_url": ARK}),
    ("DeepSeekLLM", {"base_url": ARK}),  # Volcengine serves open weights
    ("QwenLVLLM", {"url": "https://dashscope.aliyuncs.com/compatible-mode/v1"}),
    ("QwenLLM", {"url": "https://api.siliconflow.cn/v1"}),
    ("GeminiLLM", {"base_url": "https://openrouter.ai/api/v1"}),
    ("OpenaiLLM", {"base_url": "https://api.deepseek.com"}),  # the name of the protocol
    ("DoubaoLLM", {"base_url": "https://gateway.example.com/v1"}),
    ("DoubaoLLM", {"base_url": "not an address"}),
    ("XunfeiSparkLLM", {}),
    ("Mine", {"base_url": ARK}),
]


@pytest.mark.parametrize(("name", "block", "words"), ODD)
def test_what_is_odd(name: str, block: dict[str, Any], words: str) -> None:
    (warning,) = oddities("llm", name, block)
    assert warning.startswith(f"LLM.{name}.{next(iter(block))}: ") and words in warning


@pytest.mark.parametrize(("name", "block"), FINE)
def test_what_is_not(name: str, block: dict[str, Any]) -> None:
    assert oddities("llm", name, block) == []
