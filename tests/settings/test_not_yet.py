"""Keys that are accepted and have no effect are told about; the table holds only keys that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.settings import lay_over, load
from xiaozhi.settings.checks import valid_keys
from xiaozhi.settings.loading import CONFIG_DIR
from xiaozhi.settings.not_yet import NOT_YET

ROOMS = CONFIG_DIR.parent / "xiaozhi"
OF_THE_EXISTING_SERVER = {"module_test", "protocols", "mqtt_server"}


def warned(overrides: dict[str, Any], config_dir: Path) -> list[str]:
    return load(environ={}, overrides=overrides, config_dir=config_dir).warnings


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"server": {"udp_gateway": "192.168.1.2:8884"}}, "server.udp_gateway"),
        ({"delete_audio": False}, "delete_audio"),
        ({"delete_audio": "off"}, "delete_audio"),
        ({"xiaozhi": {"version": 3}}, "xiaozhi.version"),
        ({"llm_timeout": {"connect": 9}}, "llm_timeout.connect"),
        ({"module_test": {"test_sentences": ["a"]}}, "module_test"),
        ({"mqtt_server": {"enabled": True}}, "mqtt_server"),
    ],
)
def test_a_key_without_effect_is_told_once(overrides: dict[str, Any], key: str, config_dir: Path) -> None:
    (warning,) = warned(overrides, config_dir)

    assert warning.startswith(f"{key} has no effect: ")
    assert warning.endswith("(set by the command line)")


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"delete_audio": "true", "xiaozhi": {"version": "1"}, "llm_timeout": {"connect": 5.0}},
        {"server": {"udp_gateway": "null"}},
        {"manager-api": {"url": "", "secret": "a-long-enough-secret"}},
    ],
)
def test_what_is_as_it_was_is_not_told(overrides: dict[str, Any], config_dir: Path) -> None:
    assert warned(overrides, config_dir) == []


def test_a_device_is_told_of_its_own_keys_only(config_dir: Path) -> None:
    loaded = load(environ={}, overrides={"delete_audio": False}, config_dir=config_dir)

    assert lay_over(loaded, {"language": "English"}, "device a").warnings == []
    (warning,) = lay_over(loaded, {"llm_timeout": {"connect": 9}}, "device a").warnings
    assert warning.startswith("device a: llm_timeout.connect has no effect")


def test_the_table_names_keys_that_there_are() -> None:
    assert {row.key for row in NOT_YET} - set(valid_keys()) == OF_THE_EXISTING_SERVER


def test_every_other_key_is_read_somewhere() -> None:
    """By the last part of its name: a key that nobody mentions belongs into the table."""
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in ROOMS.rglob("*.py") if path.parent.name != "settings"
    ) + (ROOMS / "settings/token_secret.py").read_text(encoding="utf-8")
    code += (ROOMS / "settings/schema.py").read_text(encoding="utf-8").partition("def data_dir")[2]
    told = {row.key for row in NOT_YET}
    sections = {"VAD", "ASR", "LLM", "VLLM", "TTS", "Memory", "Intent"}

    unread = [
        key
        for key in valid_keys()
        if not re.search(rf"\b{key.rpartition('.')[2].replace('-', '_')}\b", code)
        and not any(key == row or key.startswith((f"{row}.", row.partition(".")[0] + ".")) for row in told)
        and sections.isdisjoint(key.split("."))
    ]

    assert unread == []
