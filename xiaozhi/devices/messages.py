"""Messages for a device that it has not asked for: what an operator, a reminder, another device or a slow tool has to
say, and what became of it.

The contract only: plain data, and who takes such messages. How one reaches its device is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

MAX_TEXT_CHARS: Final = 1_000


class MessageKind(StrEnum):
    """What the device is to do with it."""

    SAY = "say"
    """It is heard: in the conversation if there is one, else by whatever way the device has (`notify`, `alert`)."""
    NOTIFY = "notify"
    """An idle device plays it as a sound and shows the text; one in a conversation says it."""
    ALERT = "alert"
    """It is shown, with the device's own chime."""
    REBOOT = "reboot"
    """The device starts anew."""


class MessageState(StrEnum):
    """What has become of it. All but WAITING and SPEAKING are final."""

    WAITING = "waiting"
    """For the device, for a pause in its conversation, or for the end of its quiet hours."""
    SPEAKING = "speaking"
    SPOKEN = "spoken"
    """Heard to its end."""
    INTERRUPTED = "interrupted"
    """Begun and cut short."""
    SENT = "sent"
    """The device was sent it; it does not say whether it was noticed."""
    EXPIRED = "expired"
    """Nobody could be told before the deadline."""
    FAILED = "failed"
    """`MessageResult.reason` says why."""
    CANCELLED = "cancelled"
    """Taken back before anybody was told."""

    @property
    def final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self not in (MessageState.WAITING, MessageState.SPEAKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMessage:
    """One message for one device. Times are seconds since 1970."""

    device: str
    """Device id in its normal form."""
    kind: MessageKind
    text: str = ""
    """At most MAX_TEXT_CHARS; empty for REBOOT."""
    title: str = ""
    """Short heading of what is shown; "": by the kind and the sender."""
    emotion: str = "neutral"
    sender: str = "operator"
    """Who says it, for logs and lists: "operator", "reminder", "tool" or a device id."""
    due_at: float
    """When it ought to be heard."""
    expires_at: float
    """After that it is not worth saying."""
    late_text: str = ""
    """Said instead of `text` when it is heard over a minute after `due_at`."""
    interrupts: bool = False
    """Do not wait for a pause in the conversation."""
    in_quiet_hours: bool = False
    """Heard at any hour: what the user has asked for himself, such as an alarm."""
    key: str = ""
    """Of two messages with one key and one device only the first counts; "": each counts."""


@dataclass(frozen=True, slots=True)
class MessageResult:
    """What has become of a message."""

    id: str
    device: str
    state: MessageState
    reason: str = field(default="")
    """In words, for FAILED, EXPIRED, INTERRUPTED and WAITING."""

    @property
    def settled(self) -> bool:
        """Whether the state is final."""
        return self.state.final


class MessageSender(Protocol):
    """Who takes messages and sees that they reach their device, whichever worker it is connected to."""

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        """Take it; wait at most `wait_s` for it to settle. It is kept (restarts included) until it has settled. May
        block for the database besides. Raises StorageError, Overloaded."""


class NoMessages:
    """A `MessageSender` where nobody keeps messages."""

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        """See MessageSender."""
        return MessageResult("", message.device, MessageState.FAILED, "messages are not kept here")
