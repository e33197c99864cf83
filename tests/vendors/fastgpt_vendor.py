"""FastGPT on a loopback port: one application, as strict as the real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from tests.vendors.json_rules import body_of, cut, event

KEY = "secret-key"
CHAT = "/api/v1/chat/completions"


class FastGptVendor(HttpVendor):
    """Answers `reply`; a script's `answer` is the reply to one question. Keeps what is said in `chats`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reply = "It is late, and the moon is up."
        self.refuse: dict[str, Any] | None = None
        """The body of the next refusal, with status 200."""
        self.fail: dict[str, Any] | None = None
        """Told in the middle of the next answer."""
        self.chats: dict[str, list[str]] = {}
        self.variables: dict[str, Any] = {}

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.path != CHAT:
            raise VendorRefusal(404, "Not Found")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise VendorRefusal(403, "unAuthApiKey")
        required = {"stream": bool, "detail": bool, "variables": dict, "messages": list}
        body = body_of(request, required, {"chatId": str})
        if not body["stream"]:
            raise VendorRefusal(400, "stream")
        chat = body.get("chatId")
        if chat is not None and not 0 < len(chat) < 250:
            raise VendorRefusal(400, "chatId")
        if len(body["messages"]) != 1 or body["messages"][0]["role"] != "user" or not body["messages"][0]["content"]:
            raise VendorRefusal(400, "messages")
        if self.refuse is not None:
            refused, self.refuse = self.refuse, None
            return VendorAnswer(orjson.dumps(refused))
        self.variables = body["variables"]
        self.chats.setdefault(chat or "", []).append(body["messages"][0]["content"])
        said = script.answer if script.answer is not None else self.reply
        return VendorAnswer(self._events(said, detail=body["detail"]), "text/event-stream;charset=utf-8")

    def _events(self, said: str, *, detail: bool) -> Iterator[bytes]:
        head = event("flowNodeStatus", {"status": "running", "name": "AI"}) if detail else b""
        for piece in cut(said):
            yield head + self._chunk({"role": "assistant", "content": piece}, None, detail)
            head = b""
        if self.fail is not None:
            failed, self.fail = self.fail, None
            yield event("error", failed)
            return
        yield self._chunk({}, "stop", detail)
        yield event("answer" if detail else "", "[DONE]")
        if detail:
            yield event("flowResponses", [{"moduleName": "AI", "runningTime": 1.2}])

    @staticmethod
    def _chunk(delta: dict[str, str], reason: str | None, detail: bool) -> bytes:
        choices = [{"delta": delta, "index": 0, "finish_reason": reason}]
        value = {"id": "", "object": "", "created": 0, "model": "", "choices": choices}
        return event("answer" if detail else "", value)
