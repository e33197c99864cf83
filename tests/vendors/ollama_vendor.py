"""Ollama's own API from its side: models that are there or not, loaded or not, and JSON lines. Source:
docs.ollama.com/api/chat, github.com/ollama/ollama api/types.go and server/routes.go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest

CHAT, LOAD = "chat", "load"
_KEYS: Final = frozenset({"model", "messages", "tools", "stream", "format", "options", "think", "keep_alive"})
_OPTIONS: Final = frozenset(
    {"num_ctx", "num_predict", "temperature", "top_p", "top_k", "frequency_penalty", "seed", "stop", "num_keep"}
)
_DURATION: Final = re.compile(r"-?\d+(?:\.\d+)?(?:ns|us|ms|s|m|h)")
_AT: Final = "2026-01-01T00:00:00.000000Z"


class OllamaVendor(HttpVendor):
    """Answers at /api/chat for one model, which is not loaded at first. `Script.answer`: a text, or a list: a text,
    ("call", name, arguments), ("thinking", text), or a dict, which is a whole line. `tools`: whether the model's
    template knows any."""

    def __init__(self, model: str = "qwen2.5", *, tools: bool = True) -> None:
        super().__init__()
        self._model = model
        self._tools = tools
        self.loaded: Mapping[str, Any] | None = None
        """The options that the model was loaded with."""
        self.loads = 0

    def kind(self, request: VendorRequest) -> str:
        if request.path != "/api/chat":
            return request.path
        return CHAT if request.json().get("messages") else LOAD

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return orjson.dumps({"error": message})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.path != "/api/chat" or request.method != "POST":
            raise VendorRefusal(404, "404 page not found")
        body = request.json()
        self._check(body)
        if self.loaded != body.get("options", {}).get("num_ctx"):
            self.loaded = body.get("options", {}).get("num_ctx")
            self.loads += 1
        if not body["messages"]:
            line = {"model": self._model, "created_at": _AT, "message": {"role": "assistant", "content": ""}}
            return VendorAnswer(orjson.dumps({**line, "done_reason": "load", "done": True}))
        parts = script.answer if script.answer is not None else "It is a fine day. What shall we do?"
        return VendorAnswer(self.lines([parts] if isinstance(parts, str) else parts), "application/x-ndjson")

    def lines(self, parts: Sequence[Any]) -> Iterator[bytes]:
        """The lines of an answer."""
        for part in parts:
            if isinstance(part, dict):
                yield orjson.dumps(part) + b"\n"
            elif isinstance(part, str):
                half = len(part) // 2 or 1
                yield from (self._line({"content": piece}) for piece in (part[:half], part[half:]) if piece)
            elif part[0] == "thinking":
                yield self._line({"content": "", "thinking": part[1]})
            else:
                call = {"id": "call_x", "function": {"index": 0, "name": part[1], "arguments": part[2]}}
                yield self._line({"content": "", "tool_calls": [call]})
        if not any(isinstance(part, dict) for part in parts):
            yield self._line({"content": ""}, done=True, done_reason="stop", total_duration=1, eval_count=2)

    def _line(self, message: Mapping[str, Any], **more: Any) -> bytes:
        line = {"model": self._model, "created_at": _AT, "message": {"role": "assistant", **message}, "done": False}
        return orjson.dumps(line | more) + b"\n"

    def _check(self, body: Mapping[str, Any]) -> None:
        for key in body.keys() - _KEYS:
            raise VendorRefusal(400, f"ignored by the real one, and meant by nobody: {key}")
        if body.get("model") != self._model:
            raise VendorRefusal(404, f"model '{body.get('model')}' not found", "scripted")
        if body.get("think") not in (None, True, False, "low", "medium", "high"):
            raise VendorRefusal(400, f'invalid think value: "{body["think"]}"')
        if isinstance(body.get("keep_alive"), str) and not _DURATION.fullmatch(body["keep_alive"]):
            raise VendorRefusal(400, f'time: missing unit in duration "{body["keep_alive"]}"')
        for key in body.get("options", {}).keys() - _OPTIONS:
            raise VendorRefusal(400, f"invalid option provided: {key}")
        if body.get("tools") and not self._tools:
            said = f'{{"error":"registry.ollama.ai/library/{self._model} does not support tools"}}'
            raise VendorRefusal(400, said, "scripted")
        for tool in body.get("tools") or ():
            if tool["type"] != "function" or tool["function"]["parameters"]["type"] != "object":
                raise VendorRefusal(400, f"invalid tool: {tool}")
        for message in body["messages"]:
            _check_message(message)


def _check_message(message: Mapping[str, Any]) -> None:
    if message["role"] not in ("system", "user", "assistant", "tool") or not isinstance(
        message.get("content", ""), str
    ):
        raise VendorRefusal(400, f"invalid role or content: {message}")
    if message.keys() - {"role", "content", "thinking", "images", "tool_calls", "tool_name"}:
        raise VendorRefusal(400, f"ignored by the real one, and meant by nobody: {sorted(message)}")
    if (message["role"] == "tool") != ("tool_name" in message):
        raise VendorRefusal(400, "a result without the name of its tool")
    for call in message.get("tool_calls", ()):
        if not isinstance(call["function"]["arguments"], dict):
            raise VendorRefusal(
                400,
                "json: cannot unmarshal string into Go struct field ChatRequest.messages.tool_calls.function.arguments "
                "of type map[string]interface {}",
            )
