"""The language between the server and its sidecar: JSON objects, each behind its length (4 bytes, big-endian).

The only module of this room that the server itself imports. Not a transport: both sides bring their own sockets.

    server ─► sidecar   {"id", "service", "method", "params"}   a call
                        {"cancel": id}                          nobody waits for it any more
                        {"more": id, "count": n}                so many of its items were taken
    sidecar ─► server   {"id", "item"}                          one of several, before the result
                        {"id", "result"} | {"id", "error"}      the end of a call
                        {"event", "service", "data"}            something that nobody asked for

Sound goes as base64 text. The end of the stream is the order to stop."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import orjson

HEADER = struct.Struct("!I")
MAX_FRAME = 1 << 20
"""Bytes of one message; the server decodes it in one go, and the sound of its devices must not wait for that."""
WINDOW = 64
"""Items of one call that may be on their way, or wait for whoever reads them."""
HOST = "host"
"""The service that every sidecar has; its only method is "ping"."""
MARK = "XIAOZHI_SIDECAR"
"""Environment variable that the sidecar and all programs which it starts carry: its value names the server they belong
to."""


class FrameTooLong(ValueError):
    """A message has more than MAX_FRAME bytes."""


def pack(message: Mapping[str, Any]) -> bytes:
    """One message with its length. Raises FrameTooLong; TypeError for what JSON cannot hold."""
    body = orjson.dumps(message)
    if len(body) > MAX_FRAME:
        raise FrameTooLong(f"{len(body)} bytes, more than {MAX_FRAME}")
    return HEADER.pack(len(body)) + body
