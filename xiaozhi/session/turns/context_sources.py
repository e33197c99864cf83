"""Live data for the prompt from web addresses (`context_providers`): one GET per device and source, its answer as lines
of text.

The answer is JSON, as sources written for the existing server give it:
`{"code": 0, "data": {name: value} | [text, ...] | text}`. The request carries the header `device-id`; `{device_id}` and
`{client_id}` in the address or in a header are filled in."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http import VendorHttp
from xiaozhi.session.link import Identity
from xiaozhi.settings.services import ContextProvider

DEADLINE_S = 3.0
MAX_BYTES = 256 * 1024


class HttpContextSource:
    """One source; a `ContextSource`. Shared by all devices."""

    def __init__(self, options: ContextProvider) -> None:
        self._url = options.url
        self._headers = {name: value.get_secret_value() for name, value in options.headers.items()}
        self._http = VendorHttp(
            "context",
            connect=DEADLINE_S,
            read=DEADLINE_S,
            total=DEADLINE_S,
            secrets=[value for value in self._headers.values() if value],
        )

    def __call__(self, identity: Identity) -> list[str]:
        """The lines for one device. Raises VendorError."""
        url = _filled(self._url, identity, escape=True)
        headers = {name: _filled(value, identity, escape=False) for name, value in self._headers.items()}
        return lines_of(
            self._http.json("GET", url, limit=MAX_BYTES, headers={**headers, "device-id": identity.device_id})
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()


def lines_of(answer: Any) -> list[str]:
    """The answer of a source as lines. Raises VendorGarbage when it is none, or says that it failed."""
    if not isinstance(answer, dict) or answer.get("code") != 0:
        raise VendorGarbage("context", "not an answer with code 0")
    data = answer.get("data")
    if isinstance(data, dict):
        return [f"{name}: {value}" for name, value in data.items()]
    if isinstance(data, list):
        return [str(item) for item in data]
    return [str(data)] if data not in (None, "") else []


def _filled(text: str, identity: Identity, *, escape: bool) -> str:
    for place, value in (("{device_id}", identity.device_id), ("{client_id}", identity.client_id)):
        if place in text:
            text = text.replace(place, quote(value, safe="") if escape else value)
    return text
