"""Calls from device to device as tools speak of them: who is meant by a nickname, and what became of a call.

The seam of `plugins/call_device.py`: names come from an `AddressBook` (the configuration, or a console's), calls go
through a `Ring` that the composition root lends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol

from xiaozhi.protocol.device_id import normal_device_id


class Rung(Enum):
    """What became of a call to a device."""

    RINGS = "rings"
    BUSY = "busy"
    """Somebody speaks with it."""
    AWAY = "away"
    """It is not connected to this process, or has not said hello yet."""


Ring = Callable[[str, Mapping[str, str]], Rung]
"""(device id, what is said there by language) -> what became of it; returns at once."""


Dial = Callable[[str, str], tuple[bool, str]]
"""(device id, nickname) -> whether a device rings, and what is to be said about it: a console looks up and rings in one
step. Blocks. Raises VendorError, Overloaded."""


def nobody_is_there(device_id: str, words: Mapping[str, str]) -> Rung:
    """A `Ring` where no device is connected."""
    return Rung.AWAY


class AddressBook(Protocol):
    """Whom a device calls by which name. Both methods may ask a console: they block, and raise ToolError, VendorError
    when it cannot tell."""

    def look_up(self, device_id: str, nickname: str) -> str:
        """The device that `device_id` calls `nickname`; "": it knows nobody of that name."""

    def name_of(self, device_id: str, other: str) -> str:
        """What `device_id` calls the device `other`; "": it has no name for it."""


class ListedDevices:
    """One address book for all devices, as the configuration has it (nickname -> device id)."""

    def __init__(self, devices: Mapping[str, str]) -> None:
        self._devices = {nickname.strip(): normal_device_id(device) for nickname, device in devices.items()}

    def look_up(self, device_id: str, nickname: str) -> str:
        """See AddressBook."""
        wanted = nickname.strip().casefold()
        return next((device for name, device in self._devices.items() if name.casefold() == wanted), "")

    def name_of(self, device_id: str, other: str) -> str:
        """See AddressBook."""
        return next((name for name, device in self._devices.items() if device == normal_device_id(other)), "")
