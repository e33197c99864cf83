"""Coze on a loopback port: one bot, as strict as the real one. A conversation answers one question at a time."""

from __future__ import annotations

import itertools
import urllib.parse
from collections.abc import Iterator
from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from tests.vendors.json_rules import body_of, cut, event

TOKEN = "secret-key"
BOT = "7347000000000000001"
USER = "u1"
ASK = "ask"
CANCEL = "cancel"


def _event(name: str, value: Any) -> bytes:
    return event(name, value, tag="event:{}".format).replace(b"\ndata: ", b"\ndata:")


class CozeVendor(HttpVendor):
    """Answers `reply`; a script's `answer` is the reply to one question, or a list of (event, value)."""

    def __init__(self, *, one_at_a_time: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.reply = "It is late, and the moon is up."
        self.refuse: tuple[int, str] | None = None
        """The code and message of the next refusal, with status 200."""
        self.queries: list[str] = []
        self.cancelled: list[str] = []
        self.conversations: dict[str, str] = {}
        """Conversation -> the chat that runs in it, "" for none."""
        self._one_at_a_time = one_at_a_time
        self._serial = itertools.count(1)

    def kind(self, request: VendorRequest) -> str:
        return CANCEL if request.path.endswith("/cancel") else ASK

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return orjson.dumps({"code": 4000, "msg": message})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return VendorAnswer(orjson.dumps({"code": 700012006, "msg": "access token invalid"}), status=401)
        if self.kind(request) == CANCEL:
            return self._cancel(request)
        path, _, query = request.path.partition("?")
        if path != "/v3/chat":
            raise VendorRefusal(404, "no such path")
        required = {"bot_id": str, "user_id": str, "stream": bool, "additional_messages": list}
        body = body_of(request, required, {"auto_save_history": bool})
        if not body["stream"] or body["user_id"] != USER:
            raise VendorRefusal(400, "stream, user_id")
        (given,) = body["additional_messages"]
        message = {key: value for key, value in given.items() if value is not None}
        if set(message) != {"role", "type", "content", "content_type"} or not message["content"]:
            raise VendorRefusal(400, "additional_messages")
        if (message["role"], message["type"], message["content_type"]) != ("user", "question", "text"):
            raise VendorRefusal(400, "additional_messages")
        refused, self.refuse = self.refuse, None
        conversation = dict(urllib.parse.parse_qsl(query)).get("conversation_id", "")
        if body["bot_id"] != BOT:
            refused = 4006, "invalid bot"
        elif conversation and conversation not in self.conversations:
            refused = 4002, "invalid conversation"
        elif conversation and self._one_at_a_time and self.conversations[conversation]:
            refused = 4016, "the conversation is occupied"
        if refused is not None:
            return VendorAnswer(orjson.dumps({"code": refused[0], "msg": refused[1], "detail": {"logid": "l"}}))
        self.queries.append(message["content"])
        number = next(self._serial)
        conversation = conversation or f"{number}00"
        said = script.answer if script.answer is not None else self.reply
        return VendorAnswer(self._events(f"{number}", conversation, said), "text/event-stream")

    def _events(self, chat: str, conversation: str, said: Any) -> Iterator[bytes]:
        self.conversations[conversation] = chat
        state = {"id": chat, "conversation_id": conversation, "bot_id": BOT}
        yield _event("conversation.chat.created", {**state, "status": "created"}) + _event(
            "conversation.chat.in_progress", {**state, "status": "in_progress"}
        )
        message = {"id": "m1", "conversation_id": conversation, "chat_id": chat, "role": "assistant"}
        if isinstance(said, str):
            answer = {**message, "type": "answer", "content_type": "text"}
            for piece in cut(said):
                yield _event("conversation.message.delta", {**answer, "content": piece})
            yield _event("conversation.message.completed", {**answer, "content": said})
            verbose = {**message, "id": "m2", "type": "verbose", "content_type": "text", "content": '{"msg_type":"x"}'}
            yield _event("conversation.message.completed", verbose)
        else:
            for name, value in said:
                yield _event(name, {**message, **value} if "message" in name else value)
        self.conversations[conversation] = ""
        yield _event("conversation.chat.completed", {**state, "status": "completed"})
        yield _event("done", '"[DONE]"')

    def _cancel(self, request: VendorRequest) -> VendorAnswer:
        body = body_of(request, {"conversation_id": str, "chat_id": str})
        if self.conversations.get(body["conversation_id"]) != body["chat_id"]:
            return VendorAnswer(orjson.dumps({"code": 4104, "msg": "cannot be cancelled"}))
        self.conversations[body["conversation_id"]] = ""
        self.cancelled.append(body["chat_id"])
        return VendorAnswer(orjson.dumps({"code": 0, "msg": "", "data": {"id": body["chat_id"], "status": "canceled"}}))
