"""MCP servers that the SDK's own would never be, as programs: python tests/vendors/lying_mcp.py HOW

    modern      knows only the protocol without a handshake; every call of a tool adds one, which is told to who listens

recursive   a schema that refers to itself, one that is nested 80 deep, one of 200 kB; and an honest tool
endless     pages without end
silent      shakes hands, and answers nothing else
garbage     lines that are no JSON between its answers, a result of another shape, and an unknown id
deaf        ignores the end of its input and SIGTERM"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any


def tool(name: str, schema: Any = None) -> dict[str, Any]:
    return {"name": name, "description": name, "inputSchema": schema or {"type": "object", "properties": {}}}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"more": schema}}
    return schema


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
LISTS: dict[str, list[Any]] = {
    "recursive": [
        tool("loops", {"type": "object", "properties": {"node": {"$ref": "#/$defs/node"}}, "$defs": {"node": NODE}}),
        tool("deep", deep(40)),
        tool("large", {"type": "object", "properties": {"text": {"type": "string", "description": "x" * 200_000}}}),
        tool("honest"),
    ],
}


def result(how: str, method: str, number: int) -> Any:
    if method == "initialize":
        info = {"name": "liar", "version": "0"}
        return {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        page: dict[str, Any] = {"tools": LISTS.get(how, [tool(f"tool_{number}")])}
        return page | ({"nextCursor": str(number)} if how == "endless" else {})
    return {"content": 42} if how == "garbage" else {"content": [{"type": "text", "text": "well"}]}


def modern() -> None:
    """Protocol 2026-07-28, as far as a client of tools sees it."""
    tools = [tool("first")]
    listening: list[Any] = []

    def tell(**message: Any) -> None:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message.get("method")
        cached = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        match method:
            case "server/discover":
                versions = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}}}
                tell(id=number, result={**cached, **versions})
            case "tools/list":
                tell(id=number, result={**cached, "tools": tools})
            case "subscriptions/listen":
                listening.append(number)
                meta = {"io.modelcontextprotocol/subscriptionId": number}
                params = {"_meta": meta, "notifications": {"toolsListChanged": True}}
                tell(method="notifications/subscriptions/acknowledged", params=params)
            case "tools/call":
                tools.append(tool(f"tool_{number}"))
                done = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}
                tell(id=number, result=done)
                for listener in listening:
                    meta = {"io.modelcontextprotocol/subscriptionId": listener}
                    tell(method="notifications/tools/list_changed", params={"_meta": meta})
            case _ if number is not None:
                tell(id=number, error={"code": -32601, "message": "Method not found"})


def main(how: str) -> None:
    """Answer line by line."""
    if how == "modern":
        modern()
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        if "id" not in message or (how == "silent" and method not in ("initialize", "tools/list")):
            continue
        if how == "garbage":
            print("this is no JSON", flush=True)
            print(json.dumps({"jsonrpc": "2.0", "id": 9999, "result": {}}), flush=True)
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result(how, method, message["id"])}
        print(json.dumps(answer), flush=True)
    while how == "deaf":
        time.sleep(1)  # sleep: it does not end of its own accord


if __name__ == "__main__":
    main(sys.argv[1])
