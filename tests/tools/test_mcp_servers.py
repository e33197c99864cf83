"""What a configuration and the file of the existing server say of MCP servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.settings import Settings, load
from xiaozhi.tools.mcp_servers import FILE, McpServers, configured_servers

ENV = {"HOME_TOKEN": "t0ken-of-the-house", "EMPTY": ""}


def found(tmp_path: Path, *, file: Any = None, servers: Any = None, timeout: float = 30) -> McpServers:
    if file is not None:
        text = file if isinstance(file, str) else json.dumps({"mcpServers": file})
        (tmp_path / FILE).write_text(text, encoding="utf-8")
    settings = Settings.model_validate(
        {"log": {"data_dir": str(tmp_path)}, "mcp": {"servers": servers or {}}, "tool_call_timeout": timeout}
    )
    return configured_servers(settings, ENV)


def one(tmp_path: Path, block: dict[str, Any], **options: Any) -> Any:
    result = found(tmp_path, file={"s": block}, **options)
    assert result.warnings == []
    [server] = result.servers
    return server


def test_without_anything_there_is_nothing(tmp_path: Path) -> None:
    assert found(tmp_path) == McpServers()


def test_a_program(tmp_path: Path) -> None:
    server = one(
        tmp_path,
        {"command": "npx", "args": ["-y", "pkg", "${HOME_TOKEN}"], "env": {"K": "${MISSING:-other-value}"}, "des": "x"},
    )

    assert server.params == {
        "command": "npx",
        "args": ["-y", "pkg", "t0ken-of-the-house"],
        "env": {"K": "other-value"},
        "cwd": None,
    }
    assert server.call_seconds is None
    assert server.secrets == ("other-value",)
    assert "other-value" not in repr(server)


def test_a_command_wins_over_an_address(tmp_path: Path) -> None:
    assert "url" not in one(tmp_path, {"command": "npx", "url": "http://h/sse"}).params


@pytest.mark.parametrize(
    ("written", "transport", "timeout"),
    [
        ({}, "sse", 5),
        ({"transport": "sse", "timeout": 7}, "sse", 7),
        ({"transport": "http"}, "streamable-http", 30),
        ({"transport": "streamable-http", "timeout": 9}, "streamable-http", 9),
        ({"transport": "streamable_http"}, "streamable-http", 30),
        ({"type": "streamableHttp"}, "streamable-http", 30),
        ({"type": "http"}, "streamable-http", 30),
    ],
)
def test_an_address(tmp_path: Path, written: dict[str, Any], transport: str, timeout: float) -> None:
    server = one(tmp_path, {"url": "http://h:8000/x?key=s3cr3tkey", "headers": {"X-Api-Key": "abcdefgh"}, **written})

    assert server.params == {
        "url": "http://h:8000/x?key=s3cr3tkey",
        "transport": transport,
        "headers": {"X-Api-Key": "abcdefgh"},
        "timeout": timeout,
        "sse_read_timeout": 300,
        "terminate_on_close": True,
    }
    assert set(server.secrets) == {"s3cr3tkey", "abcdefgh"}


def test_the_older_spelling_of_a_token(tmp_path: Path) -> None:
    old = one(tmp_path, {"url": "http://h/sse", "API_ACCESS_TOKEN": "${HOME_TOKEN}"})
    both = one(tmp_path, {"url": "http://h/sse", "API_ACCESS_TOKEN": "x", "headers": {"authorization": "Basic abc"}})

    assert old.params["headers"] == {"Authorization": "Bearer t0ken-of-the-house"}
    assert "t0ken-of-the-house" in old.secrets
    assert both.params["headers"] == {"authorization": "Basic abc"}


@pytest.mark.parametrize(
    ("block", "seconds"),
    [
        ({"command": "x"}, None),
        ({"command": "x", "timeout": 90}, 90),
        ({"command": "x", "timeout": 5}, 5),
        ({"url": "http://h/sse", "timeout": 5}, None),
        ({"url": "http://h/sse", "timeout": 120}, 120),
        ({"url": "http://h/sse", "timeout": 120, "tool_call_timeout": 10}, 10),
        ({"command": "x", "timeout": 90, "tool_call_timeout": 20}, 20),
    ],
)
def test_how_long_a_call_may_take(tmp_path: Path, block: dict[str, Any], seconds: float | None) -> None:
    assert one(tmp_path, block).call_seconds == seconds


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"comand": "npx"}, "must have a command"),
        ({"url": "ftp://h"}, "http:// or https://"),
        ({"command": "x", "transport": "carrier pigeon"}, "transport"),
        ({"command": "x", "timeout": "soon"}, "timeout"),
        ({"command": "x", "env": {"K": "${NOT_SET}"}}, "NOT_SET is not set"),
        ("npx", "left out"),
        ([], "left out"),
    ],
)
def test_a_faulty_server_of_the_file_is_left_out_and_told(tmp_path: Path, block: Any, words: str) -> None:
    result = found(tmp_path, file={"bad": block, "good": {"command": "x"}})

    assert [server.name for server in result.servers] == ["good"]
    assert any("bad" in warning and words in warning for warning in result.warnings), result.warnings
    assert result.faults == []


def test_keys_without_effect_are_told(tmp_path: Path) -> None:
    result = found(tmp_path, file={"s": {"command": "x", "arguments": [], "link": "y"}})

    [warning] = result.warnings
    assert "arguments" in warning
    assert [server.name for server in result.servers] == ["s"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"servers": {}}', '{"mcpServers": 3}', "[" * 100_000, "\xff"])
def test_a_broken_file_is_told_and_ignored(tmp_path: Path, text: str) -> None:
    result = found(tmp_path, file=text, servers={"own": {"command": "x"}})

    [warning] = result.warnings
    assert FILE in warning
    assert [server.name for server in result.servers] == ["own"]


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert found(tmp_path, file='\ufeff{"mcpServers": {"s": {"command": "x"}}}').servers


def test_the_section_wins_over_the_file_and_disabled_ones_are_left_out(tmp_path: Path) -> None:
    result = found(
        tmp_path,
        file={"a": {"command": "of-the-file"}, "b": {"command": "b"}, "c": {"disabled": True}},
        servers={"a": {"command": "of-the-section"}, "b": {"disabled": True}},
    )

    assert {server.name: server.params["command"] for server in result.servers} == {"a": "of-the-section"}


def test_a_variable_that_is_missing_refuses_the_section(tmp_path: Path) -> None:
    result = found(tmp_path, servers={"a": {"command": "${NOT_SET}"}})

    assert result.servers == []
    [fault] = result.faults
    assert fault.key == "mcp.servers.a"
    assert "NOT_SET" in str(fault)


def test_what_makes_a_connection_another_one(tmp_path: Path) -> None:
    keys = {
        one(tmp_path, block).key
        for block in (
            {"command": "x"},
            {"command": "x", "args": ["1"]},
            {"command": "x", "env": {"K": "1"}},
            {"url": "http://h/sse"},
            {"url": "http://h/sse", "headers": {"A": "b"}},
            {"url": "http://h/sse", "timeout": 60},
        )
    }

    assert len(keys) == 6
    assert one(tmp_path, {"command": "x"}).key == one(tmp_path, {"command": "x", "des": "for people"}).key


def test_faults_of_the_section_refuse_the_configuration() -> None:
    with pytest.raises(SettingsError) as refused:
        load(environ={}, overrides={"mcp": {"servers": {"a": {"url": "nowhere"}, "b": {}}}})

    assert {fault.key for fault in refused.value.faults} == {"mcp.servers.a", "mcp.servers.b"}


def test_secrets_of_the_section_are_not_shown() -> None:
    block = {"command": "x", "env": {"K": "s3cr3t"}, "headers": {"A": "h1dden"}, "API_ACCESS_TOKEN": "t0ken"}
    settings = Settings.model_validate({"mcp": {"servers": {"a": block}}})

    for secret in ("s3cr3t", "h1dden", "t0ken"):
        assert secret not in repr(settings)
