"""The sessions of this process by device, for those who have something for a device that it has not asked for: an
operator, another device that calls.

Not the connections (`runtime/connections.py` sweeps and closes those): here is who can be talked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from xiaozhi.net.origin import Origin
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.protocol.messages import Sendable
from xiaozhi.session.turns.opening import Announcement
from xiaozhi.tools.calls import Rung
from xiaozhi.tools.device_mcp import DeviceMcp


class OpenSession(Protocol):
    """What others may ask of a session. Nothing here waits."""

    @property
    def device_id(self) -> str:
        """In its normal form."""

    @property
    def origin(self) -> Origin | None:
        """How its device reached the device port; None: not known."""

    @property
    def mcp(self) -> DeviceMcp | None:
        """The device's own tools; None: it has none of this kind, or has not said hello yet."""

    def ring(self, words: Mapping[str, str]) -> Rung:
        """Say this at once, in the language of its conversation (language -> text), unless somebody speaks with it."""

    @property
    def ready(self) -> bool:
        """Its device has said hello, and it is known which agent it gets."""

    def announce(self, text: str, *, at_once: bool, seconds: float) -> Announcement:
        """Say this as soon as nobody speaks, or (`at_once`) now. `seconds`: how long it may wait. For a session that is
        `ready`."""

    def push(self, message: Sendable) -> bool:
        """Send the device a message before everything that waits; False before its hello."""


class OpenSessions:
    """See the module. `on_ready`: told of each device whose session is `ready`; may not wait."""

    def __init__(self, *, on_ready: Callable[[str], None] = lambda device: None) -> None:
        self._sessions: dict[str, list[OpenSession]] = {}
        self._on_ready = on_ready

    def join(self, session: OpenSession) -> None:
        """It begins."""
        self._sessions.setdefault(session.device_id, []).append(session)

    def ready(self, session: OpenSession) -> None:
        """Its device can be told something from now on."""
        self._on_ready(session.device_id)

    def leave(self, session: OpenSession) -> None:
        """It has ended. Idempotent."""
        left = [other for other in self._sessions.get(session.device_id, ()) if other is not session]
        if left:
            self._sessions[session.device_id] = left
        else:
            self._sessions.pop(session.device_id, None)

    def of_device(self, device_id: str) -> OpenSession | None:
        """The newest session of a device, however its id is written."""
        sessions = self._sessions.get(normal_device_id(device_id))
        return sessions[-1] if sessions else None

    def ring(self, device_id: str, words: Mapping[str, str]) -> Rung:
        """Call a device, see `OpenSession.ring`."""
        session = self.of_device(device_id)
        return Rung.AWAY if session is None else session.ring(words)
