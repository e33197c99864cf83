"""How this process reaches a device with a message: in its conversation, by its standing connection, by its own tools.

Part of the composition root. Which way is taken, and when, is decided in `devices/`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from xiaozhi.devices.delivery import NOT_CONNECTED, PAUSE, Reach, Way, heading
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.devices.message_queue import RENEW_S, Progress
from xiaozhi.devices.messages import DeviceMessage, MessageState
from xiaozhi.devices.quiet_hours import quiet_until
from xiaozhi.devices.standing import StandingConnection, StandingConnections
from xiaozhi.errors import ToolError
from xiaozhi.protocol import messages as wire
from xiaozhi.session.open_sessions import OpenSession, OpenSessions
from xiaozhi.session.turn_record import Outcome
from xiaozhi.session.turns.opening import Announcement, Delivery
from xiaozhi.settings import Settings, zone_of
from xiaozhi.tools.base import Action

REBOOT_TOOL: Final = "self.reboot"
"""The firmware's own (main/mcp_server.cc of 78/xiaozhi-esp32)."""
ALERT_S: Final = 5.0
"""How long an alert is left on the screen before the next one."""
PAUSE_S: Final = 2.0
"""After a message that was played: the device is back to idling by then."""
_SENT: Final = Progress(MessageState.SENT)
_AWAY: Final = Progress(MessageState.WAITING, NOT_CONNECTED, again=True)


class MessageWays:
    """The `Ways` of a `MessageQueue`. `play`: have an idle device play a text; the seconds that takes, None where it
    cannot (`notify_sounds.py`). `current`: the settings in force. `clock`: seconds since 1970."""

    def __init__(
        self,
        sessions: OpenSessions,
        standing: StandingConnections,
        directory: DeviceDirectory,
        *,
        play: Callable[[StandingConnection, str], float | None],
        current: Callable[[], Settings],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._standing = standing
        self._directory = directory
        self._play = play
        self._current = current
        self._clock = clock

    def reach(self, device: str) -> Reach:
        """See Ways."""
        return Reach(self._session(device) is not None, self._standing.of_device(device) is not None)

    def quiet_until(self, device: str, now: float) -> float | None:
        """See Ways."""
        settings = self._current()
        own = self._directory.settings_of(device).get("quiet_hours", settings.quiet_hours)
        return quiet_until(str(own), now, zone_of(settings))

    def deliver(self, message: DeviceMessage, way: Way, text: str, *, at_once: bool) -> Iterator[Progress]:
        """See Ways."""
        match way:
            case Way.SPEAK:
                yield from self._speak(message, text, at_once)
            case Way.REBOOT:
                yield self._reboot(message.device)
            case Way.NOTIFY:
                standing = self._standing.of_device(message.device)
                seconds = self._play(standing, text) if standing is not None else None
                if seconds is not None:
                    yield Progress(MessageState.SENT, busy_s=seconds + PAUSE_S)
                elif self._session(message.device) is not None:  # a conversation has begun meanwhile
                    yield Progress(MessageState.WAITING, PAUSE, again=True)
                else:
                    yield self._show(message, text)
            case Way.SHOW | Way.ALERT:
                yield self._show(message, text)

    def _session(self, device: str) -> OpenSession | None:
        session = self._sessions.of_device(device)
        return session if session is not None and session.ready else None

    def _speak(self, message: DeviceMessage, text: str, at_once: bool) -> Iterator[Progress]:
        session = self._session(message.device)
        if session is None:
            yield _AWAY
            return
        seconds = max(0.0, message.expires_at - self._clock())
        announcement = session.announce(text, at_once=at_once, seconds=seconds)
        while not announcement.settled:
            speaking = announcement.delivery is Delivery.SPEAKING
            yield Progress(MessageState.SPEAKING if speaking else MessageState.WAITING, "" if speaking else PAUSE)
            announcement.wait(RENEW_S)
        yield became_of(announcement)

    def _show(self, message: DeviceMessage, text: str) -> Progress:
        alert = wire.Alert(heading(message, self._name_of(message.sender)), text, message.emotion)
        return Progress(MessageState.SENT, busy_s=ALERT_S) if self._push(message.device, alert) else _AWAY

    def _reboot(self, device: str) -> Progress:
        session = self._session(device)
        if session is not None and session.mcp is not None:
            try:
                if session.mcp.call_for_operators(REBOOT_TOOL, {}).action is not Action.ERROR:
                    return _SENT
            except ToolError:
                pass  # it has no such tool, or does not answer: older firmware knows the message
        return _SENT if self._push(device, wire.SystemCommand("reboot")) else _AWAY

    def _push(self, device: str, message: wire.Sendable) -> bool:
        session, standing = self._session(device), self._standing.of_device(device)
        return (session is not None and session.push(message)) or (standing is not None and standing.push(message))

    def _name_of(self, sender: str) -> str:
        return self._directory.labels([sender]).get(sender, "")


def became_of(announcement: Announcement) -> Progress:
    """What a settled announcement means for its message."""
    record, reason = announcement.record, announcement.reason
    match announcement.delivery:
        case Delivery.SPOKEN:
            return Progress(MessageState.SPOKEN)
        case Delivery.INTERRUPTED if record is None or record.spoken:
            return Progress(MessageState.INTERRUPTED, reason)
        case Delivery.FAILED if record is None or record.outcome is not Outcome.OVERLOADED:
            return Progress(MessageState.FAILED, reason)
        case _:  # nothing of it was heard
            return Progress(MessageState.WAITING, reason, again=True)
