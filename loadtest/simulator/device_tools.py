"""The tools a simulated device offers over MCP (JSON-RPC 2.0 inside `{"type": "mcp", "payload": ...}`), as the firmware
does.

Not a client: it only answers `initialize`, `tools/list` (in pages, with `nextCursor`) and `tools/call`, and remembers
what it was asked. Wire format: https://modelcontextprotocol.io/specification/2024-11-05 and the firmware's
docs/mcp-protocol.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROTOCOL_VERSION = "2024-11-05"
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602


@dataclass(frozen=True, slots=True)
class FakeTool:
    """One tool. `run` takes the arguments and returns the text of the result, or raises ValueError with the device's
    complaint."""

    name: str
    description: str
    run: Callable[[dict[str, Any]], str]
    properties: Mapping[str, Any] = field(default_factory=dict)
    required: Sequence[str] = ()
    for_user: bool = False
    """Shown only to who asks `withUserTools`."""

    def described(self) -> dict[str, Any]:
        """As `tools/list` shows it."""
        schema: dict[str, Any] = {"type": "object", "properties": dict(self.properties)}
        if self.required:
            schema["required"] = list(self.required)
        described = {"name": self.name, "description": self.description, "inputSchema": schema}
        return {**described, "annotations": {"audience": ["user"]}} if self.for_user else described


class DeviceTools:
    """A device with a volume knob and a status, plus whatever `extra` brings; `page_size` tools per page of
    `tools/list`."""

    def __init__(self, extra: Sequence[FakeTool] = (), *, volume: int = 70, page_size: int = 2) -> None:
        self.volume = volume
        self.page_size = page_size
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """Every `tools/call`: (name, arguments)."""
        self.vision: dict[str, Any] | None = None
        """`capabilities.vision` of the server's `initialize`: where to send pictures, and the token for it."""
        self.initialized = False
        self.listed = False
        """True once the last page has been asked for."""
        tools = [
            FakeTool(
                "self.get_device_status", "The device's state: speaker volume, screen, battery, network.", self._status
            ),
            FakeTool(
                "self.audio_speaker.set_volume",
                "Set the volume of the speaker. Ask for the current volume first when it is not known.",
                self._set_volume,
                {"volume": {"type": "integer", "minimum": 0, "maximum": 100}},
                ["volume"],
            ),
            FakeTool(
                "self.screen.set_brightness",
                "Set the brightness of the screen.",
                lambda arguments: "true",
                {"brightness": {"type": "integer", "minimum": 0, "maximum": 100}},
                ["brightness"],
            ),
            *extra,
        ]
        self.tools = {tool.name: tool for tool in tools}

    def answer(self, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        """The device's JSON-RPC answer to one payload, None when none is due (a notification, or an answer to us)."""
        method, number = payload.get("method"), payload.get("id")
        if method is None or number is None:
            self.initialized = self.initialized or method == "notifications/initialized"
            return None
        parameters = payload.get("params") or {}
        match method:
            case "initialize":
                self.vision = (parameters.get("capabilities") or {}).get("vision")
                server = {"name": "simulated-device", "version": "1.0"}
                return _result(
                    number, {"protocolVersion": PROTOCOL_VERSION, "capabilities": {"tools": {}}, "serverInfo": server}
                )
            case "tools/list":
                return _result(number, self._page(parameters.get("cursor") or "", parameters.get("withUserTools")))
            case "tools/call":
                return self._call(number, parameters)
        return _error(number, METHOD_NOT_FOUND, f"Method not implemented: {method}")

    def _page(self, cursor: str, with_user_tools: object) -> dict[str, Any]:
        names = [name for name, tool in self.tools.items() if with_user_tools is True or not tool.for_user]
        start = names.index(cursor) if cursor in names else 0
        page: dict[str, Any] = {
            "tools": [self.tools[name].described() for name in names[start : start + self.page_size]]
        }
        if start + self.page_size < len(names):
            page["nextCursor"] = names[start + self.page_size]
        else:
            self.listed = True
        return page

    def _call(self, number: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
        name, arguments = str(parameters.get("name")), dict(parameters.get("arguments") or {})
        self.calls.append((name, arguments))
        tool = self.tools.get(name)
        if tool is None:
            return _error(number, INVALID_PARAMS, f"Unknown tool: {name}")
        missing = [wanted for wanted in tool.required if wanted not in arguments]
        if missing:
            return _error(number, INVALID_PARAMS, f"Missing valid argument: {missing[0]}")
        try:
            text = tool.run(arguments)
        except ValueError as complaint:
            return _error(number, INVALID_PARAMS, str(complaint))
        return _result(number, {"content": [{"type": "text", "text": text}], "isError": False})

    def _status(self, arguments: dict[str, Any]) -> str:
        return json.dumps(
            {"audio_speaker": {"volume": self.volume}, "screen": {"brightness": 75}, "network": {"type": "wifi"}}
        )

    def _set_volume(self, arguments: dict[str, Any]) -> str:
        volume = arguments["volume"]
        if not isinstance(volume, int) or isinstance(volume, bool) or not 0 <= volume <= 100:
            raise ValueError(f"Value is out of range: {volume!r}")
        self.volume = volume
        return "true"


def _result(number: Any, result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def _error(number: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
