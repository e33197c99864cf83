"""Memory kept by Mem0. Two services with two wire formats:

    the platform        docs.mem0.ai/api-reference, REST API v3 (`/v3/memories/add/`, `/v3/memories/search/`); `host`
    one's own server    docs.mem0.ai/open-source/features/rest-api (`/memories`, `/search`); `base_url`

Not its SDK: two calls do not need one, and this way they share the vendor HTTP client's deadlines and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from xiaozhi.chat import Message
from xiaozhi.errors import VendorGarbage
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.families.http_options import HttpUrl
from xiaozhi.providers.families.memory_services import MemoryServiceOptions, recalled, said_in
from xiaozhi.providers.registry import provider

MAX_RECALLED = 30


class Mem0Options(MemoryServiceOptions):
    """`api_key` from the Mem0 dashboard; one's own server may work without."""

    host: HttpUrl = "https://api.mem0.ai"
    """The platform, or what speaks like it."""
    base_url: HttpUrl | None = None
    """One's own server, such as http://127.0.0.1:8888; set, the platform is not asked."""
    top_k: int = Field(10, ge=1, le=MAX_RECALLED)
    """Memories recalled for one question."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.base_url is None and not self.api_key.get_secret_value():
            raise ValueError("expected api_key, or base_url of a server of your own")
        return self


@provider("memory", "mem0ai", Mem0Options)
class Mem0(Memory):
    """One Mem0 user per device."""

    def __init__(self, options: Mem0Options) -> None:
        self._own = options.base_url is not None
        root = options.base_url or f"{options.host}/v3/memories"
        self._add_url = f"{root}/memories" if self._own else f"{root}/add/"
        self._search_url = f"{root}/search" if self._own else f"{root}/search/"
        self._top_k = options.top_k
        signing = ("X-API-Key", "") if self._own else ("Authorization", "Token")
        self._http = options.service("mem0ai", *signing)

    def recall(self, device_id: str, query: str) -> str:
        if not query.strip():
            return ""
        body = {"query": query, "filters": {"user_id": device_id}, "top_k": self._top_k}
        if self._own:
            body["user_id"] = device_id  # where servers before 2026 look for it; they do not know top_k either
        return recalled(
            "mem0ai", _results(self._http.json("POST", self._search_url, json=body))[: self._top_k], "memory"
        )

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        said = said_in(messages)
        if said:
            self._http.json("POST", self._add_url, json={"messages": said, "user_id": device_id})

    def close(self) -> None:
        self._http.close()


def _results(answer: Any) -> list[Any]:
    results = answer.get("results") if isinstance(answer, dict) else answer
    if not isinstance(results, list):
        raise VendorGarbage("mem0ai", "no list of results in the answer")
    return results
