"""What is noted of devices while they talk: that they were seen, where they are connected, what was said last.

Written behind, all of it in one transaction a few times a second (`storage/write_behind.py`): nobody waits for the
database. A process that is killed loses what it noted in the last moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from xiaozhi.storage import devices, presences
from xiaozhi.storage.database import Database, Transaction
from xiaozhi.storage.presences import Visit
from xiaozhi.storage.write_behind import WriteBehind

GATHER_S = 0.2
"""Short: another worker is to notice a device that has come here within a second or so."""


class DeviceNotes:
    """`saw`, `arrived`, `left` and `keep` never block; `start` and `close` around them. `clock`: seconds since 1970."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._notes: WriteBehind[tuple[str, ...], Any] = WriteBehind(
            "devices", database, self._write, merge=_joined, gather=GATHER_S
        )

    @property
    def waiting(self) -> int:
        """Notes that are not written yet."""
        return len(self._notes)

    def saw(self, device: str, report: Mapping[str, Any]) -> None:
        """A device has asked or come; `report` is laid over what it said before."""
        self._notes.put(("device", device), dict(report))

    def arrived(self, visit: Visit) -> None:
        """A connection has begun."""
        self._notes.put(("visit", visit.visit), visit)

    def left(self, visit: str) -> None:
        """A connection has ended."""
        self._notes.put(("visit", visit), None)

    def stands(self, device: str, worker: str, since: float | None) -> None:
        """A device has a standing connection to `worker` since then; None: not any more."""
        self._notes.put(("standing", device, worker), since)

    def keep(self, device: str, client: str, snapshot: bytes, said_at: float, kept_at: float) -> None:
        """The dialogue of a device as it is now: when something was said last, and from when on it is kept."""
        self._notes.put(("dialogue", device, client), (snapshot, said_at, kept_at))

    def start(self) -> None:
        """Have notes written; may be called again."""
        self._notes.start()

    def flush(self) -> bool:
        """Write what waits, now; False when the database failed."""
        return self._notes.flush()

    def close(self, seconds: float) -> int:
        """Write what is left within about `seconds`, and stop; how many notes were lost. Idempotent."""
        return self._notes.close(seconds)

    def _write(self, connection: Transaction, batch: Mapping[tuple[str, ...], Any]) -> None:
        kinds: dict[str, dict[Any, Any]] = {"device": {}, "visit": {}, "standing": {}, "dialogue": {}}
        for (kind, name, *second), value in batch.items():
            kinds[kind][(name, second[0]) if second else name] = value
        devices.note(connection, kinds["device"], self._clock())
        presences.keep(connection, kinds["visit"])
        presences.keep_standing(connection, kinds["standing"])
        presences.keep_dialogues(connection, kinds["dialogue"])


def _joined(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new
