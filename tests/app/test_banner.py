"""What a person sees at the start."""

from __future__ import annotations

from typing import Any

import pytest
import tzlocal

from xiaozhi.app.banner import COLUMNS, banner, start_facts, width
from xiaozhi.settings import load

NAMES = {"vad": "SileroVAD", "asr": "PocketSphinx", "llm": "Offline", "tts": "Espeak", "memory": "nomem"}
OWN = {"LLM": {"Mine": {"type": "openai"}}, "ASR": {"Mine": {"type": "openai"}}, "TTS": {"Mine": {"type": "openai"}}}


def greeting(names: dict[str, str] | None = None, port: int = 8000, password: str = "", **overrides: Any) -> list[str]:
    settings = load(environ={}, overrides={**OWN, **overrides}).settings
    host = "http://192.168.100.200:8003"
    addresses = "ws://192.168.100.200:8000/xiaozhi/v1/", f"{host}/xiaozhi/ota/", f"{host}/console"
    used = {**NAMES, **(names or {})}
    facts = start_facts(
        settings, used, addresses, port=port, http_port=8003, workers=2, started_s=1.25, password=password
    )
    return banner(facts)


def test_it_fits_a_terminal() -> None:
    lines = greeting({"vllm": "AVeryLongNameForAVisionModel"})

    assert [line for line in lines if width(line) > COLUMNS] == []
    assert any("VLLM AVeryLongNameForAVisionModel" in line for line in lines)


def test_the_page_that_talks_comes_first_and_a_new_password_is_told() -> None:
    lines = greeting(password="abcd-efgh-jkmn")

    assert "http://127.0.0.1:8003/talk" in lines[3]
    assert "http://192.168.100.200:8003/console" in lines[4]
    assert "abcd-efgh-jkmn" in lines[5]
    assert [line for line in lines if width(line) > COLUMNS] == []


def test_without_pages_none_is_told() -> None:
    assert "/talk" not in "\n".join(greeting(console={"enabled": False}))


@pytest.mark.parametrize(
    ("names", "told", "untold"),
    [
        ({}, ["XIAOZHI_ASR_BASE_URL", "XIAOZHI_LLM_BASE_URL", "XIAOZHI_TTS_BASE_URL"], []),
        ({"llm": "Mine"}, ["XIAOZHI_ASR_BASE_URL", "离线默认", "XIAOZHI_TTS_BASE_URL"], ["XIAOZHI_LLM_BASE_URL"]),
        ({"llm": "Mine", "asr": "Mine", "tts": "Mine"}, [], ["offline", "离线", "XIAOZHI_", "README"]),
    ],
)
def test_what_is_still_offline_is_said(names: dict[str, str], told: list[str], untold: list[str]) -> None:
    text = "\n".join(greeting(names))

    assert [words for words in told if words not in text] == []
    assert [words for words in untold if words in text] == []


@pytest.mark.parametrize(
    ("port", "server", "hint"),
    [
        (8000, {}, 'make talk SAY="what time is it"'),
        (9000, {}, 'make talk URL=ws://127.0.0.1:9000/xiaozhi/v1/ SAY="what time is it"'),
        (8000, {"ip": "192.0.2.7"}, "URL=ws://192.0.2.7:8000/xiaozhi/v1/"),
        (8000, {"ip": "::1"}, "URL=ws://[::1]:8000/xiaozhi/v1/"),
    ],
)
def test_the_hint_fits_the_port(port: int, server: dict[str, Any], hint: str) -> None:
    assert hint in "\n".join(greeting(port=port, server=server))


@pytest.mark.parametrize(
    ("zone", "offset", "shown"),
    [
        ("Asia/Shanghai", None, "Asia/Shanghai (UTC+08:00)"),
        ("UTC", None, "set server.timezone_offset"),
        ("Asia/Shanghai", -3.5, "UTC-03:30"),
        ("UTC", 0, "UTC"),
    ],
)
def test_the_time_zone_is_the_machine_s(
    zone: str, offset: float | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    tzlocal.reload_localzone()
    try:
        (line,) = [line for line in greeting(server={"timezone_offset": offset}) if "time zone" in line]
    finally:
        monkeypatch.undo()
        tzlocal.reload_localzone()

    assert shown in line
