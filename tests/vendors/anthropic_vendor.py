"""Anthropic's Messages API from the vendor's side: it refuses what the real one refuses, and streams the same events.
Source: platform.claude.com/docs/en/api/messages, .../api/errors, .../build-with-claude/streaming."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest

CHAT: Final = "chat"
ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
_KEYS: Final = frozenset(
    {
        "model", "max_tokens", "messages", "system", "tools", "tool_choice", "stream", "temperature", "top_p", "top_k",
        "thinking", "output_config", "metadata", "stop_sequences",
    }
)  # fmt: skip
_BLOCKS: Final = {
    "text": {"text"},
    "image": {"source"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "content"},
}
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
MAX_MARKS: Final = 4


class AnthropicVendor(HttpVendor):
    """Answers at /v1/messages. `Script.answer`: a text, or a list of blocks: a text, ("tool", id, name, pieces),
    ("thinking", text), or bytes sent as they are. `always_thinks`: its model cannot do without."""

    def __init__(self, api_key: str = "", *, always_thinks: bool = False) -> None:
        super().__init__()
        self._api_key = api_key
        self._always_thinks = always_thinks

    def kind(self, request: VendorRequest) -> str:
        return CHAT if request.path == "/v1/messages" else request.path

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        error = {"type": ERRORS.get(status, "api_error"), "message": message}
        return orjson.dumps({"type": "error", "error": error, "request_id": "req_1"})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if self.kind(request) != CHAT or request.method != "POST":
            raise VendorRefusal(404, "Not found")
        if request.headers.get("authorization") != f"Bearer {self._api_key}":
            raise VendorRefusal(401, "invalid x-api-key")
        body = request.json()
        match request.headers.get("anthropic-version"):
            case "2026-10-21":
                for key in body.keys() & {"temperature", "top_p", "top_k"}:
                    raise VendorRefusal(400, f"{key}: Extra inputs are not permitted")
            case "2023-06-01":
                pass
            case _:
                raise VendorRefusal(400, "anthropic-version: header is required")
        if self._always_thinks and body.get("thinking", {}).get("type") == "disabled":
            raise VendorRefusal(400, '"thinking.type.disabled" is not supported for this model.', "scripted")
        check_request(body)
        blocks = script.answer if script.answer is not None else "It is a fine day. What shall we do?"
        return VendorAnswer(self.events([blocks] if isinstance(blocks, str) else blocks), "text/event-stream")

    def events(self, blocks: Sequence[Any]) -> Iterator[bytes]:
        """The events of an answer."""
        usage = {"input_tokens": 9, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        message = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        waiting = _event({"type": "message_start", "message": message}) + _event({"type": "ping"})
        reason = "end_turn"
        for index, block in enumerate(blocks):
            if isinstance(block, bytes):
                yield waiting + block
                waiting = b""
                continue
            reason = "tool_use" if block[0] == "tool" else reason
            begun, deltas = _block(block)
            yield waiting + _event({"type": "content_block_start", "index": index, "content_block": begun})
            waiting = b""
            for delta in deltas:
                yield _event({"type": "content_block_delta", "index": index, "delta": delta})
            yield _event({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": reason, "stop_sequence": None}
        yield waiting + _event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 15}})
        yield _event({"type": "message_stop"})


def _event(event: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))


def _block(block: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the block as it begins, its deltas)."""
    if isinstance(block, str):
        half = len(block) // 2 or 1
        pieces = [block[:half], block[half:]]
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces if piece]
    if block[0] == "thinking":
        thought = {"type": "thinking_delta", "thinking": block[1]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [
            thought,
            {"type": "signature_delta", "signature": "s"},
        ]
    _, identity, name, pieces = block
    begun = {"type": "tool_use", "id": identity, "name": name, "input": {}}
    return begun, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]


def check_request(body: Mapping[str, Any]) -> None:
    """Raise VendorRefusal for what the Messages API refuses."""
    for key in body.keys() - _KEYS:
        raise VendorRefusal(400, f"{key}: Extra inputs are not permitted")
    if not isinstance(body.get("model"), str) or not isinstance(body.get("max_tokens"), int):
        raise VendorRefusal(400, "max_tokens: Field required")
    if not 0 <= body.get("temperature", 1) <= 1:
        raise VendorRefusal(400, "temperature: range: 0..1")
    if body.get("thinking", {"type": "disabled"})["type"] not in ("enabled", "disabled", "adaptive"):
        raise VendorRefusal(400, "thinking: Input tag does not match any of the expected tags")
    for block in _as_blocks(body.get("system", ())):
        if block["type"] != "text" or not block["text"]:
            raise VendorRefusal(400, "system: text content blocks must be non-empty")
    for tool in body.get("tools", ()):
        _check_tool(tool)
    _check_marks(body)
    _check_messages(body["messages"], has_tools="tools" in body)


def _as_blocks(content: Any) -> Any:
    """A text is short for one block of it."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _check_tool(tool: Mapping[str, Any]) -> None:
    if tool.keys() - {"name", "description", "input_schema", "cache_control"}:
        raise VendorRefusal(400, f"tools: Extra inputs are not permitted: {tool}")
    if not _NAME.fullmatch(tool["name"]) or tool["input_schema"].get("type") != "object":
        raise VendorRefusal(400, f"tools: invalid: {tool}")


def _check_marks(body: Mapping[str, Any]) -> None:
    blocks = [*body.get("tools", ()), *_as_blocks(body.get("system", ()))]
    blocks += [block for message in body["messages"] for block in _as_blocks(message["content"])]
    marks = [block["cache_control"] for block in blocks if "cache_control" in block]
    if len(marks) > MAX_MARKS or any(mark != {"type": "ephemeral"} for mark in marks):
        raise VendorRefusal(400, f"A maximum of 4 blocks with cache_control may be provided. Found {len(marks)}.")


def _check_messages(messages: Sequence[Mapping[str, Any]], *, has_tools: bool) -> None:
    if not messages or messages[0]["role"] != "user" or messages[-1]["role"] != "user":
        raise VendorRefusal(400, "messages: the first and the last message must use the user role")
    seen: set[str] = set()
    waiting: list[str] = []
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if message["role"] not in ("user", "assistant") or message.keys() != {"role", "content"}:
            raise VendorRefusal(400, f'{where}: Unexpected role "{message["role"]}".')
        content = _as_blocks(message["content"])
        if not content:
            raise VendorRefusal(400, f"{where}: all messages must have non-empty content")
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        if sorted(results) != sorted(waiting):
            raise VendorRefusal(400, f"{where}: tool_use ids were found without tool_result blocks immediately after")
        kinds = [block["type"] for block in content]
        if "tool_result" in kinds[len(results) :]:
            raise VendorRefusal(400, f"{where}: tool_result blocks must come first")
        waiting = []
        for block in content:
            _check_block(block, where, message["role"])
            if block["type"] == "tool_use":
                if block["id"] in seen:
                    raise VendorRefusal(400, f"{where}: `tool_use` ids must be unique")
                seen.add(block["id"])
                waiting.append(block["id"])
    if seen and not has_tools:
        message = "Requests which include `tool_use` or `tool_result` blocks must define tools"
        raise VendorRefusal(400, message, "scripted")


def _check_block(block: Mapping[str, Any], where: str, role: str) -> None:
    kind = block["type"]
    if kind not in _BLOCKS or block.keys() - {"type", "cache_control"} != _BLOCKS[kind]:
        raise VendorRefusal(400, f"{where}: Input tag {block} does not match any of the expected tags")
    if (kind == "tool_use") != (role == "assistant") and kind != "text":
        raise VendorRefusal(400, f"{where}: {kind} blocks cannot be in {role} messages")
    if kind == "text" and not block["text"].strip():
        raise VendorRefusal(400, f"{where}: text content blocks must contain non-whitespace text")
    if kind == "tool_use" and not (_ID.fullmatch(block["id"]) and isinstance(block["input"], dict)):
        raise VendorRefusal(400, f"{where}: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if kind == "image" and block["source"].keys() != {"type", "media_type", "data"}:
        raise VendorRefusal(400, f"{where}: image.source: invalid")
