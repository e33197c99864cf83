"""What one device of the household may ask of the others: to be told something, to ring.

Part of the composition root: names and rules (`devices/household.py`), the queue of messages, and the sessions of this
process, put together for tools."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from xiaozhi.app.wiring import likely_languages
from xiaozhi.devices.delivery import NOT_CONNECTED, QUIET_HOURS
from xiaozhi.devices.household import Household, HouseholdMember, HouseholdRules, meant, names_of
from xiaozhi.devices.message_queue import MessageQueue
from xiaozhi.devices.messages import DeviceMessage, MessageKind, MessageResult, MessageState
from xiaozhi.errors import ToolError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.settings import Settings
from xiaozhi.settings.fields import text_in
from xiaozhi.speech.language import spoken_language
from xiaozhi.tools.calls import Rung
from xiaozhi.tools.household import AskingDevice, Told, ToldWhen

GOOD_FOR_S: Final = 12 * 3600.0
"""How long what a user has said waits for a device that is away."""
PATIENCE_S: Final = 2.0
"""How long a user waits to hear what has become of it."""
RING_S: Final = 20.0
"""A call that nobody could hear by then is over."""
RING_PATIENCE_S: Final = 8.0
MAX_NAMES_SHOWN: Final = 30


class OwnDevices:
    """The `OtherDevices` of this server, and a `Ring` that reaches devices of all workers. `clock`: seconds since
    1970."""

    def __init__(
        self,
        household: Household,
        queue: MessageQueue,
        sessions: OpenSessions,
        *,
        current: Callable[[], Settings],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._household = household
        self._queue = queue
        self._sessions = sessions
        self._current = current
        self._clock = clock

    def tell(self, asker: AskingDevice, to: str, text: str) -> list[Told]:
        """See OtherDevices."""
        me, others = self._open_to(asker)
        found = meant(to, others)
        if not found:
            names = ", ".join(names_of(others)[:MAX_NAMES_SHOWN]) or "none; devices get names in the console"
            raise ToolError(f"No device goes by the name '{to[:60]}'. Names: {names}. 没有叫这个名字的设备。")
        now, name = self._clock(), me.name
        if spoken_language(text).startswith("zh"):
            heard = f"{name or '另一台设备'}说：{text}"
        else:
            heard = f"{name or 'Another device'} says: {text}"
        messages = [
            DeviceMessage(
                device=member.device,
                kind=MessageKind.SAY,
                text=heard,
                title=name,
                sender=me.device,
                due_at=now,
                expires_at=now + GOOD_FOR_S,
            )
            for member in found
        ]
        results = self._wait(self._queue.send_all(messages), PATIENCE_S)
        return [
            Told(member.name or member.device, _when(result)) for member, result in zip(found, results, strict=True)
        ]

    def called(self, asker: AskingDevice, name: str) -> str:
        """See OtherDevices."""
        try:
            _, others = self._open_to(asker)
        except ToolError:
            return ""
        found = meant(name, others)
        return found[0].device if len(found) == 1 else ""

    def name_of(self, device_id: str) -> str:
        """See OtherDevices."""
        return self._household.own_name(normal_device_id(device_id))

    def ring(self, device_id: str, words: Mapping[str, str]) -> Rung:
        """See `Ring`. Blocks for `RING_PATIENCE_S` at most where the device is not in a conversation here."""
        rung = self._sessions.ring(device_id, words)
        if rung is not Rung.AWAY:
            return rung
        settings, now = self._current(), self._clock()
        language = likely_languages(settings.language, settings.wakeup_words)[0]
        call = DeviceMessage(
            device=normal_device_id(device_id),
            kind=MessageKind.SAY,
            text=text_in(words, language),
            sender="tool",
            due_at=now,
            expires_at=now + RING_S,
        )
        [result] = self._wait([self._queue.send(call)], RING_PATIENCE_S)
        if result.settled or result.state is MessageState.SPEAKING:
            return Rung.RINGS if _when(result) is ToldWhen.NOW else Rung.AWAY
        self._queue.cancel(result.id)
        return Rung.AWAY if result.reason in (NOT_CONNECTED, QUIET_HOURS) else Rung.BUSY

    def _wait(self, results: list[MessageResult], seconds: float) -> list[MessageResult]:
        """For those that some worker reaches."""
        soon = [result for result in results if result.reason != NOT_CONNECTED]
        settled = {result.id: result for result in self._queue.wait(soon, seconds)}
        return [settled.get(result.id, result) for result in results]

    def _open_to(self, asker: AskingDevice) -> tuple[HouseholdMember, list[HouseholdMember]]:
        """The one who asks, and those who may hear from it. Raises ToolError."""
        members = self._household.members()
        device = normal_device_id(asker.device_id)
        me = next((member for member in members if member.device == device), None)
        if me is None or (me.client and asker.client_id != me.client):
            raise ToolError("This device does not belong to the household. 这台设备不属于这个家。")
        if not me.intercom:
            raise ToolError("Messages between devices are switched off. 设备之间的传话已关闭。")
        return me, [member for member in members if member.intercom and member.device != device]


def household_rules(settings: Settings) -> HouseholdRules:
    """Who belongs together, by the settings."""
    return HouseholdRules(
        enrolled=settings.server.auth.enabled is not False and not settings.under_console,
        groups=settings.groups,
        intercom=settings.intercom,
    )


def _when(result: MessageResult) -> ToldWhen:
    match result.state:
        case MessageState.SPOKEN | MessageState.SENT | MessageState.SPEAKING | MessageState.INTERRUPTED:
            return ToldWhen.NOW
        case MessageState.WAITING if result.reason == NOT_CONNECTED:
            return ToldWhen.WHEN_BACK
        case MessageState.WAITING if result.reason == QUIET_HOURS:
            return ToldWhen.AFTER_QUIET_HOURS
        case MessageState.WAITING:
            return ToldWhen.NOW
        case _:
            return ToldWhen.NEVER
