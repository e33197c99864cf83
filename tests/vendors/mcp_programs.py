"""MCP servers as child processes, for the server to connect to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

ROOT = Path(__file__).resolve().parent.parent.parent
PATHS = {"sse": "/sse", "streamable-http": "/mcp"}
_LISTENS = re.compile(r"running on (http://[\d.:]+)")


def program(**env: str) -> dict[str, Any]:
    """The block of a real server that is started as a program."""
    arguments = ["-m", "tests.vendors.mcp_server", "stdio"]
    return {"command": sys.executable, "args": arguments, "cwd": str(ROOT), "env": env, "transport": "stdio"}


def liar(how: str) -> dict[str, Any]:
    """The block of a server that follows no rules."""
    return {"command": sys.executable, "args": [str(ROOT / "tests" / "vendors" / "lying_mcp.py"), how]}


@contextmanager
def serving(transport: str, **env: str) -> Iterator[dict[str, Any]]:
    """A real server that listens; the block for it."""
    with HttpServer(transport, **env) as server:
        yield server.block


class HttpServer:
    """A real server that listens on a port, until `stop`."""

    def __init__(self, transport: str, **env: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.vendors.mcp_server", transport],
            cwd=ROOT,
            env={**os.environ, **env},
            stderr=subprocess.PIPE,
        )
        try:
            self.block: dict[str, Any] = {"url": self._address() + PATHS[transport], "transport": transport}
        except BaseException:
            self.stop()
            raise
        self._drain = gevent.spawn(self._read_on)

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._drain.kill()

    def stop(self) -> None:
        """End it at once. Idempotent."""
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _address(self) -> str:
        assert self._process.stderr is not None
        said = b""
        for line in self._process.stderr:
            said += line
            found = _LISTENS.search(line.decode("utf-8", "replace"))
            if found:
                return found[1]
        raise AssertionError(said.decode("utf-8", "replace"))

    def _read_on(self) -> None:
        """What nobody reads would stop it one day."""
        try:
            while self._process.stderr is not None and self._process.stderr.read(4096):
                pass
        except (OSError, ValueError):
            pass  # closed
