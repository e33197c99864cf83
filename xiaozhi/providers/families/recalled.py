"""What a memory service recalls -> text for a prompt, and what of a visit it is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xiaozhi.chat import Message
from xiaozhi.errors import VendorGarbage


def said_in(messages: Sequence[Message]) -> list[dict[str, str]]:
    """What was said in a visit: no prompt and no tools. Empty when nobody answered anybody."""
    said = [
        {"role": message.role, "content": message.content}
        for message in messages
        if message.role in ("user", "assistant") and message.content
    ]
    return said if len(said) >= 2 else []


def recalled(vendor: str, entries: Iterable[Any], key: str) -> str:
    """A list, the newest memory first. Each entry has its text under `key`, and `updated_at` or `created_at` in ISO
    8601 if the service tells. Raises VendorGarbage."""
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get(key), str):
            raise VendorGarbage(vendor, "a result without a memory")
        found.append((str(entry.get("updated_at") or entry.get("created_at") or ""), entry[key]))
    found.sort(key=lambda entry: entry[0], reverse=True)
    return "\n".join(
        f"- [{when[:16].replace('T', ' ')}] {what}" if when else f"- {what}" for when, what in found if what
    )
