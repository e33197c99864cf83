"""Devices with a standing connection to this process: one that is there while nobody talks, as MQTT has, and by which a
device that idles can be told something.

Not the connections of conversations (`runtime/connections.py`) and not sessions (`session/open_sessions.py`): a device
that talks by MQTT has one of each. Other workers learn of these by `presence.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from xiaozhi.net.origin import Origin
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.protocol.messages import Sendable


class StandingConnection(Protocol):
    """One device's. Nothing here waits."""

    @property
    def device(self) -> str:
        """The device id in its normal form."""

    @property
    def origin(self) -> Origin | None:
        """How its device reached this server; None: not known."""

    def push(self, message: Sendable) -> bool:
        """Send the device a message outside of any conversation. False when the connection cannot take it: it has
        ended, or too much waits for it already. True says that it was queued, not that it has arrived."""


class StandingConnections:
    """See the module. `on_join` and `on_leave` are told of each device, and may not wait."""

    def __init__(
        self,
        *,
        on_join: Callable[[str], None] = lambda device: None,
        on_leave: Callable[[str], None] = lambda device: None,
    ) -> None:
        self._on_join = on_join
        self._on_leave = on_leave
        self._connections: dict[str, StandingConnection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def join(self, connection: StandingConnection) -> StandingConnection | None:
        """It has come; the one that it takes the place of, which its carrier closes."""
        before = self._connections.get(connection.device)
        self._connections[connection.device] = connection
        if before is None:
            self._on_join(connection.device)
        return before

    def leave(self, connection: StandingConnection) -> None:
        """It has ended. Nothing follows where another has taken its place. Idempotent."""
        if self._connections.get(connection.device) is connection:
            del self._connections[connection.device]
            self._on_leave(connection.device)

    def of_device(self, device_id: str) -> StandingConnection | None:
        """That of a device, however its id is written."""
        return self._connections.get(normal_device_id(device_id))
