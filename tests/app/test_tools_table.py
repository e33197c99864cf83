"""`server.py tools`: a table of what a session would be offered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ops.programs import ROOT
from tests.tools.test_mcp_endpoint import EndpointService
from tests.vendors.mcp_programs import program
from tests.waiting import PATIENCE_S
from xiaozhi.app.tools_table import list_tools, print_tools
from xiaozhi.settings import Loaded, load


def loaded(directory: Path, **sections: Any) -> Loaded:
    return load(environ={}, overrides={"log": {"data_dir": str(directory)}, **sections})


def test_plugins_with_what_they_miss(tmp_path: Path) -> None:
    wanted = {"functions": ["play_music", "get_lunar", "no_such_tool"]}
    rows, notes = list_tools(loaded(tmp_path, Intent={"function_call": wanted}), 0)

    found = {name: (source, available) for name, source, available in rows}
    assert found["get_lunar"] == ("plugins", "yes")
    assert found["handle_exit_intent"] == ("plugins", "yes")
    source, available = found["play_music"]
    assert source == "plugins"
    assert available.startswith("no: music_dir: ")
    assert any("no_such_tool" in note for note in notes)


@pytest.mark.slow
def test_servers_and_the_endpoint_are_really_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EndpointService() as service:
        service.pages = [["add", "door"]]
        servers = {"shop": program(), "second": program(), "absent": {"command": "/nonexistent"}}
        found = loaded(tmp_path, mcp={"servers": servers}, mcp_endpoint=f"{service.url}/mcp/?token=s3cr3t")
        rows, _ = list_tools(found, PATIENCE_S)

    assert ("wait", "mcp:shop", "yes") in rows
    assert ("add", "mcp_endpoint", "yes") in rows, "the endpoint stands in front of servers"
    assert ("add", "mcp:shop", "no: mcp_endpoint has a tool of this name") in rows
    assert ("wait", "mcp:second", "no: mcp:shop has a tool of this name") in rows
    [absent] = [row for row in rows if row[1] == "mcp:absent"]
    assert absent[0] == "-"
    assert "No such file" in absent[2]
    assert "s3cr3t" not in str(rows)


def test_the_table_is_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_tools(loaded(tmp_path), 0)

    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["TOOL", "SOURCE", "AVAILABLE"]
    column = head.index("SOURCE")
    assert all(line[column:].startswith("plugins") for line in lines if line and not line.startswith("warning"))


@pytest.mark.slow
def test_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(f"log: {{data_dir: {tmp_path}, log_dir: ''}}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / "server.py"), "--config", "own.yaml", "tools"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S * 2,
    )

    assert "handle_exit_intent" in done.stdout
