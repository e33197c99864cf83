"""The sessions of this process by device, for those who have something for a device that it has not asked for: an
operator, another device that calls.

Not the connections (`runtime/connections.py` sweeps and closes those): here is who can be talked to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from xiaozhi.net.origin import Origin
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.session.turns.opening import Announcement, Opening
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

    def tell_late(self, opening: Opening) -> Announcement | None:
        """Speak as soon as nobody does; None: the device has not said hello yet."""

    def ring(self, words: Mapping[str, str]) -> Rung:
        """Say this at once, in the language of its conversation (language -> text), unless somebody speaks with it."""

    def tell(self, text: str) -> Rung:
        """Say this as soon as nobody speaks: RINGS: it is being said; BUSY: it waits; AWAY: it will not be said."""


class OpenSessions:
    """See the module."""

    def __init__(self) -> None:
        self._sessions: dict[str, list[OpenSession]] = {}

    def join(self, session: OpenSession) -> None:
        """It begins."""
        self._sessions.setdefault(session.device_id, []).append(session)

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

    def tell(self, device_id: str, text: str) -> Rung:
        """Have a device say something, see `OpenSession.tell`."""
        session = self.of_device(device_id)
        return Rung.AWAY if session is None else session.tell(text)
