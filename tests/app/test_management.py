"""The command line of a server under a management console: the console's settings are part of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.vendors.http_vendor import Script
from tests.vendors.console import BASE, PRIVATE_KEY, SECRET, StrictConsole, refuses, strict_console
from xiaozhi.app.main import main

console = pytest.fixture(strict_console)


@pytest.fixture
def file(tmp_path: Path, console: StrictConsole) -> str:
    """As the existing server's example is written; and a data directory of its own."""
    path = tmp_path / "config_from_api.yaml"
    path.write_text(
        f"""
server:
  ip: 127.0.0.1
  port: 8000
  http_port: 8003
  vision_explain: http://h:8003/mcp/vision/explain
  auth_key: ""
manager-api:
  url: {console.api_url}
  secret: {SECRET}
  max_retries: 0
prompt_template: agent-base-prompt.txt
log: {{data_dir: {tmp_path / "data"}}}
"""
    )
    return str(path)


@pytest.mark.parametrize(("type_name", "key"), [("unheard_of", "type"), ("fun_local", "model_dir")])
def test_what_is_not_here_is_no_reason_not_to_start(
    type_name: str, key: str, file: str, console: StrictConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    console.base["ASR"]["ASR_FunASR"]["type"] = type_name

    assert main(["--config", file, "--check-config"]) == 0

    said = capsys.readouterr()
    assert "The configuration is fine." in said.out
    assert f"ASR.ASR_FunASR.{key}: what the console says cannot be used here" in said.err


def test_what_is_printed_is_what_is_in_force_without_secrets(
    file: str, console: StrictConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    console.base["VAD"]["VAD_SileroVAD"]["api_key"] = "a-key-of-somebody"
    assert main(["--config", file, "--print-config"]) == 0

    printed = capsys.readouterr().out
    assert "VAD: VAD_SileroVAD" in printed
    assert "小爱同学" in printed
    for secret in (SECRET, PRIVATE_KEY, "sms-secret", "a-key-of-somebody"):
        assert secret not in printed


@pytest.mark.parametrize("trouble", [refuses(401), Script(status=502)])
def test_a_console_that_does_not_answer_is_a_fault_once_and_a_warning_later(
    trouble: Script, file: str, console: StrictConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    console.stand(BASE, trouble)
    assert main(["--config", file, "--check-config"]) == 1
    assert "manager-api." in capsys.readouterr().err

    console.forget_scripts()
    assert main(["--config", file, "--check-config"]) == 0
    console.stand(BASE, trouble)
    assert main(["--config", file, "--check-config"]) == 0

    said = capsys.readouterr().err
    assert "its last good settings are used until it answers" in said
    assert SECRET not in said


def test_what_is_wrong_in_the_own_file_is_told_before_anybody_is_asked(
    file: str, console: StrictConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(file, "a") as own:
        own.write("tts_timeout: soon\n")

    assert main(["--config", file, "--check-config"]) == 1

    assert "tts_timeout" in capsys.readouterr().err
    assert console.counts == {}


def test_commands_that_need_no_console_ask_none(file: str, console: StrictConsole) -> None:
    assert main(["--config", file, "db", "upgrade"]) == 0

    assert console.counts == {}
