"""The ledger of what is kept: what a management console is told and what is kept of it, and what lies in Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.app.main import main
from xiaozhi.management.last_good import LastGood

CONSOLE = {"manager-api": {"url": "http://console.example:8002/xiaozhi", "secret": "one-secret-of-the-console"}}
SHARED = {"server": {"redis": "redis://user:redis-password@redis.example"}}


def ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: dict[str, Any]) -> str:
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({"log": {"data_dir": str(tmp_path), "log_dir": ""}, **more}), encoding="utf-8")
    assert main(["--config", str(file), "db", "upgrade"]) == 0
    capsys.readouterr()
    assert main(["--config", str(file), "privacy"]) == 0
    return capsys.readouterr().out


def test_what_a_console_is_told_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LastGood(tmp_path).write("02:00:00:00:00:01", {"agent": {"prompt": "x" * 2_000}})

    lines = ledger(tmp_path, capsys, CONSOLE).splitlines()

    [told] = [line for line in lines if line.startswith("told to the console")]
    [copies] = [line for line in lines if line.startswith("the console's agents")]
    assert "http://console.example:8002/xiaozhi" in told
    assert "2 KB" in copies
    assert "one-secret" not in str(lines)


def test_what_lies_in_redis_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ledger(tmp_path, capsys, SHARED)

    assert "server.redis" in said
    assert "redis-password" not in said


def test_without_them_there_is_nothing_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ledger(tmp_path, capsys, {})

    assert "the console" not in said
    assert "redis" not in said
