"""The conversation API of Home Assistant on a loopback port, as strict as the real one."""

from __future__ import annotations

from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from tests.vendors.json_rules import body_of

TOKEN = "secret-key"
PATH = "/api/conversation/process"


class HassAgent(HttpVendor):
    """Answers `speech`; a script's `answer` replaces the whole of `response`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.speech = "Turned on the light."
        self.next_conversation = ""
        """It begins a new conversation of this name instead of the one that it is told."""
        self.asked: list[dict[str, Any]] = []

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return f"{status}: {message}".encode()

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.path != PATH:
            raise VendorRefusal(404, "Not Found")
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise VendorRefusal(401, "Unauthorized")
        body = body_of(request, {"text": str}, {"conversation_id": str, "language": str, "agent_id": str})
        if "agent_id" in body and not body["agent_id"].startswith("conversation."):
            raise VendorRefusal(400, "invalid agent ID")
        self.asked.append(body)
        response = {
            "speech": {"plain": {"speech": self.speech, "extra_data": None}},
            "card": {},
            "language": body.get("language", "en"),
            "response_type": "action_done",
            "data": {"targets": [], "success": [], "failed": []},
        }
        value = {
            "response": script.answer if script.answer is not None else response,
            "conversation_id": self.next_conversation or body.get("conversation_id", "01HZZZ"),
            "continue_conversation": False,
        }
        return VendorAnswer(orjson.dumps(value))
