"""Which board a device is, as far as it has told: `boards:` in the configuration has settings for some.

A device does not say it where it connects (its WebSocket request has no User-Agent), but in its OTA request and, after
its hello, in its MCP answer. Kept in the memory of this process, for the devices heard of last: after a restart, or at
another worker than the one that answered its OTA request, a device without MCP counts as an unknown board until it asks
again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MAX_DEVICES: Final = 10_000
"""About 3 MB at the very most."""
MAX_NAMES: Final = 4
MAX_CHARS: Final = 64


class KnownBoards:
    """Names of the board (type, name, product of the User-Agent), by device id in its normal form."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}  # the device heard of last stands last

    def learn(self, device_id: str, names: Iterable[str]) -> None:
        """The device has said what it is; its latest words count most."""
        known = self._names.pop(device_id, ())
        told = [name.strip()[:MAX_CHARS] for name in names if name.strip()]
        self._names[device_id] = tuple(dict.fromkeys((*told, *known)))[:MAX_NAMES]
        if len(self._names) > MAX_DEVICES:
            del self._names[next(iter(self._names))]

    def names(self, device_id: str) -> tuple[str, ...]:
        """What the device has said; empty when nothing is known."""
        return self._names.get(device_id, ())
