"""What of the console's settings cannot be used on this server: each told once in the log, and shown on the page.

Part of the composition root. `add` may be called in a thread of the pool, everything else on the hub."""

from __future__ import annotations

from xiaozhi.errors import Fault
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

MAX_NOTES = 100
"""More are neither told nor shown: a console that full of faults is looked at anyway."""


class ManagementNotes:
    """See the module."""

    def __init__(self) -> None:
        self._found: dict[str, Fault] = {}
        self._told: set[str] = set()

    def add(self, fault: Fault) -> None:
        """This was left out; what the server has itself takes its place."""
        if len(self._found) < MAX_NOTES:
            self._found.setdefault(f"{fault.key} {fault.value}", fault)

    def tell(self) -> None:
        """Log what has not been logged yet."""
        for key, fault in list(self._found.items()):
            if key not in self._told:
                self._told.add(key)
                log.warning("the console's setting is left out, the server's own takes its place", fault=str(fault))

    def forget(self) -> None:
        """The console's settings are read anew; what is still wrong with them is found again, and not told again."""
        self._found.clear()

    @property
    def shown(self) -> list[str]:
        """A sentence each, fit for everybody: without addresses, and without values, which may be anything."""
        return [
            f"{fault.key}: what the console says cannot be used here, the server's own takes its place"
            for fault in list(self._found.values())
        ]
