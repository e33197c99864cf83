"""How a message reaches its device now, or why it has to wait: the decision, pure.

Not the queue that keeps messages (`message_queue.py`) and not the ways themselves, which the composition root lends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from xiaozhi.devices.messages import DeviceMessage, MessageKind
from xiaozhi.speech.language import spoken_language

LATE_S: Final = 60.0
"""Heard so much later than it was due, a message says that it is late."""
NOT_CONNECTED: Final = "the device is not connected"
QUIET_HOURS: Final = "quiet hours"
ELSEWHERE: Final = "the device is connected to another worker"
ELSEWHERE_S: Final = 3.0
"""Until it is looked again whether it still is."""
ONE_AT_A_TIME: Final = "another message is being delivered"
PAUSE: Final = "for a pause in the conversation"
AT_ONCE: Final = 4
"""Messages of one device that wait for a pause in its conversation; the others wait here."""
RETRY_S: Final = 3.0


class Way(Enum):
    """What is done."""

    SPEAK = "speak"
    """Said in the conversation."""
    SHOW = "show"
    """Shown in the conversation."""
    NOTIFY = "notify"
    """The idle device fetches and plays a sound; what cannot do that is shown an alert."""
    ALERT = "alert"
    """Shown by the idle device."""
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class Reach:
    """How this worker reaches a device."""

    conversation: bool = False
    """It has said hello."""
    standing: bool = False
    """It has a standing connection, see `standing.py`."""

    def __bool__(self) -> bool:
        return self.conversation or self.standing


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. `until`: when to look again, seconds since 1970; None: when the device comes."""

    reason: str
    until: float | None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the decision depends on, besides the message. `quiet_until`: when the device's quiet hours end; None: it is
    none now. `in_hand`: messages of this device that are being delivered here. `free_at`: until then the idle device is
    taken up by the message before. `elsewhere`: another worker has a conversation with it."""

    now: float
    reach: Reach
    quiet_until: float | None = None
    in_hand: int = 0
    free_at: float = 0.0
    elsewhere: bool = False


def decide(message: DeviceMessage, seen: Circumstances) -> Way | Wait:
    """See the module."""
    now, reach = seen.now, seen.reach
    if now < message.due_at:
        return Wait("it is not due yet", message.due_at)
    if not reach:
        return Wait(NOT_CONNECTED, None)
    if message.kind is MessageKind.REBOOT:
        return Way.REBOOT
    if seen.quiet_until is not None and not message.in_quiet_hours:
        return Wait(QUIET_HOURS, seen.quiet_until)
    if reach.conversation:
        if message.kind is MessageKind.ALERT:
            return Way.SHOW
        if seen.in_hand >= AT_ONCE and not message.interrupts:
            return Wait(ONE_AT_A_TIME, now + RETRY_S)
        return Way.SPEAK
    if seen.elsewhere:
        return Wait(ELSEWHERE, now + ELSEWHERE_S)
    if seen.in_hand or seen.free_at > now:
        return Wait(ONE_AT_A_TIME, max(seen.free_at, now + RETRY_S if seen.in_hand else 0.0))
    return Way.ALERT if message.kind is MessageKind.ALERT else Way.NOTIFY


def text_now(message: DeviceMessage, now: float) -> str:
    """What is said or shown."""
    return message.late_text if message.late_text and now > message.due_at + LATE_S else message.text


def heading(message: DeviceMessage, sender_name: str = "") -> str:
    """What stands above a text that is shown. `sender_name`: of the device that sends it, "" when it has none."""
    chinese = spoken_language(message.text).startswith("zh")
    if message.title:
        return message.title
    if message.sender == "reminder":
        return "提醒" if chinese else "Reminder"
    return sender_name or ("消息" if chinese else "Message")
