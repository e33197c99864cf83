"""What a tool call costs by where the tool comes from, and what the sidecar weighs.

Every source has a tool that does nothing, so that what is measured is the way there and back. The MCP servers are the
official SDK's, the device and the endpoint answer in this process. Rows (name, value, unit, aim) for
`python -m loadtest.bench`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gevent
import psutil
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

from loadtest.simulator.device_tools import DeviceTools, FakeTool
from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.settings import Settings
from xiaozhi.tools.base import Action, FixedTools, FunctionTool, ToolContext, ToolOutcome, ToolSource
from xiaozhi.tools.device_mcp import DeviceMcp
from xiaozhi.tools.music import Music
from xiaozhi.tools.shared_tools import SharedTools
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.tools.voices import VoiceEnrolment

Row = tuple[str, float | None, str, str]

CALLS = 300
AT_ONCE = 50
PATIENCE_S = 60.0
_SERVER = """
import sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("bench", log_level="WARNING")
@server.tool()
def nothing() -> str:
    "Does nothing."
    return "nothing"
if sys.argv[1] == "stdio":
    server.run()
else:
    import anyio, uvicorn
    app = server.sse_app() if sys.argv[1] == "sse" else server.streamable_http_app()
    anyio.run(uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, access_log=False)).serve)
"""
_PATHS = {"sse": "/sse", "streamable-http": "/mcp"}


class _Nobody:
    """The session of nobody."""

    music = Music()
    called = False
    enrolment = VoiceEnrolment()
    recent_voices = ()

    def close_after_reply(self) -> None:
        """Never asked for."""

    def set_prompt(self, text: str) -> None:
        """Never asked for."""

    def keep_line_open(self) -> None:
        """Never asked for."""

    def play(self, path: Path, *, title: str = "", start_ms: float = 0.0, gain: float = 1.0) -> None:
        """Never asked for."""


_CONTEXT = ToolContext("bench", "bench", _Nobody())


def rows() -> list[Row]:
    """Everything, about half a minute."""
    return [*plugins(), *device(), *servers(), *endpoint()]


def plugins(calls: int = CALLS) -> list[Row]:
    """A tool in this process: what the toolbox itself takes."""
    tool = FunctionTool(ToolSpec("nothing", ""), lambda arguments, context: ToolOutcome(Action.ASK_LLM, "nothing"))
    return _timed("a plugin", FixedTools("plugins", [tool]), calls)


def device(calls: int = CALLS) -> list[Row]:
    """A device's own tool, without a socket."""
    tools = DeviceTools([FakeTool("nothing", "", lambda arguments: "nothing")])
    group = Tasks()
    # Answers come later, by the hub, as they do from a socket.
    source = DeviceMcp(lambda payload: group.spawn("device", lambda: source.on_payload(tools.answer(payload))), group)
    source.start()
    _until(lambda: tools.listed and source.tools())
    try:
        return _timed("device MCP", source, calls, at_once=10)  # one device is asked no more than 16 things at once
    finally:
        source.close()
        group.kill()


def servers(calls: int = CALLS) -> list[Row]:
    """Real MCP servers behind the sidecar, over the three transports; its memory, and its processor time per call."""
    found: list[Row] = []
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        blocks: dict[str, Any] = {"stdio": {"command": sys.executable, "args": ["-c", _SERVER, "stdio"]}}
        for transport in _PATHS:
            blocks[transport] = stack.enter_context(_served(transport))
        shared = SharedTools()
        stack.callback(shared.close, 10.0)
        shared.sidecar.request("host", "ping", {}, PATIENCE_S)
        bare = shared.sidecar.resident_bytes
        settings = Settings.model_validate({"mcp": {"servers": blocks}, "log": {"data_dir": directory}})
        lease = shared.lease(settings)
        for source in lease.sources:
            if not source.settle(PATIENCE_S) or not source.up:
                raise RuntimeError(f"{source.name}: {source.fault}")
        child = psutil.Process(shared.sidecar.pid)
        before = child.cpu_times()
        for source in lease.sources:
            found += _timed(f"server MCP, {source.name.removeprefix('mcp:')}", source, calls)
        after = child.cpu_times()
        made = (calls + AT_ONCE) * len(lease.sources)
        spent = (after.user - before.user + after.system - before.system) * 1000 / made
        found += [
            ("processor time of the sidecar per call", spent, "ms", ""),
            ("sidecar without a service", bare / 1e6, "MB", ""),
            ("sidecar with 3 MCP servers", shared.sidecar.resident_bytes / 1e6, "MB", "< 120"),
        ]
        lease.release()
    return found


def endpoint(calls: int = CALLS) -> list[Row]:
    """A tool behind an MCP endpoint."""
    tools = DeviceTools([FakeTool("nothing", "", lambda arguments: "nothing")], page_size=10)

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        socket = environ["wsgi.websocket"]
        while (text := socket.receive()) is not None:
            answer = tools.answer(json.loads(text))
            if answer is not None:
                socket.send(json.dumps(answer))
        return []

    listener = WSGIServer(("127.0.0.1", 0), serve, handler_class=WebSocketHandler, log=None)
    listener.start()
    address = f"ws://127.0.0.1:{listener.server_port}/mcp/"
    shared = SharedTools()
    lease = shared.lease(Settings.model_validate({"mcp_endpoint": address}))
    try:
        [source] = lease.sources
        source.settle(PATIENCE_S)
        return _timed("MCP endpoint", source, calls)
    finally:
        lease.release()
        shared.close(10.0)
        listener.stop(timeout=1)


def _timed(name: str, source: ToolSource, calls: int, at_once: int = AT_ONCE) -> list[Row]:
    toolbox = Toolbox(source)
    _call(toolbox)
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        _call(toolbox)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    toolboxes = [Toolbox(source) for _ in range(at_once)]
    began = time.perf_counter()
    gevent.joinall([gevent.spawn(_call, each) for each in toolboxes], raise_error=True)
    together = (time.perf_counter() - began) * 1000
    return [
        (f"{name}: a call p50", times[len(times) // 2], "ms", ""),
        (f"{name}: a call p99", times[len(times) * 99 // 100], "ms", ""),
        (f"{name}: {at_once} calls at once, the last one", together, "ms", ""),
    ]


def _call(toolbox: Toolbox) -> None:
    outcome = toolbox.call(ToolCall("1", "nothing", {}), _CONTEXT)
    if outcome.text != "nothing":
        raise RuntimeError(outcome.text)


def _until(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(PATIENCE_S):
        while not condition():
            gevent.sleep(0.001)


@contextmanager
def _served(transport: str) -> Iterator[dict[str, Any]]:
    """A server that listens; its block. It is ended afterwards."""
    command: Sequence[str] = [sys.executable, "-c", _SERVER, transport]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        address = next(found[1] for line in process.stderr if (found := re.search(rb"running on (http\S+)", line)))
        yield {"url": address.decode() + _PATHS[transport], "transport": transport}
    finally:
        process.kill()
        process.wait()
