"""An application of Bailian (DashScope) on a loopback port, as strict as the real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from tests.vendors.json_rules import body_of, cut

KEY = "secret-key"
APP = "app0123456789"
PATH = f"/api/v1/apps/{APP}/completion"


class BailianVendor(HttpVendor):
    """Answers `reply`; a script's `answer` is the reply to one question. `inputs`: what it was asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reply = "It is late, and the moon is up."
        self.fail: dict[str, str] | None = None
        """Told in the middle of the next answer."""
        self.inputs: list[dict[str, Any]] = []

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return orjson.dumps({"code": kind, "message": message, "request_id": "r"})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.path != PATH:
            raise VendorRefusal(404, "app not found", "App.NotFound")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise VendorRefusal(401, "Invalid API-key provided.", "InvalidApiKey")
        if request.headers.get("x-dashscope-sse") != "enable" or request.headers["accept"] != "text/event-stream":
            raise VendorRefusal(400, "streaming only", "InvalidParameter")
        body = body_of(request, {"input": dict, "parameters": dict}, {"model": str, "debug": dict})
        if body["parameters"] != {"incremental_output": True}:
            raise VendorRefusal(400, "parameters", "InvalidParameter")
        given = body["input"]
        if set(given) - {"messages", "session_id", "memory_id"}:
            raise VendorRefusal(400, f"input: {sorted(given)}", "InvalidParameter")
        roles = [message["role"] for message in given["messages"]]
        talk = roles[1:] if roles[:1] == ["system"] else roles
        if talk[::2] != ["user"] * len(talk[::2]) or talk[1::2] != ["assistant"] * len(talk[1::2]) or not len(talk) % 2:
            raise VendorRefusal(400, f"roles: {roles}", "InvalidParameter")
        if any(set(message) != {"role", "content"} or not message["content"] for message in given["messages"]):
            raise VendorRefusal(400, "messages", "InvalidParameter")
        self.inputs.append(given)
        return VendorAnswer(
            self._events(script.answer if script.answer is not None else self.reply), "text/event-stream;charset=UTF-8"
        )

    def _events(self, said: str) -> Iterator[bytes]:
        for number, piece in enumerate([*cut(said), ""], 1):
            output = {"session_id": "s", "finish_reason": "null" if piece else "stop", "text": piece}
            if not piece and self.fail is not None:
                failed, self.fail = self.fail, None
                yield b"id:%d\nevent:error\n:HTTP_STATUS/400\ndata:%s\n\n" % (number, orjson.dumps(failed))
                return
            value = orjson.dumps({"output": output, "usage": {}, "request_id": "r"})
            yield b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:%s\n\n" % (number, value)
