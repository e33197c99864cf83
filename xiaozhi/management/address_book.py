"""Calls from one device to another, by the names in the caller's address book: the console knows both, and rings.

Not the tool (`tools/plugins/call_device.py`), which decides what is said about the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xiaozhi.management.client import ConsoleClient


@dataclass(frozen=True, slots=True)
class RingOutcome:
    """What became of a call. `said`: the console's own words about it, "" when it gave none."""

    ringing: bool
    said: str = ""


class ConsoleAddressBook:
    """An `AddressBook` (`tools/calls.py`). Blocks up to 10 s. Raises VendorError, Overloaded. `mac`: a device's id as
    it writes it, by its id."""

    def __init__(self, client: ConsoleClient, mac: Callable[[str], str] = lambda device_id: device_id) -> None:
        self._client = client
        self._mac = mac

    def look_up(self, device_id: str, nickname: str) -> RingOutcome:
        """Ring the device that `device_id` calls `nickname`. (The console looks up and rings in one step.)"""
        return _outcome(self._client.call_device(self._mac(device_id), nickname))

    def answer(self, device_id: str) -> RingOutcome:
        """Accept the call that rings at `device_id`."""
        # The console wants a name and does not look at it.
        return _outcome(self._client.call_device(self._mac(device_id), "-", answer=True))


def _outcome(answer: dict[str, object]) -> RingOutcome:
    message = answer.get("message")
    return RingOutcome(answer.get("status") == "success", message if isinstance(message, str) else "")
