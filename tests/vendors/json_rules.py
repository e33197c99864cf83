"""What strict HTTP vendors ask of a JSON request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from loadtest.vendors.http_vendor import VendorRefusal, VendorRequest


def body_of(request: VendorRequest, required: Mapping[str, type], optional: Mapping[str, type] = {}) -> dict[str, Any]:
    """The body of a POST: an object with these keys of these types and no others. Raises VendorRefusal."""
    if request.method != "POST":
        raise VendorRefusal(405, "Method Not Allowed")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise VendorRefusal(415, "Content-Type must be application/json")
    try:
        body = request.json()
    except orjson.JSONDecodeError as error:
        raise VendorRefusal(400, "not JSON") from error
    if not isinstance(body, dict):
        raise VendorRefusal(400, "not an object")
    for key, kind in {**required, **optional}.items():
        if key not in body and key in optional:
            continue
        if not isinstance(body.get(key), kind) or (kind is not bool and isinstance(body[key], bool)):
            raise VendorRefusal(400, f"{key} must be a {kind.__name__}")
    unknown = set(body) - set(required) - set(optional)
    if unknown:
        raise VendorRefusal(400, f"unknown: {', '.join(sorted(unknown))}")
    return body


def event(name: str, value: Any, *, tag: Callable[[str], str] = "event: {}".format) -> bytes:
    """One server-sent event; "" for one without a name."""
    head = f"{tag(name)}\n" if name else ""
    data = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"{head}data: {data}\n\n".encode()


def cut(text: str, size: int = 4) -> list[str]:
    """`text` as a model would stream it."""
    return [text[at : at + size] for at in range(0, len(text), size)]
