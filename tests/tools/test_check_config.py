"""`--check-config` says which listed tools are unknown, misconfigured or cannot work, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from xiaozhi.app.main import main


def checked(tmp_path: Path, plugins: str, functions: str) -> int:
    file = tmp_path / "config.yaml"
    file.write_text(f"Intent: {{function_call: {{functions: {functions}}}}}\nplugins: {plugins}\n", encoding="utf-8")
    return main(["--config", str(file), "--check-config"])


def test_tools_that_cannot_work_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = f"{{play_music: {{music_dir: {tmp_path}/none, musik_ext: [.mp3]}}, get_wether: {{api_key: k}}}}"

    assert checked(tmp_path, options, "[play_musik, play_music]") == 0

    said = capsys.readouterr()
    assert said.out == "The configuration is fine.\n"
    assert said.err.splitlines() == [
        "warning: Intent.function_call.functions: there is no tool play_musik, it is left out; the nearest is "
        "play_music",
        "warning: plugins.play_music.musik_ext means nothing here and is ignored; the nearest key is "
        "plugins.play_music.music_ext",
        "warning: plugins.get_wether means nothing here and is ignored; the nearest key is plugins.get_weather",
        "warning: play_music, control_music cannot work: plugins.play_music.music_dir: "
        f"there is no directory {tmp_path}/none",
    ]


def test_servers_that_are_left_out_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".mcp_server_settings.json").write_text('{"mcpServers": {"a": {"comand": "npx"}}}', encoding="utf-8")
    file = tmp_path / "config.yaml"
    file.write_text(f"log: {{data_dir: {tmp_path}}}\nmcp: {{servers: {{b: {{command: x, arg: 1}}}}}}", encoding="utf-8")

    assert main(["--config", str(file), "--check-config"]) == 0

    said = capsys.readouterr().err
    assert "mcp.servers.b.arg means nothing here and is ignored; the nearest key is mcp.servers.b.args" in said
    assert ".mcp_server_settings.json: a is left out: " in said
    assert "must have a command" in said

    file.write_text("mcp: {servers: {b: {command: '${NOT_SET_ANYWHERE}'}}}", encoding="utf-8")
    assert main(["--config", str(file), "--check-config"]) == 1
    assert "mcp.servers.b: ${NOT_SET_ANYWHERE} - names the environment variable" in capsys.readouterr().err

    file.write_text("mcp_endpoint: ws://192.168.1.2/elsewhere?token=s3cr3t", encoding="utf-8")
    assert main(["--config", str(file), "--check-config"]) == 1
    said = capsys.readouterr().err
    assert "mcp_endpoint" in said
    assert "s3cr3t" not in said


def test_wrong_options_of_a_listed_tool_refuse_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "{play_music: {refresh_time: soon}}"

    assert checked(tmp_path, wrong, "[]") == 0
    assert checked(tmp_path, wrong, "[play_music]") == 1
    assert "plugins.play_music.refresh_time: 'soon' - must be a number" in capsys.readouterr().err
