"""An MCP server as most people have one: a package of npm, started by npx."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.ops.programs import ROOT
from tests.tools.fakes import context
from tests.waiting import PATIENCE_S
from xiaozhi.settings import Settings
from xiaozhi.tools.base import Action
from xiaozhi.tools.shared_tools import SharedTools

pytestmark = pytest.mark.slow

PACKAGES = ROOT / ".tools" / "npm"


def test_a_package_of_npm_lists_and_reads_files(tmp_path: Path) -> None:
    if shutil.which("npx") is None:
        pytest.skip("no npx: install Node.js to test with an MCP server package of npm")
    if not (PACKAGES / "node_modules/.bin/mcp-server-filesystem").exists():
        missing = "the MCP server package of npm is missing: make tools"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    share = tmp_path / "share"
    share.mkdir()
    (share / "note.txt").write_text("buy milk", encoding="utf-8")
    block = {"command": "npx", "args": ["--offline", "--no", "mcp-server-filesystem", str(share)], "cwd": str(PACKAGES)}
    settings = Settings.model_validate({"mcp": {"servers": {"files": block}}, "log": {"data_dir": str(tmp_path)}})
    shared = SharedTools()
    try:
        [source] = shared.lease(settings).sources
        assert source.settle(PATIENCE_S)
        assert source.up, source.fault
        tools = {tool.spec.name: tool for tool in source.tools()}

        assert "list_directory" in tools
        assert "note.txt" in tools["list_directory"].run({"path": str(share)}, context()).text
        assert tools["read_text_file"].run({"path": str(share / "note.txt")}, context()).text == "buy milk"
        assert tools["read_text_file"].run({"path": "/etc/passwd"}, context()).action is Action.ERROR
    finally:
        shared.close(PATIENCE_S)
