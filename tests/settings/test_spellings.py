"""Flat keys of profiles, values as people write them, sections that lost their indentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.settings import Settings, examine, load

Write = Callable[..., Path]


# --- other places -----------------------------------------------------------------------------------------------------


def test_flat_keys_of_a_profile_take_effect(config_dir: Path, write: Write) -> None:
    own = write("max_connections: 150\nthread_pool_max_workers: 15\nai_providers:\n  llm: { max_concurrent: 6 }\n")

    loaded = load(own, environ={}, config_dir=config_dir)

    assert loaded.warnings == []
    assert loaded.settings.server.max_connections == 150
    assert loaded.settings.server.thread_pool.max_workers == 15
    assert loaded.settings.ai_providers.llm.max_concurrent == 6


def test_a_profile_of_ones_own_may_be_flat(config_dir: Path, write: Write) -> None:
    (config_dir / "profiles/mine.yaml").write_text("max_connections: 7\nthread_pool_queue_size: 9\n", encoding="utf-8")
    own = write("server: {profile: mine, thread_pool: {max_workers: 2}}\n")

    server = load(own, environ={}, config_dir=config_dir).settings.server

    assert (server.max_connections, server.thread_pool.queue_size, server.thread_pool.max_workers) == (7, 9, 2)


def test_the_higher_layer_wins_wherever_it_writes_a_key(config_dir: Path, write: Write) -> None:
    own = write("server: {max_connections: 10}\n")
    environ = {"XIAOZHI__MAX_CONNECTIONS": "20"}

    assert load(own, environ=environ, config_dir=config_dir).settings.server.max_connections == 20


def test_two_places_that_differ_are_a_fault(config_dir: Path, write: Write) -> None:
    own = write("max_connections: 5\nserver: {max_connections: 6}\n")

    (fault,) = examine(own, environ={}, config_dir=config_dir).faults

    assert (fault.key, fault.value) == ("max_connections", "5")
    assert "server.max_connections" in fault.expected


# --- values as people write them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"wakeup_words": "computer"}, ("computer",)),
        ({"wakeup_words": "computer, 你好小智；小智"}, ("computer", "你好小智", "小智")),
        ({"exit_commands": "退出、关闭"}, ("退出", "关闭")),
        ({"correct_words": "LED|L E D, please"}, ("LED|L E D, please",)),
        ({"fallback": {"LLM": "Offline"}}, ("Offline",)),
        ({"server": {"trusted_proxies": "10.0.0.0/8, 127.0.0.1"}}, ("10.0.0.0/8", "127.0.0.1/32")),
    ],
)
def test_one_text_is_a_list(written: dict[str, Any], read: tuple[str, ...]) -> None:
    value: Any = Settings.model_validate(written)
    node: Any = written
    while isinstance(node, dict):
        (key, node) = next(iter(node.items()))
        value = getattr(value, key)

    assert value == read


def test_numbers_may_be_in_quotes() -> None:
    settings = Settings.model_validate(
        {
            "xiaozhi": {"audio_params": {"sample_rate": "16000", "frame_duration": "20", "channels": "1"}},
            "boards": {"a": {"protocol_version": "3", "prebuffer_frames": "5"}},
            "server": {"port": "9000", "timezone_offset": ""},
            "prebuffer_frames": "4",
        }
    )

    audio = settings.xiaozhi.audio_params
    assert (audio.sample_rate, audio.frame_duration, audio.channels) == (16_000, 20, 1)
    assert settings.board_for("a/1.0").protocol_version == 3
    assert (settings.server.port, settings.server.timezone_offset, settings.prebuffer_frames) == (9000, None, 4)


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        ({"server": {"auth": True}}, "server.auth", "a section: keys below it, indented"),
        ({"server": {"limits": "none"}}, "server.limits", "a section"),
        ({"boards": {"a": {"prebuffer_frames": True}}}, "boards.a.prebuffer_frames", "a number, not a switch"),
        ({"wakeup_words": {"a": 1}}, "wakeup_words", "a list, such as [a, b]"),
        ({"log": {"content": "perhaps"}}, "log.content", "true or false"),
        ({"server": {"max_connections": "many"}}, "server.max_connections", "a whole number"),
        ({"server": {"hello_timeout": "soon"}}, "server.hello_timeout", "a number"),
        ({"prompt": ["a"]}, "prompt", "text"),
        ({"xiaozhi": {"audio_params": {"sample_rate": "44100"}}}, "xiaozhi.audio_params.sample_rate", "24000 or 48000"),
    ],
)
def test_faults_are_in_words_for_people(overrides: dict[str, Any], key: str, words: str, config_dir: Path) -> None:
    (fault,) = examine(environ={}, overrides=overrides, config_dir=config_dir).faults

    assert fault.key == key
    assert words in fault.expected
    for jargon in ("valid", "instance", "tuple", "dictionary", "Input", "parse", "None"):
        assert jargon not in fault.expected


# --- indentation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("server:\nport: 9000\nhttp_port: 9003\n", ["port", "http_port"]),
        ("log:\nlog_level: DEBUG\n", ["log_level"]),
        ("LLM:\nMain:\n  type: openai\n  base_url: http://h/v1\n", ["Main"]),
        ("LLM:\n  Main:\n  type: openai\n  api_key: k\n", ["LLM.type", "LLM.api_key"]),
        ("server:\n  auth:\n  enabled: true\n", ["server.enabled"]),
    ],
)
def test_a_lost_indentation_is_noticed(text: str, keys: list[str], config_dir: Path, write: Write) -> None:
    faults = examine(write(text), environ={}, config_dir=config_dir).faults

    assert [fault.key for fault in faults] == keys
    assert all("indented by two spaces" in fault.expected for fault in faults)


@pytest.mark.parametrize(
    "text",
    [
        "plugins:\nmodule_test: {test_sentences: [a]}\n",  # all lines of the section are commented out
        "server:\nlog: {log_level: DEBUG}\n",
        "LLM:\nTTS:\n",
        "voiceprint:\nmy_notes: {a: 1}\n",
    ],
)
def test_an_empty_section_is_no_lost_indentation(text: str, config_dir: Path, write: Write) -> None:
    assert examine(write(text), environ={}, config_dir=config_dir).faults == []


def test_the_consoles_name_of_the_history_is_understood(config_dir: Path, write: Write) -> None:
    loaded = load(write("chat_history_conf: 2\n"), environ={}, config_dir=config_dir)

    assert loaded.warnings == []
    assert loaded.settings.history.mode == "sound"
