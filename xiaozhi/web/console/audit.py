"""What was changed by the console, by whom and from where: kept in the database, newest first, bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import console_store
from xiaozhi.storage.console_store import AuditEntry
from xiaozhi.storage.database import Database
from xiaozhi.web.app import request_origin

log = get_logger(__name__)

KEPT: Final = 10_000


class AuditTrail:
    """`clock`: seconds since 1970."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def note(self, what: str, *, who: str, **details: Any) -> None:
        """Write down a change that the current request has made. `details` hold no secrets. Blocks for the database;
        raises StorageError."""
        entry = AuditEntry(self._clock(), who, request_origin().client_ip, what, details)
        log.info("console", what=what, who=who, peer=entry.address, **details)
        self._database.run(lambda connection: console_store.note(connection, entry, KEPT))

    def latest(self, count: int) -> list[AuditEntry]:
        """The latest changes, newest first. Blocks for the database; raises StorageError."""
        return self._database.read(lambda connection: console_store.latest(connection, count))
