"""What the memory services share: the client, what of a visit they are told, and what they recall as text for a
prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from xiaozhi.chat import Message
from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http import VendorHttp
from xiaozhi.providers.families.http_options import ApiKey, HttpOptions, Timeouts


class MemoryServiceOptions(HttpOptions):
    """Options of a service that may have a key and takes its time."""

    api_key: ApiKey = SecretStr("")
    timeout: Timeouts = Timeouts(first_byte=30, gap=30, total=30)

    def service(self, vendor: str, header: str, scheme: str = "") -> VendorHttp:
        """The HTTP client that sends the key, if there is one, in `header`, behind the word `scheme`."""
        key = self.api_key.get_secret_value()
        return self.http(vendor, (key,), {header: f"{scheme} {key}".strip()} if key else None)


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
