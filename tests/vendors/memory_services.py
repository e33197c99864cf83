"""Services that keep memories, on a loopback port, as strict as the real ones: the platform of Mem0, a Mem0 server of
one's own, and a PowerMem server. They remember what the user said, word for word."""

from __future__ import annotations

import urllib.parse
from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from tests.vendors.json_rules import body_of

KEY = "secret-key"
ANY = "any"


class MemoryService(HttpVendor):
    """Common to all: one kind of request."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kept: dict[str, list[dict[str, Any]]] = {}
        """Who -> memories, the newest last."""

    def kind(self, request: VendorRequest) -> str:
        return ANY

    def keep(self, who: str, said: str, key: str) -> None:
        """One more memory."""
        found = self.kept.setdefault(who, [])
        when = f"2026-05-06T07:{len(found):02d}:09.123456Z"
        found.append({key: said, "score": 0.5, "created_at": when, "updated_at": when})


def _messages(body: dict[str, Any]) -> str:
    if not body["messages"] or any(set(each) != {"role", "content"} for each in body["messages"]):
        raise VendorRefusal(400, "messages")
    if any(each["role"] not in ("user", "assistant") for each in body["messages"]):
        raise VendorRefusal(400, "role")
    return next(each["content"] for each in body["messages"] if each["role"] == "user")


class Mem0Platform(MemoryService):
    """api.mem0.ai."""

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.headers.get("authorization") != f"Token {KEY}":
            raise VendorRefusal(401, "bad key")
        if request.path == "/v3/memories/add/":
            body = body_of(request, {"messages": list, "user_id": str})
            self.keep(body["user_id"], _messages(body), "memory")
            return VendorAnswer(b'{"results": []}')
        if request.path != "/v3/memories/search/":
            raise VendorRefusal(404, "no such path")
        body = body_of(request, {"query": str, "filters": dict, "top_k": int})
        found = self.kept.get(body["filters"]["user_id"], [])[: body["top_k"]]
        return VendorAnswer(orjson.dumps({"results": found}))


class Mem0Server(MemoryService):
    """A server of one's own. `old`: of 2025, which asks for no key, knows no top_k and demands user_id."""

    def __init__(self, *, old: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._old = old

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return orjson.dumps({"detail": message})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if not self._old and request.headers.get("x-api-key") != KEY:
            raise VendorRefusal(401, "Authentication required. Provide a Bearer token or X-API-Key header.")
        if request.path == "/memories":
            body = body_of(request, {"messages": list, "user_id": str})
            self.keep(body["user_id"], _messages(body), "memory")
            return VendorAnswer(b'{"results": []}')
        if request.path != "/search":
            raise VendorRefusal(404, "Not Found")
        body = body_of(request, {"query": str}, {"filters": dict, "top_k": int, "user_id": str})
        who = body.get("user_id") if self._old else body.get("filters", {}).get("user_id")
        if not who:
            raise VendorRefusal(500 if self._old else 400, "At least one of user_id, agent_id, run_id is required")
        found = self.kept.get(who, [])
        return VendorAnswer(orjson.dumps({"results": found if self._old else found[: body.get("top_k", 100)]}))


class PowerMemServer(MemoryService):
    """powermem-server."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.profiles: dict[str, Any] = {}
        self.succeeds = True

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return orjson.dumps({"success": False, "error": {"code": kind, "message": message, "details": {}}})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if request.headers.get("x-api-key") != KEY:
            raise VendorRefusal(401, "Invalid API key", "UNAUTHORIZED")
        data = self._data(request)
        if data is None:
            return VendorAnswer(self.error_body(404, "no profile", "USER_PROFILE_NOT_FOUND"), status=404)
        return VendorAnswer(orjson.dumps({"success": self.succeeds, "data": data, "message": "", "timestamp": "t"}))

    def _data(self, request: VendorRequest) -> Any:
        if request.path == "/api/v1/memories":
            body = body_of(request, {"content": str, "user_id": str}, {"run_id": str})
            self.keep(body["user_id"], body["content"], "content")
            return []
        if request.path == "/api/v1/memories/search":
            body = body_of(request, {"query": str, "user_id": str, "limit": int})
            if not 1 <= body["limit"] <= 100:
                raise VendorRefusal(422, "limit", "INVALID_REQUEST")
            found = self.kept.get(body["user_id"], [])[: body["limit"]]
            return {"results": found, "total": len(found), "query": body["query"]}
        if request.path.startswith("/api/v1/users/") and request.path.endswith("/profile"):
            who = urllib.parse.unquote(request.path.split("/")[4])
            if request.method == "POST":
                body = body_of(request, {"messages": list}, {"run_id": str})
                self.keep(who, _messages(body), "content")
                self.profiles[who] = {"profile_content": f"Says: {_messages(body)}", "topics": None}
                return {"profile_extracted": True}
            return {"user_id": who, **self.profiles[who]} if who in self.profiles else None
        raise VendorRefusal(404, "Not Found", "NOT_FOUND")
