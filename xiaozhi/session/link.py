"""The seam between a socket and a session: who came, and the few things each side may ask of the other.

Not a socket (that is `transport/websocket.py`) and not a session. It exists so that neither has to import the other:
transport builds a `Link` and calls a `LinkHandler`; the composition root decides which session class that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is on the line, as told by the upgrade request."""

    device_id: str
    client_id: str = ""
    peer_ip: str = ""
    protocol_version: int = 1
    """Binary framing the device announced in the upgrade: 1, 2 or 3. Hello may change it."""
    via_gateway: bool = False
    """True for the MQTT gateway bridge: 16-byte frame header, several devices behind one address."""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """What a session may do with its connection. The senders block at most the send deadline and raise
    ConnectionClosed."""

    identity: Identity
    send_text: Callable[[str], None]
    send_binary: Callable[[bytes], None]
    close: Callable[[int, str], None]
    """(code, reason): idempotent, returns at once, callable from any greenlet."""


class LinkHandler(Protocol):
    """What a connection tells its session. `on_*` run in the reader's greenlet, return quickly and raise nothing but
    ConnectionClosed."""

    def on_text(self, text: str) -> None:
        """One JSON message."""

    def on_binary(self, data: bytes) -> None:
        """One binary frame, header included."""

    def drain(self, seconds: float) -> None:
        """The server is stopping: take no new turns, let the current answer finish, at most `seconds`; blocks."""

    def closed(self, reason: str) -> None:
        """The socket is gone: free everything. Called exactly once, after the last `on_*`; may block a few seconds."""


SessionFactory = Callable[[Link], LinkHandler]
