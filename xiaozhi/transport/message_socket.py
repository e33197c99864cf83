"""What a `Connection` needs of whatever carries its messages: a WebSocket (`websocket.py`) or another protocol.

Whoever adds a carrier writes a class with these members and, for each device that connects, runs `Connection(socket,
identity, services)`. Limits, deadlines and the bytes on the wire are the carrier's business; rates, the registry,
draining and the session are the connection's."""

from __future__ import annotations

from typing import Protocol


class MessageSocket(Protocol):
    """One carrier of text and binary messages, both ways, in order. One greenlet calls `receive` and `finish`; all the
    rest may be called from any greenlet.

    The first of the peer, `close`, `abort` and a failure decides how it ended; everybody else gets to know by
    ConnectionClosed."""

    received: int
    """Messages received."""
    sent: int
    """Messages sent."""
    bytes_in: int
    """Bytes received."""
    bytes_out: int
    """Bytes sent."""
    last_control: float
    """When the last message came that is not the session's, such as a pong, on the server's monotonic clock; 0:
    never."""
    closing_since: float | None
    """When the end began, on the same clock; None: it has not."""

    @property
    def ending(self) -> tuple[int, str]:
        """(code, reason) of how it ended; code 1006 while it has not."""

    @property
    def held_bytes(self) -> int:
        """What it keeps of messages that have not arrived whole."""

    def receive(self) -> str | bytes:
        """The next message; waits for it without a deadline. Raises ConnectionClosed."""

    def send_text(self, text: str, /) -> None:
        """Send a text message; waits at most the send deadline. Raises ConnectionClosed."""

    def send_binary(self, data: bytes, /) -> None:
        """Send a binary message; waits at most the send deadline. Raises ConnectionClosed."""

    def ping(self) -> bool:
        """Ask the peer for a sign of life if that is possible without waiting; False if not, or if the carrier has no
        such thing."""

    def close(self, code: int, reason: str) -> None:
        """Say goodbye and let `receive` end, now or soon. Returns at once. Idempotent."""

    def abort(self, reason: str) -> None:
        """Drop the connection without a goodbye; whoever waits in it is woken. Returns at once. Idempotent."""

    def finish(self) -> None:
        """Give everything back; for the reader, in the end. May wait a moment for the peer. Idempotent."""
