"""Calls from one device to another, by the names in the caller's address book: the console knows both, and rings.

Not the tool (`tools/plugins/call_device.py`), which decides what is said about the outcome."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.management.client import ConsoleClient


class ConsoleAddressBook:
    """Blocks up to 10 s. Raises VendorError, Overloaded. `mac`: a device's id as it writes it, by its id."""

    def __init__(self, client: ConsoleClient, mac: Callable[[str], str] = lambda device_id: device_id) -> None:
        self._client = client
        self._mac = mac

    def dial(self, device_id: str, nickname: str) -> tuple[bool, str]:
        """Ring the device that `device_id` calls `nickname`: whether it rings, and what the console says about it. (It
        looks up and rings in one step.)"""
        return _outcome(self._client.call_device(self._mac(device_id), nickname))

    def answer(self, device_id: str) -> tuple[bool, str]:
        """Accept the call that rings at `device_id`."""
        # The console wants a name and does not look at it.
        return _outcome(self._client.call_device(self._mac(device_id), "-", answer=True))


def _outcome(answer: dict[str, object]) -> tuple[bool, str]:
    message = answer.get("message")
    return answer.get("status") == "success", message if isinstance(message, str) else ""
