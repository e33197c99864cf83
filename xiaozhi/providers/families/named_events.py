"""Server-sent events with their names (WHATWG HTML, 9.2), for vendors whose events differ by name.

Not for chat completions, whose events have none (`json_body.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from xiaozhi.net.http import HttpReply
from xiaozhi.providers.families.json_body import DONE

_DONE: Final = frozenset({b"[DONE]", b'"[DONE]"'})


def named_values(reply: HttpReply) -> Iterator[tuple[str, Any]]:
    """(name of the event, "" for none; the JSON value of one data line), `DONE` for the vendor's mark of the end. A
    line of JSON without a field name, as errors come, counts as an event without a name.

    One odd line costs that line. Raises VendorError: VendorGarbage when nothing in the answer could be read."""
    name, odd, found = "", b"", False
    for line in reply.lines():
        if not line:
            name = ""
            continue
        if line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
            continue
        data = line[5:].strip() if line.startswith(b"data:") else line
        if data in _DONE:
            found = True
            yield name, DONE
            continue
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            odd = odd or line
            continue
        found = True
        yield name, value
    if not found:
        reply.garbage("no events in the answer", odd)
