"""Dify on a loopback port: one application of each mode, as strict as the real one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from tests.vendors.json_rules import body_of, cut, event

KEY = "secret-key"
ASK = "ask"
STOP = "stop"
_MODES = {"/v1/chat-messages": "chat", "/v1/workflows/run": "workflow", "/v1/completion-messages": "completion"}


class DifyVendor(HttpVendor):
    """Answers `reply`; a script's `answer` is the reply to one question, or a list of events. What it is asked and told
    to stop is in `queries` and `stopped`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reply = "It is late, and the moon is up."
        self.outputs: Any = None
        """Of a workflow, in place of the reply."""
        self.chunks = True
        """The end node of the workflow passes on the text of the model."""
        self.queries: list[str] = []
        self.stopped: list[str] = []
        self.conversations: dict[str, str] = {}
        """Conversation -> its user."""
        self._running: dict[str, tuple[str, str]] = {}
        self._serial = itertools.count(1)

    def kind(self, request: VendorRequest) -> str:
        return STOP if request.path.endswith("/stop") else ASK

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return orjson.dumps({"code": kind, "message": message, "status": status})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise VendorRefusal(401, "Access token is invalid", "unauthorized")
        if self.kind(request) == STOP:
            return self._stop(request)
        mode = _MODES.get(request.path)
        if mode is None:
            raise VendorRefusal(404, "Not Found", "not_found")
        required = {"inputs": dict, "response_mode": str, "user": str}
        chat = {"query": str, "conversation_id": str, "auto_generate_name": bool, "files": list}
        body = body_of(request, required, chat if mode == "chat" else {})
        if body["response_mode"] != "streaming" or not body["user"]:
            raise VendorRefusal(400, "response_mode and user", "invalid_param")
        query = body.get("query") if mode == "chat" else body["inputs"].get("query")
        if not query:
            raise VendorRefusal(400, "query is required", "invalid_param")
        conversation = body.get("conversation_id") or ""
        if conversation and self.conversations.get(conversation) != body["user"]:
            raise VendorRefusal(404, "Conversation Not Exists.", "not_found")
        self.queries.append(query)
        number = next(self._serial)
        task = f"task-{number}"
        if mode == "chat":
            conversation = conversation or f"conversation-{number}"
            self.conversations[conversation] = body["user"]
        self._running[task] = body["user"], request.path if mode != "workflow" else "/v1/workflows/tasks"
        said = script.answer if script.answer is not None else self.reply
        if isinstance(said, list):
            events = (event("", each) for each in said)
        elif mode == "workflow":
            events = self._workflow(task, said)
        else:
            events = self._message(task, conversation, said)
        return VendorAnswer(events, "text/event-stream; charset=utf-8")

    def _message(self, task: str, conversation: str, said: str) -> Iterator[bytes]:
        base = {"task_id": task, "message_id": "m", "conversation_id": conversation or "of no use"}
        head = b"event: ping\n\n"
        for piece in cut(said):
            yield head + event("", {"event": "message", **base, "answer": piece})
            head = b""
        del self._running[task]
        yield event("", {"event": "message_end", **base, "metadata": {"usage": {}}})

    def _workflow(self, task: str, said: str) -> Iterator[bytes]:
        base = {"task_id": task, "workflow_run_id": "run"}
        yield event("", {"event": "workflow_started", **base, "data": {"id": "run"}})
        for piece in cut(said) if self.chunks else ():
            chunk = {"text": piece, "from_variable_selector": ["llm", "text"]}
            yield event("", {"event": "text_chunk", **base, "data": chunk})
        outputs = self.outputs if self.outputs is not None else {"answer": said}
        del self._running[task]
        yield event(
            "",
            {
                "event": "workflow_finished",
                **base,
                "data": {"id": "run", "status": "succeeded", "outputs": outputs, "error": None},
            },
        )

    def _stop(self, request: VendorRequest) -> VendorAnswer:
        body = body_of(request, {"user": str})
        path, _, task = request.path.removesuffix("/stop").rpartition("/")
        if self._running.pop(task, None) != (body["user"], path):
            raise VendorRefusal(404, "no such task of this user", "not_found")
        self.stopped.append(task)
        return VendorAnswer(b'{"result": "success"}')
