"""Memory kept by the Mem0 service. Wire format: the Mem0 platform's REST API v3 (`/v3/memories/add/`,
`/v3/memories/search/`).

Not its SDK: two calls do not need one, and this way they share the vendor HTTP client's deadlines and errors. `host`
points at a self-hosted service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, SecretStr

from xiaozhi.chat import Message
from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http import VendorHttp
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.registry import provider

MAX_RECALLED = 30


class Mem0Options(ProviderOptions):
    """`api_key` from the Mem0 dashboard."""

    api_key: SecretStr
    host: str = "https://api.mem0.ai"
    timeout: float = Field(30.0, gt=0, le=300)
    """Seconds for one call."""
    top_k: int = Field(10, ge=1, le=MAX_RECALLED)
    """Memories recalled for one question."""


@provider("memory", "mem0ai", Mem0Options)
class Mem0(Memory):
    """One Mem0 user per device."""

    def __init__(self, options: Mem0Options) -> None:
        key = options.api_key.get_secret_value()
        self._host = options.host.rstrip("/")
        self._top_k = options.top_k
        self._http = VendorHttp(
            "mem0ai",
            connect=3.0,
            read=options.timeout,
            total=options.timeout,
            headers={"Authorization": f"Token {key}"},
            secrets=(key,),
        )

    def recall(self, device_id: str, query: str) -> str:
        if not query.strip():
            return ""
        answer = self._http.json(
            "POST",
            f"{self._host}/v3/memories/search/",
            json={"query": query, "filters": {"user_id": device_id}, "top_k": self._top_k},
        )
        found = [_entry(entry) for entry in _results(answer)]
        found.sort(key=lambda entry: entry[0], reverse=True)
        return "\n".join(
            f"- [{when[:16].replace('T', ' ')}] {what}" if when else f"- {what}" for when, what in found if what
        )

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        said = [
            {"role": message.role, "content": message.content}
            for message in messages
            if message.role in ("user", "assistant") and message.content
        ]
        if len(said) >= 2:
            self._http.json("POST", f"{self._host}/v3/memories/add/", json={"messages": said, "user_id": device_id})

    def close(self) -> None:
        self._http.close()


def _results(answer: Any) -> list[Any]:
    results = answer.get("results") if isinstance(answer, dict) else answer
    if not isinstance(results, list):
        raise VendorGarbage("mem0ai", "no list of results in the answer")
    return results


def _entry(entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("memory"), str):
        raise VendorGarbage("mem0ai", "a result without a memory")
    return str(entry.get("updated_at") or ""), entry["memory"]
