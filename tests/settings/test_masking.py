"""Nothing secret is shown, and what is not secret is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from xiaozhi.app.wiring import check
from xiaozhi.settings import load, masked, masked_yaml
from xiaozhi.settings.masking import looks_secret, mask_text, mask_tree


@pytest.mark.parametrize(
    "key",
    [
        *(
            "api_key",
            "apiKey",
            "API_KEY",
            "apikey",
            "x-api-key",
            "key",
            "keys",
            "appkey",
            "access_key_id",
            "access_key_secret",
            "auth_key",
        ),
        *(
            "secret",
            "secret_id",
            "secret_key",
            "token",
            "tokens",
            "access_token",
            "personal_access_token",
            "accessToken",
            "SK",
            "ak",
        ),
        *(
            "authorization",
            "Authorization",
            "Proxy-Authorization",
            "password",
            "passwd",
            "pwd",
            "cookie",
            "credentials",
        ),
        "mqtt_signature_key",
    ],
)
def test_names_of_secrets(key: str) -> None:
    assert looks_secret(key, "x")


@pytest.mark.parametrize(
    "key, value",
    [
        ("max_tokens", 500),
        ("first_token", 15.0),
        ("token_limit", 3),
        ("history_tokens", 100),
        ("keyword", "x"),
        ("keyboard", "x"),
        ("author", "x"),
        ("passage", "x"),
        ("model_name", "x"),
        ("keyfile", "x"),
        ("task", "x"),
        ("", "x"),
        ("123", "x"),
    ],
)
def test_names_of_other_things(key: str, value: Any) -> None:
    assert not looks_secret(key, value)


def test_numbers_can_be_secrets() -> None:
    assert mask_tree({"token": 123456, "password": 1234, "max_tokens": 12}) == {
        "token": "***",
        "password": "***",
        "max_tokens": 12,
    }


@pytest.mark.parametrize(
    "text, shown",
    [
        ("ws://h/mcp/?token=abc", "ws://h/mcp/?token=***"),
        ("http://h/health?a=1&key=abc&b=2", "http://h/health?a=1&key=***&b=2"),
        ("http://h/?access_token=abc#x", "http://h/?access_token=***#x"),
        ("http://me:pass@h:80/x", "http://***@h:80/x"),
        ("http://h/?id=", "http://h/?id="),
        ("a=b", "a=b"),
        ("me@example.org", "me@example.org"),
        ("http://me:pa/ss@h/x", "http://***@h/x"),
        ("http://me:pa ss@h/x", "http://***@h/x"),
        ("http://token@h/x", "http://***@h/x"),
        ("redis://:pass@h:1/0", "redis://***@h:1/0"),
        ("me:pass@proxy:8080", "***@proxy:8080"),
        ("http://h:8002/xiaozhi", "http://h:8002/xiaozhi"),
        ("http://[::1]:8002/a:b", "http://[::1]:8002/a:b"),
        ("wss://h/v1?appid=12345&x=1", "wss://h/v1?appid=***&x=1"),
    ],
)
def test_addresses_lose_their_secrets(text: str, shown: str) -> None:
    assert mask_text(text) == shown


@pytest.mark.parametrize(
    "text, shown",
    [
        ("Authorization: Bearer abcdef123456", "Authorization: *** ***"),
        ("X-Api-Key: abcdef", "X-Api-Key: ***"),
        ('{"api_key": "abcdef", "model": "m"}', '{"api_key": "***", "model": "m"}'),
        ("--token=abcdef --speed=3", "--token=*** --speed=3"),
        ("the key is sk-abcdefgh12345678", "the key is ***"),
        ("use eyJhbGciOiJI.eyJzdWIi.abc for it", "use *** for it"),
        ("bearer abcdef123456", "bearer ***"),
        ("password = hunter2", "password = ***"),
        ("You are Xiaozhi: be kind, 2:1 and 10:30.", "You are Xiaozhi: be kind, 2:1 and 10:30."),
        ("keyboard=qwerty; keynote: ten", "keyboard=qwerty; keynote: ten"),
        ("max_tokens: 500", "max_tokens: 500"),
        ("小智：你好，token 是什么？", "小智：你好，token 是什么？"),
        ("a key opens a door", "a key opens a door"),
    ],
)
def test_free_text_loses_its_secrets(text: str, shown: str) -> None:
    assert mask_text(text) == shown


def test_headers_are_masked_whatever_they_are_called() -> None:
    for key in ("headers", "extra_headers", "default-headers", "HttpHeaders"):
        assert mask_tree({key: {"X-Odd": "hunter2", "Empty": ""}}) == {key: {"X-Odd": "***", "Empty": ""}}
        assert mask_tree({key: "X-Odd: hunter2"}) == {key: "***"}
        assert mask_tree({key: ["X-Odd: hunter2"]}) == {key: "***"}
    for key in ("appid", "app_id", "appId"):
        assert mask_tree({key: 1234567}) == {key: "***"}


@pytest.mark.parametrize(
    "block",
    [
        {"base_url": "http://me:hunter2@h o/"},
        {"base_url": "htp://me:hunter2@h/"},
        {"base_url": ["http://me:hunter2@h/"]},
        {"base_url": {"password": "hunter2"}},
        {"headers": "Authorization: Bearer hunter2"},
        {"headers": "X-Odd: hunter2"},
        {"headers": {"X-Odd": ["hunter2"]}},
        {"headers": ["X-Odd: hunter2"]},
        {"temperature": "api_key=hunter2"},
        {"max_concurrent": "token: hunter2"},
        {"api_key": ["hunter2"]},
    ],
)
def test_faults_of_providers_show_no_secret(block: dict[str, Any]) -> None:
    written = {"type": "openai", "model_name": "m", "base_url": "http://h/", "api_key": "x", **block}
    loaded = load(environ={}, overrides={"LLM": {"Mine": written}, "selected_module": {"LLM": "Mine"}})
    assert "hunter2" not in "\n".join(map(str, check(loaded)))
    assert "hunter2" not in masked_yaml(loaded.settings)


def test_print_config_shows_everything_but_secrets(config_dir: Path) -> None:
    overrides: dict[str, Any] = {
        "server": {
            "auth_key": "hunter2-0-0123456789",
            "mqtt_signature_key": "hunter2-1-0123456789",
            "admin_token": "hunter2-2-0123456789",
            "secret": "hunter2-3-0123456789",
        },
        "manager-api": {"secret": "hunter2-4"},
        "LLM": {
            "Mine": {
                "type": "openai",
                "api_key": "hunter2-5",
                "headers": {"Authorization": "Bearer hunter2-6"},
                "max_tokens": 7,
            }
        },
        "TTS": {
            "Mine": {
                "type": "x",
                "deep": [{"access_token": "hunter2-7"}],
                "secret": {"a": "hunter2-8"},
                "voice": "anna",
            }
        },
        "plugins": {"web_search": {"api_key": "hunter2-9"}},
        "context_providers": [{"url": "http://u:hunter2-a@h/", "headers": {"X-Whatever": "hunter2-b"}}],
        "mcp_endpoint": "ws://h/mcp/?token=hunter2-c",
        "voiceprint": {"url": "http://h/voiceprint/health?key=hunter2-d"},
    }

    settings = load(environ={}, overrides=overrides, config_dir=config_dir).settings
    tree, text = masked(settings), masked_yaml(settings)

    assert "hunter2" not in text
    assert "hunter2" not in repr(settings)
    assert yaml.safe_load(text) == tree
    assert tree["server"]["auth_key"] == "***"
    assert tree["manager-api"] == {
        "url": "",
        "secret": "***",
        "timeout": 30.0,
        "max_retries": 6,
        "retry_delay": 10.0,
    }
    assert tree["LLM"]["Mine"] == {
        "type": "openai",
        "api_key": "***",
        "headers": {"Authorization": "***"},
        "max_tokens": 7,
    }
    assert tree["TTS"]["Mine"] == {"type": "x", "deep": [{"access_token": "***"}], "secret": "***", "voice": "anna"}
    assert tree["mcp_endpoint"] == "ws://h/mcp/?token=***"
    assert tree["llm_timeout"]["first_token"] == 15.0
    assert settings.block("llm", "Mine")["api_key"] == "hunter2-5"


def test_what_is_not_set_is_seen_to_be_not_set(config_dir: Path) -> None:
    tree = masked(load(environ={}, config_dir=config_dir).settings)

    assert tree["server"]["auth_key"] == ""
    assert tree["manager-api"]["secret"] == ""
