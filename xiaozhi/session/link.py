"""The seam between what carries a session and the session itself: `Link` downwards, `LinkHandler` upwards.

Neither side imports the other. A carrier (today the WebSocket, see `transport/connection.py`) gives a session a `Link`
and calls its `LinkHandler`; the composition root decides, by a `SessionFactory`, which session class that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from xiaozhi.net.origin import Origin
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.protocol.messages import Sendable, UdpOffer


@dataclass(frozen=True, slots=True)
class Identity:
    """Which device is connected, as it said when it connected."""

    device_id: str
    """In its normal form, however it was written: what everything is kept by."""
    client_id: str = ""
    peer_ip: str = ""
    """The address of the device; behind trusted proxies the one they name."""
    protocol_version: int = 1
    """Binary framing the device announced when it connected: 1, 2 or 3."""
    via_gateway: bool = False
    """True for the MQTT gateway bridge: 16-byte frame header, several devices behind one address."""
    user_agent: str = ""
    origin: Origin | None = field(default=None, compare=False)
    """How the device reached this server; None: that is not known."""
    seems_at_home: bool = field(default=False, compare=False)
    """It comes from a private network, as far as can be told (`net/origin.py`)."""
    proved: bool = field(default=False, compare=False)
    """It has shown a token that was issued for it."""
    written_id: str = field(default="", compare=False)
    """The device id as the device wrote it: gateways sign tokens for that."""
    udp: UdpOffer | None = field(default=None, compare=False)
    """For a conversation whose messages go by MQTT and whose sound by UDP."""
    session_id: str = field(default="", compare=False)
    """The id of the session, where the carrier has to know it; "": the session makes one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "written_id", self.written_id or self.device_id.strip())
        object.__setattr__(self, "device_id", normal_device_id(self.device_id))


class Link(Protocol):
    """What a session may do with the connection that carries it. All methods may be called from any greenlet."""

    @property
    def identity(self) -> Identity:
        """Which device this is."""

    def send_text(self, text: str, /) -> None:
        """Send one JSON message. Blocks at most the send deadline. Raises ConnectionClosed."""

    def send_binary(self, data: bytes, /) -> None:
        """Send one binary frame, header included. Blocks at most the send deadline. Raises ConnectionClosed."""

    def close(self, code: int, reason: str, /) -> None:
        """End the connection with a code of `protocol/close_codes.py`. Returns at once. Idempotent."""


class Weight(NamedTuple):
    """What one session costs now; both are estimates."""

    memory_bytes: int = 0
    queue_depth: int = 0
    """Things that wait in its queues."""


class LinkHandler(Protocol):
    """What a connection tells and asks its session.

    `on_text` and `on_binary` run in the reader's greenlet, return quickly and raise nothing but ConnectionClosed and
    ProtocolError. `tick`, `trim`, `weight` and `push` come from other greenlets, between two messages; they do not
    wait."""

    def on_text(self, text: str) -> None:
        """One JSON message."""

    def on_binary(self, data: bytes) -> None:
        """One binary frame, header included."""

    def tick(self, now: float) -> None:
        """About once a second. `now`: seconds on the server's monotonic clock."""

    def trim(self) -> None:
        """The session holds too much: give back the memory that it can do without."""

    def weight(self) -> Weight:
        """What the session holds now."""

    def push(self, message: Sendable) -> bool:
        """Send the device a message that comes from outside the conversation (an operator's alert, a reboot, a
        notification), before everything that waits. False when the session cannot take it: it has ended, or the device
        has not said hello yet. True says that the message was queued, not that it has arrived.

        Only messages: what is to be spoken has to wait for its turn, and is the business of turn-taking."""

    def drain(self, seconds: float) -> None:
        """The server is stopping: take no new turns, let the current answer finish, at most `seconds`; blocks."""

    def closed(self, reason: str) -> None:
        """The connection has ended: free everything. Called exactly once, after the last `on_*`; may block a few
        seconds."""


SessionFactory = Callable[[Link], LinkHandler]
"""Makes the session of a new connection. Raises Overloaded (close 1013) or ConnectionClosed when there will be none."""
