"""The other devices of the household as tools speak of them: telling one of them something, calling one by its name.

The composition root lends it (`app/household.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from xiaozhi.errors import ToolError


class ToldWhen(Enum):
    """When a device hears what it is told."""

    NOW = "now"
    """It has heard it, or hears it in a moment."""
    WHEN_BACK = "when_back"
    """It is away."""
    AFTER_QUIET_HOURS = "after_quiet_hours"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Told:
    """One device and when it hears it."""

    name: str
    when: ToldWhen


@dataclass(frozen=True, slots=True)
class AskingDevice:
    """The device on whose behalf a tool asks."""

    device_id: str
    client_id: str = ""


class OtherDevices(Protocol):
    """The methods block, and raise ToolError with a text for the model, StorageError, Overloaded."""

    def tell(self, asker: AskingDevice, to: str, text: str) -> list[Told]:
        """Tell a device, a group or everyone something. ToolError: nobody goes by that name, or it is not allowed."""

    def called(self, asker: AskingDevice, name: str) -> str:
        """The id of the device of that name; "" when there is none, or more than one."""

    def name_of(self, device_id: str) -> str:
        """What its owner calls a device; "" when nothing."""


class NoOtherDevices:
    """Where each device is alone, such as under a management console, whose address book says who knows whom."""

    def tell(self, asker: AskingDevice, to: str, text: str) -> list[Told]:
        """See OtherDevices."""
        raise ToolError("Devices cannot be told anything here. 这里不能给其他设备传话。")

    def called(self, asker: AskingDevice, name: str) -> str:
        """See OtherDevices."""
        return ""

    def name_of(self, device_id: str) -> str:
        """See OtherDevices."""
        return ""
