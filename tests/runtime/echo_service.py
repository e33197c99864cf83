"""A service for the sidecar of tests; it runs in the child, so nothing of gevent or of the product but its own room."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from xiaozhi.sidecar.service import Emit, Method, ServiceError, Tell


class Echo:
    """Says again what it is told."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._cancelled = 0
        self._emitted = 0
        self._children: list[asyncio.subprocess.Process] = []

    def methods(self) -> Mapping[str, Method]:
        return {
            "echo": self._echo,
            "fail": self._fail,
            "break": self._break,
            "never": self._never,
            "count": self._count,
            "progress": self._progress,
            "counts": self._counts,
            "tell": self._say,
            "block": self._block,
            "write": self._write,
            "long": self._long,
            "eat": self._eat,
            "modules": self._modules,
            "start": self._start,
        }

    async def close(self) -> None:
        self._tell("closing", None)
        for child in self._children:
            child.kill()
            await child.wait()

    async def _echo(self, params: Mapping[str, Any], _emit: Emit) -> Any:
        return params["value"]

    async def _fail(self, params: Mapping[str, Any], _emit: Emit) -> Any:
        raise ServiceError("not today")

    async def _break(self, params: Mapping[str, Any], _emit: Emit) -> Any:
        raise KeyError("broken")

    async def _never(self, params: Mapping[str, Any], _emit: Emit) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._cancelled += 1
            raise

    async def _count(self, params: Mapping[str, Any], emit: Emit) -> str:
        for number in range(params["to"]):
            self._emitted = number + 1
            await emit(number)
        return "counted"

    async def _progress(self, params: Mapping[str, Any], _emit: Emit) -> int:
        return self._emitted

    async def _counts(self, params: Mapping[str, Any], _emit: Emit) -> int:
        return self._cancelled

    async def _say(self, params: Mapping[str, Any], _emit: Emit) -> None:
        self._tell("said", params["what"])

    async def _block(self, params: Mapping[str, Any], _emit: Emit) -> None:
        time.sleep(params["seconds"])  # sleep: keeps the loop, as an SDK might

    async def _write(self, params: Mapping[str, Any], _emit: Emit) -> None:
        for number in range(params["lines"]):
            print(f"line {number}", file=sys.stderr)
        print("printed")

    async def _long(self, params: Mapping[str, Any], _emit: Emit) -> str:
        return "x" * params["bytes"]

    async def _eat(self, params: Mapping[str, Any], _emit: Emit) -> None:
        self._eaten = b"x" * params["bytes"]

    async def _modules(self, params: Mapping[str, Any], _emit: Emit) -> list[str]:
        return sorted(sys.modules)

    async def _start(self, params: Mapping[str, Any], _emit: Emit) -> int:
        """A program in a session of its own, as the MCP SDK starts one; it ignores everything."""
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)"
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, start_new_session=True)
        self._children.append(child)
        return child.pid
