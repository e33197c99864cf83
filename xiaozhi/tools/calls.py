"""Calls from device to device as tools speak of them: who is meant by a nickname, and what became of a call.

The two seams of `plugins/call_device.py`: a console that places calls by itself is an `AddressBook`; without one the
configuration lists the devices, and a `Ring` reaches them. The composition root lends both."""

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
    """Nobody can be told anything there now."""


Ring = Callable[[str, Mapping[str, str]], Rung]
"""(device id, what is said there by language) -> what became of it; may block for some seconds. Raises StorageError,
Overloaded."""


def nobody_is_there(device_id: str, words: Mapping[str, str]) -> Rung:
    """A `Ring` where no device is connected."""
    return Rung.AWAY


class CallOutcome(Protocol):
    """What became of a call that a console placed."""

    @property
    def ringing(self) -> bool:
        """Whether it rings, or was accepted."""

    @property
    def said(self) -> str:
        """The console's own words, "" when it gave none."""


class AddressBook(Protocol):
    """A console's: it knows whom a device calls by which name, and places the call itself, through its gateway. Both
    methods block, and raise VendorError, Overloaded."""

    def look_up(self, device_id: str, nickname: str) -> CallOutcome:
        """Call the device that `device_id` knows as `nickname`."""

    def answer(self, device_id: str) -> CallOutcome:
        """Accept the call that rings at `device_id`."""


class ListedDevices:
    """The devices that the configuration lists (nickname -> device id), the same for all."""

    def __init__(self, devices: Mapping[str, str]) -> None:
        self._devices = {nickname.strip(): normal_device_id(device) for nickname, device in devices.items()}

    def look_up(self, nickname: str) -> str:
        """The device of that name; "": there is none."""
        wanted = nickname.strip().casefold()
        return next((device for name, device in self._devices.items() if name.casefold() == wanted), "")

    def name_of(self, device_id: str) -> str:
        """The name of a device; "": it has none."""
        return next((name for name, device in self._devices.items() if device == normal_device_id(device_id)), "")
