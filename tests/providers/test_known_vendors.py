"""What is known of vendors: how many requests at once, and who is no longer there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.providers import registry
from xiaozhi.providers.known_vendors import usual_limit
from xiaozhi.providers.pool import vendor_limits
from xiaozhi.settings import SECTIONS, load
from xiaozhi.settings.yaml_reader import read_file

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.mark.parametrize(
    ("kind", "type_name", "block", "limit"),
    [
        ("llm", "openai", {"base_url": "https://api.openai.com/v1"}, 15),
        ("tts", "openai", {"api_url": "https://api.openai.com/v1/audio/speech"}, 8),
        ("asr", "openai", {"base_url": "https://api.openai.com/v1/audio/transcriptions"}, 10),
        ("llm", "openai", {"url": "https://open.bigmodel.cn/api/paas/v4/"}, 10),
        ("vllm", "openai", {"url": "https://open.bigmodel.cn/api/paas/v4/"}, 10),
        ("llm", "openai", {"base_url": "https://ark.cn-beijing.volces.com/api/v3"}, 12),
        ("tts", "huoshan_double_stream", {}, 6),
        ("asr", "doubao_stream", {}, 8),
        ("llm", "openai", {"base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1"}, 20),
        ("asr", "aliyun_stream", {"host": "nls-gateway-cn-shanghai.aliyuncs.com"}, 15),
        ("tts", "tencent", {}, 8),
        ("llm", "openai", {"base_url": "http://192.168.1.5:8000/v1"}, 100),
        ("llm", "openai", {"base_url": "https://notopenai.com/v1"}, 100),
        ("tts", "doubao", {"api_url": "https://api.302ai.cn/doubao/tts_hd"}, 6),
        ("tts", "espeak", {}, 100),
    ],
)
def test_what_a_vendor_usually_allows(kind: str, type_name: str, block: dict[str, Any], limit: int) -> None:
    assert usual_limit(kind, type_name, block) == limit


def test_the_configuration_decides_where_it_says_anything() -> None:
    def limit(**overrides: Any) -> int:
        chosen = {"selected_module": {"LLM": "ChatGLMLLM"}, "LLM": {"ChatGLMLLM": {"api_key": "k1"}}}
        settings = load(environ={}, overrides={**chosen, **overrides}).settings
        return vendor_limits(settings, "llm", "ChatGLMLLM").max_concurrent

    assert limit() == 10
    assert limit(ai_providers={"llm": {"max_concurrent": 33}}) == 33
    assert limit(server={"profile": "low"}) == 3
    assert limit(LLM={"ChatGLMLLM": {"api_key": "k1", "max_concurrent": 44}}) == 44


def test_an_address_that_is_none_belongs_to_nobody() -> None:
    assert usual_limit("llm", "openai", {"base_url": "https://["}) == 100


@pytest.mark.parametrize("type_name", ["linkerai", "ttson", "LinkerAI"])
def test_a_service_that_is_gone_is_named_with_what_to_use(type_name: str) -> None:
    with pytest.raises(SettingsError, match="no longer offered; `type: edge` needs no key"):
        registry.validate("tts", "LinkerAITTS", {"type": type_name, "access_token": "t"})


@pytest.mark.parametrize(
    ("kind", "type_name", "now"),
    [
        ("tts", "minimax", "minimax_httpstream"),
        ("tts", "minimax_webSocket", "minimax_httpstream"),
        ("tts", "huoshan", "huoshan_double_stream"),
        ("tts", "IndexStream", "index_stream"),
        ("tts", "302ai", "doubao"),
        ("tts", "GSV", "gpt_sovits_v2"),
        ("asr", "vosk_local", "vosk"),
        ("llm", "chatglm", "openai"),
        ("llm", "doubao", "openai"),
    ],
)
def test_a_type_that_has_another_name_now_is_told_it(kind: str, type_name: str, now: str) -> None:
    with pytest.raises(SettingsError, match=f"`type: {now}`, as it is called now"):
        registry.validate(kind, "Mine", {"type": type_name})
    assert now in registry.known_types(kind)


@pytest.mark.parametrize(
    ("block", "service"),
    [
        ({"type": "doubao", "api_url": "https://bytedance.gizwitsapi.com/api/v1/tts"}, "Gizwits"),
        ({"type": "custom", "url": "https://acgn.ttson.cn/x"}, "ACGN"),
        ({"type": "custom", "url": "https://tts.linkerai.cn/tts"}, "LinkerAI"),
    ],
)
def test_the_address_of_a_service_that_is_gone_is_told(block: dict[str, Any], service: str) -> None:
    [warning] = registry.oddities("tts", "GizwitsTTS", block)

    assert service in warning
    assert "`type: edge` needs no key" in warning


def test_every_well_known_block_has_a_type_that_ships_and_keys_that_it_knows() -> None:
    tree, faults = read_file(CONFIG / "vendors.yaml")
    assert faults == []

    unknown = []
    for kind, section in SECTIONS.items():
        for name, block in tree.get(section, {}).items():
            assert block["type"] in registry.known_types(kind), name
            unknown += registry.ignored(kind, name, block)
    assert unknown == []
