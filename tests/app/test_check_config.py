"""`--check-config` tells every fault and every warning in one round."""

from __future__ import annotations

from pathlib import Path

import pytest

from xiaozhi.app.main import main

EVERYTHING_WRONG = """
server: {port: 70000, auth: true}
delete_audio: false
wakup_words: [a]
selected_module: {LLM: Mine, TTS: Nobody, ASR: Ears, VLLM: XunfeiSparkLLM}
plugins: {play_video: {api_key: k}}
LLM:
  Mine: {type: openai, base_url: ftp://h, model_name: m, temprature: 1, max_concurrent: 2, fallback: [Gone]}
VLLM:
  XunfeiSparkLLM: {type: openai, base_url: "https://ark.cn-beijing.volces.com/api/v3", model_name: lite, api_key: k-1}
ASR:
  Ears: {type: openai, base_url: "http://h/v1", model_name: m, output_dir: tmp/, timeout: {write: 3}}
"""


def checked(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    file = tmp_path / "my.yaml"
    file.write_text(text, encoding="utf-8")
    code = main(["--config", str(file), "--check-config"])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_everything_is_told_in_one_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(tmp_path, EVERYTHING_WRONG, capsys)

    assert code == 1
    for fault in (
        "server.port: 70000",
        "server.auth: True",
        "selected_module.TTS: 'Nobody'",
        "LLM.Mine.fallback.0: 'Gone'",
        "LLM.Mine.base_url: 'ftp://h'",
    ):
        assert f"  - {fault} - " in said, fault
    for warning in (
        "delete_audio has no effect",
        "wakup_words means nothing here and is ignored; the nearest key is wakeup_words",
        "plugins.play_video means nothing here",
        "LLM.Mine.temprature means nothing here and is ignored; the nearest key is LLM.Mine.temperature",
        "VLLM.XunfeiSparkLLM.base_url: ark.cn-beijing.volces.com belongs to Volcengine",
        "ASR.Ears.output_dir means nothing here",
        "ASR.Ears.timeout.write means nothing here",
    ):
        assert f"warning: {warning}" in said, warning
    assert "max_concurrent means" not in said
    assert "fallback means" not in said


@pytest.mark.parametrize(("longest_ms", "code"), [(60_000, 0), (60_001, 1)])
def test_utterances_that_the_recogniser_does_not_take(
    longest_ms: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"""
conversation: {{max_utterance_ms: {longest_ms}}}
selected_module: {{ASR: Ears}}
ASR: {{Ears: {{type: baidu, api_key: k, secret_key: s}}}}
"""
    ended, said = checked(tmp_path, text, capsys)

    assert ended == code, said
    fault = f"conversation.max_utterance_ms: {longest_ms} - must be at most 60000: the vendor of ASR.Ears hears no more"
    assert (fault in said) == bool(code)


def test_duplicate_keys_do_not_hide_what_else_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(tmp_path, "server: {port: -1}\nprompt: a\nprompt: b\n", capsys)

    assert code == 1
    assert "'prompt' a second time" in said
    assert "server.port: -1" in said


@pytest.mark.parametrize(
    "block",
    ["openai: {base_url: 'http://h/v1', model_name: m}", "openai: {type: '', base_url: 'http://h/v1', model_name: m}"],
)
def test_a_block_without_type_is_of_the_type_that_it_is_called_like(
    block: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = checked(tmp_path, f"selected_module: {{LLM: openai}}\nLLM:\n  {block}\n", capsys)

    assert (code, said) == (0, "The configuration is fine.\n")


def test_a_key_that_only_helps_vendors_is_told_of_a_local_provider(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = checked(tmp_path, "LLM: {Offline: {max_concurrent: 3}}\nMemory: {nomem: {llm: Offline}}\n", capsys)

    assert code == 0
    assert "LLM.Offline.max_concurrent means nothing here" in said
    assert "Memory.nomem.llm means nothing here" in said
