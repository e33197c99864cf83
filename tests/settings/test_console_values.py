"""Values as management consoles keep them: JSON texts for mappings and lists, an empty mapping for an empty list."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.providers import registry

DIFY = {"type": "dify", "api_key": "k"}
FASTGPT = {"type": "fastgpt", "api_key": "k", "base_url": "http://host/api/v1"}
FISH = {"type": "fishspeech", "api_key": "k"}
HUOSHAN = {"type": "huoshan_double_stream", "appid": "1", "access_token": "k", "speaker": "zh_female_wanwanxiaohe"}
MINIMAX = {"type": "minimax_httpstream", "api_key": "k", "voice_id": "v"}
SOVITS = {"type": "gpt_sovits_v2", "url": "http://host/tts", "ref_audio_path": "a.wav"}


@pytest.mark.parametrize(
    ("kind", "block", "key", "written", "meant"),
    [
        ("llm", DIFY, "inputs", '{"city": "Bern"}', {"city": "Bern"}),
        ("llm", FASTGPT, "variables", '{"k": "v"}', {"k": "v"}),
        ("llm", FASTGPT, "headers", '{"X-Team": "1"}', {"X-Team": "1"}),
        ("tts", HUOSHAN, "additions", '{"post_process": {"pitch": 1}}', {"post_process": {"pitch": 1}}),
        ("tts", MINIMAX, "pronunciation_dict", '{"tone": ["a/b"]}', {"tone": ["a/b"]}),
        ("tts", MINIMAX, "timber_weights", '[{"voice_id": "a", "weight": 1}]', [{"voice_id": "a", "weight": 1}]),
        ("tts", MINIMAX, "timber_weights", {}, []),
        ("tts", FISH, "reference_audio", {}, []),
        ("tts", SOVITS, "aux_ref_audio_paths", {}, []),
        ("tts", SOVITS, "aux_ref_audio_paths", '["b.wav", "c.wav"]', ["b.wav", "c.wav"]),
    ],
)
def test_what_they_mean(kind: str, block: dict[str, Any], key: str, written: Any, meant: Any) -> None:
    assert getattr(registry.validate(kind, "Mine", {**block, key: written}), key) == meant


def test_sections_of_a_vendor_too() -> None:
    options = registry.validate("tts", "Mine", {**HUOSHAN, "audio_params": '{"speech_rate": 12}'})

    assert getattr(options, "audio_params").speech_rate == 12  # noqa: B009


@pytest.mark.parametrize("written", ['{"city": ', "city", "[1]"])
def test_what_is_none_is_a_fault(written: str) -> None:
    with pytest.raises(SettingsError, match=r"LLM\.Mine\.inputs: .* must be a section"):
        registry.validate("llm", "Mine", {**DIFY, "inputs": written})


def test_a_text_stays_a_text() -> None:
    options = registry.validate("llm", "Mine", {**FASTGPT, "api_key": "[k]"})

    assert getattr(options, "api_key").get_secret_value() == "[k]"  # noqa: B009


def test_the_key_of_spark_as_its_form_calls_it() -> None:
    block = {"type": "openai", "model_name": "lite", "base_url": "https://spark-api-open.xf-yun.com/v1"}

    options = registry.validate("llm", "LLM_XunfeiSparkLLM", {**block, "api_password": "one-password"})

    assert getattr(options, "credentials")() == {"Authorization": "Bearer one-password"}  # noqa: B009
    assert registry.ignored("llm", "LLM_XunfeiSparkLLM", {**block, "api_password": "one-password"}) == []
