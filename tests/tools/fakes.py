"""Small stand-ins for what surrounds a tool: the visit's verbs, a context, a device that speaks MCP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xiaozhi.chat import ToolCall, ToolSpec
from xiaozhi.speech.voice_likeness import VoiceSample
from xiaozhi.tools.base import Action, FunctionTool, ToolContext, ToolOutcome
from xiaozhi.tools.device_mcp import DeviceMcp
from xiaozhi.tools.music import Music, Track
from xiaozhi.tools.voices import VoiceEnrolment


class RecordingActions:
    """Remembers what tools asked of the visit."""

    def __init__(self) -> None:
        self.closing = False
        self.called = False
        self.line_open = False
        self.prompts: list[str] = []
        self.played: list[Path] = []
        self.tracks: list[Track] = []
        self.music = Music()
        self.enrolment = VoiceEnrolment()
        self.recent_voices: tuple[VoiceSample, ...] = ()

    def close_after_reply(self) -> None:
        self.closing = True

    def set_prompt(self, text: str) -> None:
        self.prompts.append(text)

    def keep_line_open(self) -> None:
        self.line_open = True

    def play(self, path: Path, *, title: str = "", start_ms: float = 0.0, gain: float = 1.0) -> None:
        self.played.append(path)
        self.tracks.append(Track(path, title, start_ms, gain))

    def heard(self, ms: float | None = None) -> None:
        """The answer is over: the first song that it played was heard for `ms`, None: to its end."""
        tracks, self.tracks = self.tracks, []
        if tracks:
            tracks[0].begin(0)
            if ms is None:
                tracks[0].end(1_000)
            tracks[0].settle(1_000 if ms is None else ms)
        self.music.turn_ended(tracks, asked=True)


def context(language: str = "en", client_ip: str = "", session_id: str = "s1") -> ToolContext:
    """A context whose `actions` record."""
    return ToolContext("11:22:33:44:55:66", session_id, RecordingActions(), language=language, client_ip=client_ip)


def recorded(made: ToolContext) -> RecordingActions:
    """The recording actions of a context made by `context`."""
    assert isinstance(made.actions, RecordingActions)
    return made.actions


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall("call-1", name, arguments)


def tool(
    name: str,
    function: Callable[[Mapping[str, Any]], ToolOutcome] | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    description: str = "does something",
    **options: Any,
) -> FunctionTool:
    """A tool that answers with its own name unless told otherwise."""
    spec = ToolSpec(name, description, parameters) if parameters is not None else ToolSpec(name, description)
    run = function or (lambda arguments: ToolOutcome(Action.ASK_LLM, name))
    return FunctionTool(spec, lambda arguments, context: run(arguments), **options)


SET_VOLUME = {
    "name": "self.audio_speaker.set_volume",
    "description": "Set the volume. Call self.get_device_status first.",
    "inputSchema": {
        "type": "object",
        "properties": {"volume": {"type": "integer", "minimum": 0, "maximum": 100}},
        "required": ["volume"],
    },
}
STATUS = {
    "name": "self.get_device_status",
    "description": "Status.",
    "inputSchema": {"type": "object", "properties": {}},
}


class FakeDevice:
    """Answers MCP like the firmware: pages of `page_size` tools, the cursor being the next tool's name; errors without
    a code.

    `answers` False: it takes everything and says nothing. What it is sent is in `received`."""

    def __init__(
        self, tools: list[dict[str, Any]] | None = None, *, page_size: int = 100, answers: bool = True
    ) -> None:
        self.tools = [SET_VOLUME, STATUS] if tools is None else tools
        self.page_size = page_size
        self.answers = answers
        self.volume = 70
        self.received: list[dict[str, Any]] = []
        self.mcp: DeviceMcp | None = None

    def send(self, payload: dict[str, Any]) -> None:
        """What DeviceMcp is given as its way to the device."""
        self.received.append(payload)
        if self.answers and "id" in payload and "method" in payload:
            assert self.mcp is not None
            self.mcp.on_payload(self.answer(payload))

    def answer(self, payload: dict[str, Any]) -> dict[str, Any]:
        base = {"jsonrpc": "2.0", "id": payload["id"]}
        match payload["method"]:
            case "initialize":
                info = {"name": "bread-compact-wifi", "version": "2.2.6"}
                return {
                    **base,
                    "result": {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": info},
                }
            case "tools/list":
                return {**base, "result": self.page(payload["params"].get("cursor", ""))}
            case "tools/call":
                return {**base, **self.call(payload["params"])}
        return {**base, "error": {"message": f"Method not implemented: {payload['method']}"}}

    def requests(self, method: str) -> list[dict[str, Any]]:
        return [payload for payload in self.received if payload.get("method") == method]

    def page(self, cursor: str) -> dict[str, Any]:
        names = [described["name"] for described in self.tools]
        start = names.index(cursor) if cursor else 0
        page: dict[str, Any] = {"tools": self.tools[start : start + self.page_size]}
        if start + self.page_size < len(names):
            page["nextCursor"] = names[start + self.page_size]
        return page

    def call(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["name"] == SET_VOLUME["name"]:
            # The firmware takes nothing but a JSON number for an integer.
            if not isinstance(params["arguments"].get("volume"), int):
                return {"error": {"message": "Missing valid argument: volume"}}
            self.volume = params["arguments"]["volume"]
            return {"result": {"content": [{"type": "text", "text": "true"}], "isError": False}}
        return {"error": {"message": f"Unknown tool: {params['name']}"}}
