"""How often one sender may ask: the limits in force, put to the counts.

Part of the composition root."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.rates import Rates
from xiaozhi.settings.server import Limits


class RequestRates:
    """`current`: the limits in force; `guesses`: wrong secrets.

    Every method counts one request, and raises TooOften instead when there were too many within a minute. "" is the
    address of a proxy that does not say for whom it speaks: it has no limit."""

    def __init__(self, current: Callable[[], Limits], rates: Rates | None = None) -> None:
        self._current = current
        self._rates = rates or Rates()
        self.guesses = Guesses(self._rates)

    def ota(self, address: str, device_id: str) -> None:
        """By address; with a device id by both, so that nobody uses up what a device elsewhere may ask."""
        limits = self._current()
        if device_id:
            self._rates.ask(limits.ota_per_device, "OTA of this device", address, device_id)
        elif address:
            self._rates.ask(limits.ota_per_minute, "OTA", address)

    def vision(self, device_id: str) -> None:
        """A device that has shown its token."""
        self._rates.ask(self._current().vision_per_device, "pictures", device_id)

    def order(self, address: str) -> None:
        """A `server` message."""
        self._rates.ask(self._current().orders_per_minute, "orders", address)

    def clear(self) -> None:
        """Begin anew with everybody."""
        self._rates.clear()
