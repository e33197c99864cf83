"""A chat vendor whose models have narrow templates and limits: it refuses what such servers refuse, in their words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from loadtest.vendors.http_vendor import Script, VendorAnswer, VendorRefusal, VendorRequest
from loadtest.vendors.openai_vendor import CHAT, OpenAiVendor
from loadtest.vendors.sounds import Sounds

Check = Callable[[Mapping[str, Any]], tuple[int, str] | None]
"""A request's body -> (status, message) of the refusal, None: it is taken."""


class StrictChat(OpenAiVendor):
    """Answers what no check refuses. `refused`: every message it refused with."""

    def __init__(self, *checks: Check, sounds: Sounds | None = None, keep_alive: bool = True) -> None:
        super().__init__(sounds=sounds, keep_alive=keep_alive)
        self._checks = checks
        self.refused: list[str] = []

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if self.kind(request) == CHAT:
            body = request.json()
            for check in self._checks:
                refusal = check(body)
                if refusal is not None:
                    self.refused.append(refusal[1])
                    raise VendorRefusal(refusal[0], refusal[1], "scripted")
        return super().answer(request, script)

    @property
    def taken(self) -> list[Mapping[str, Any]]:
        """Bodies of the chat requests, the refused ones too."""
        return [request.json() for request in self.requests if self.kind(request) == CHAT]


def context_of(characters: int, message: str) -> Check:
    """Refuses more characters than this in all messages."""

    def check(body: Mapping[str, Any]) -> tuple[int, str] | None:
        used = sum(len(each["content"] or "") for each in body["messages"])
        return (400, message) if used > characters else None

    return check


def without(key: str, message: str, status: int = 400) -> Check:
    """Refuses requests that have this key."""
    return lambda body: (status, message) if key in body else None


def without_role(role: str, message: str, status: int = 400) -> Check:
    """Refuses messages of this role."""
    return lambda body: (status, message) if any(each["role"] == role for each in body["messages"]) else None


def strictest_template(body: Mapping[str, Any]) -> tuple[int, str] | None:
    """The rules of Llama's, Mistral's, Gemma's and Qwen's templates together."""
    messages = list(body["messages"])
    if messages and messages[0]["role"] == "system":
        messages.pop(0)
    if any(each["role"] == "system" for each in messages):
        return 400, "System message must be at the beginning."
    if not messages or messages[0]["role"] != "user":
        return 400, "After the optional system message, conversation roles must alternate user/assistant/user/..."
    if messages[-1]["role"] not in ("user", "tool"):
        return 400, "Expected last role User or Tool for serving but got assistant"
    for message in body["messages"]:
        if not (message["content"] or "").strip() and not message.get("tool_calls"):
            return 400, "content must not be empty"
    return _order(messages) or _ids(messages)


def _order(messages: list[Mapping[str, Any]]) -> tuple[int, str] | None:
    allowed = {
        "user": {"assistant"},
        "assistant": {"user"},
        "calls": {"tool"},
        "tool": {"tool", "assistant", "calls"},
    }
    kinds = ["calls" if each.get("tool_calls") else each["role"] for each in messages]
    for before, after in itertools.pairwise(kinds):
        following = allowed[before] | ({"calls"} if before == "user" else set())
        if after not in following:
            return 400, f"Unexpected role {after!r} after role {before!r}"
    return None


def _ids(messages: list[Mapping[str, Any]]) -> tuple[int, str] | None:
    seen: set[str] = set()
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if not waiting or message["tool_call_id"] != waiting.pop(0):
                return 400, "tool results are not in the order of their calls"
            continue
        if waiting:
            return 400, "Not the same number of function calls and responses"
        for call in message.get("tool_calls", ()):
            if call["id"] in seen:
                return 400, f"Duplicate tool call id {call['id']}"
            seen.add(call["id"])
            waiting.append(call["id"])
    return (400, "Not the same number of function calls and responses") if waiting else None


def nine_character_ids(body: Mapping[str, Any]) -> tuple[int, str] | None:
    """Mistral's rule."""
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            if len(call["id"]) != 9 or not call["id"].isalnum():
                return 400, f"Tool call id was {call['id']} but must be a-z, A-Z, 0-9, with a length of 9."
    return None
