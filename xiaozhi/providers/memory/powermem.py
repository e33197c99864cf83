"""Memory kept by a PowerMem server. Source: github.com/oceanbase/powermem, "HTTP API Server" (`powermem-server`,
/api/v1/memories, /api/v1/memories/search, /api/v1/users/USER/profile).

Not its library in this process: it asks for versions of numpy and greenlet that gevent and the models of this server
cannot work with, and for a dozen vendors' SDKs. So the model, the embedder and the database are set where
`powermem-server` runs (its .env file), and not in this block: `llm`, `embedder`, `vector_store` and their older names
mean nothing here."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import AliasChoices, Field

from xiaozhi.chat import Message
from xiaozhi.errors import VendorGarbage, VendorRejected
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.families.http_options import HttpUrl
from xiaozhi.providers.families.memory_services import MemoryServiceOptions, recalled, said_in
from xiaozhi.providers.registry import provider

MAX_RECALLED = 100


class PowerMemOptions(MemoryServiceOptions):
    """`api_key`: one of POWERMEM_SERVER_API_KEYS; empty where the server asks for none."""

    base_url: HttpUrl = Field("http://127.0.0.1:8848", validation_alias=AliasChoices("base_url", "url"))
    enable_user_profile: bool = False
    """Also keep and recall who the user is; the server's database must be OceanBase."""
    top_k: int = Field(30, ge=1, le=MAX_RECALLED)
    """Memories recalled for one question."""


@provider("memory", "powermem", PowerMemOptions)
class PowerMem(Memory):
    """One PowerMem user per device."""

    def __init__(self, options: PowerMemOptions) -> None:
        self._root = f"{options.base_url}/api/v1"
        self._profiles = options.enable_user_profile
        self._top_k = options.top_k
        self._http = options.service("powermem", "X-API-Key")

    def recall(self, device_id: str, query: str) -> str:
        if not query.strip():
            return ""
        body = {"query": query, "user_id": device_id, "limit": self._top_k}
        data = self._data("POST", "/memories/search", body)
        results = data.get("results") if isinstance(data, Mapping) else None
        if not isinstance(results, list):
            raise VendorGarbage("powermem", "no list of results in the answer")
        profile = self._profile(device_id) if self._profiles else ""
        return "\n".join(filter(None, (profile, recalled("powermem", results, "content"))))

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        said = said_in(messages)
        if not said:
            return
        if self._profiles:  # keeps the memories as well
            self._data("POST", self._profile_path(device_id), {"messages": said, "run_id": session_id})
            return
        content = "\n".join(f"{each['role']}: {each['content']}" for each in said)
        self._data("POST", "/memories", {"content": content, "user_id": device_id, "run_id": session_id})

    def _profile(self, device_id: str) -> str:
        try:
            data = self._data("GET", self._profile_path(device_id), None)
        except VendorRejected as error:
            if error.status == 404:  # nothing is known of this user yet
                return ""
            raise
        found = data if isinstance(data, Mapping) else {}
        if found.get("profile_content"):
            return str(found["profile_content"])
        return orjson.dumps(found["topics"]).decode() if found.get("topics") else ""

    def _profile_path(self, device_id: str) -> str:
        return f"/users/{urllib.parse.quote(device_id, safe='')}/profile"

    def _data(self, method: str, path: str, body: Any) -> Any:
        answer = self._http.json(method, f"{self._root}{path}", json=body)
        if not isinstance(answer, Mapping) or answer.get("success") is not True:
            raise VendorGarbage("powermem", "no successful answer of a PowerMem server")
        return answer.get("data")

    def close(self) -> None:
        self._http.close()
