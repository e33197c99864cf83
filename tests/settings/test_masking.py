"""Nothing secret is shown, and what is not secret is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

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
        ("appid", "x"),
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
    ],
)
def test_addresses_lose_their_secrets(text: str, shown: str) -> None:
    assert mask_text(text) == shown


def test_print_config_shows_everything_but_secrets(config_dir: Path) -> None:
    overrides: dict[str, Any] = {
        "server": {
            "auth_key": "hunter2-0-0123456789",
            "mqtt_signature_key": "hunter2-1-0123456789",
            "admin_token": "hunter2-2-0123456789",
            "secret": "hunter2-3-0123456789",
        },
        "manager-api": {"url": "http://h/", "secret": "hunter2-4"},
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
        "url": "http://h/",
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
