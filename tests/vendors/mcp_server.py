"""A real MCP server, built with the official SDK, as a program of its own:

    python -m tests.vendors.mcp_server stdio | sse | streamable-http

Over HTTP it listens on a port of the system's choice, which its log tells. With AUTHORIZATION in its environment it
refuses requests that do not carry that header."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.types import Image
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

server = MCPServer("workshop", version="1.2.3")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(name="房间.状态")
def room() -> str:
    """State of the room, by 房间.状态."""
    return "warm"


@server.tool()
def environment(name: str) -> str:
    """A variable of this program's environment."""
    return os.environ.get(name, "is not set")


@server.tool()
async def wait(seconds: float, ctx: Context) -> str:
    """Works for a while, and tells how far it is."""
    await ctx.session.send_log_message("warning", f"begins to wait for {seconds} s")
    print(f"waiting for {seconds}", file=sys.stderr, flush=True)
    for step in range(4):
        await ctx.report_progress(step, 4, "working")
        await asyncio.sleep(seconds / 4)  # sleep: the tool is slow
    return "done"


@server.tool()
def announce() -> str:
    """Says itself what is to be spoken."""
    return '{"action": "RESPONSE", "response": "Dinner is ready."}'


@server.tool()
def fail() -> str:
    """Does not work."""
    raise ToolError("the fuse has blown")


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """A picture with a word."""
    return ["a cat", Image(data=b"\x89PNG" + bytes(100_000), format="png")]


@server.tool()
def megabytes(count: int) -> str:
    """A long text."""
    return "x" * 1_000_000 * count


@server.tool()
async def learn(name: str, ctx: Context) -> str:
    """Adds a tool to this server, and says so."""
    server.add_tool(lambda: name, name=name, description="A new one.")
    await ctx.session.send_tool_list_changed()
    return "learnt"


class _Guard:
    """Refuses requests without the header."""

    def __init__(self, app: Any, wanted: str) -> None:
        self._app = app
        self._wanted = wanted.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != self._wanted:
            await PlainTextResponse("no", status_code=401)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def main(transport: str) -> None:
    """Serve until the end."""
    if transport == "stdio":
        print("the workshop opens", file=sys.stderr, flush=True)
        server.run()
        return
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    wanted = os.environ.get("AUTHORIZATION")
    if wanted:
        app.user_middleware.insert(0, Middleware(_Guard, wanted=wanted))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, timeout_graceful_shutdown=1)
    anyio.run(uvicorn.Server(config).serve)


if __name__ == "__main__":
    main(sys.argv[1])
