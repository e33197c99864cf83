"""Dialogues to resume: when a device disconnects, its dialogue is kept for a while; when the device connects again, to
any worker, the conversation goes on with it.

The key is the device id together with the client id. The device id alone would not do: it is printed on the device and
sent over the air, so a stranger could get another's words with it. Without a client id nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cachetools import LRUCache, TTLCache

from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.errors import StorageError
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)


class Elsewhere(Protocol):
    """Where dialogues wait that other servers have held (`storage/shared_values.py`)."""

    def keep(self, device: str, client: str, snapshot: bytes, said_at: float) -> None:
        """Put one there, soon, unless something newer is there. Does not block."""

    def look_up(self, device: str, client: str) -> tuple[bytes, float] | None:
        """Snapshot and time. Blocks for a moment. Raises StorageError."""


class _Kept(NamedTuple):
    snapshot: bytes
    said_at: float


class ResumeStore:
    """Snapshots for `seconds`, at most `max_entries` of them and `max_bytes`; the oldest go first.

    In the memory of this process, and through `notes` in the database, from which `learn` brings back what another
    worker, or this one before its restart, has put there; likewise `elsewhere`, if there is such a place, which is
    asked by `fetch`. `today`: seconds since 1970, by which workers compare."""

    def __init__(
        self,
        *,
        seconds: float = 120.0,
        max_entries: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        notes: DeviceNotes | None = None,
        elsewhere: Elsewhere | None = None,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self.seconds = seconds
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._notes = notes
        self._elsewhere = elsewhere
        self._today = today
        self._kept: TTLCache[tuple[str, str], _Kept] = TTLCache(
            max_bytes, ttl=seconds, timer=clock, getsizeof=lambda kept: len(kept.snapshot)
        )
        self._said_at: LRUCache[tuple[str, str], float] = LRUCache(max_entries)
        """When something was said last in visits under way. A visit may end long after that, and its device may have
        gone on elsewhere meanwhile."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Bytes of all snapshots that are kept."""
        self._kept.expire()
        return int(self._kept.currsize)

    def put(self, device_id: str, client_id: str, snapshot: bytes) -> None:
        """Keep the dialogue of a device that left; replaces an earlier one. One that is too large alone is not kept."""
        self._kept.pop((device_id, client_id), None)
        if self._keeps(client_id, snapshot):
            said_at = self._said_at.get((device_id, client_id), self._today())
            self._remember(device_id, client_id, _Kept(snapshot, said_at))
            self._share(device_id, client_id, snapshot, said_at)

    def save(self, device_id: str, client_id: str, snapshot: bytes) -> None:
        """A turn of a visit under way has ended: should the device come back elsewhere, it goes on from here."""
        if not self._keeps(client_id, snapshot):
            return
        self._said_at[device_id, client_id] = said_at = self._today()
        self._share(device_id, client_id, snapshot, said_at)

    def learn(self, device_id: str, client_id: str, snapshot: bytes, said_at: float) -> None:
        """What stands in the database; counts unless something newer is known here."""
        known = self._kept.get((device_id, client_id))
        if self._keeps(client_id, snapshot) and (known is None or known.said_at < said_at):
            self._remember(device_id, client_id, _Kept(snapshot, said_at))

    def fetch(self, device_id: str, client_id: str) -> None:
        """A device comes: learn what was said with it elsewhere. Blocks for a moment, and goes on without when that
        place cannot be asked."""
        if self._elsewhere is None or not self._keeps(client_id, b""):
            return
        try:
            found = self._elsewhere.look_up(device_id, client_id)
        except StorageError as error:
            log.debug("what was said elsewhere is not known", reason=str(error))
            return
        if found is not None:
            self.learn(device_id, client_id, *found)

    def take(self, device_id: str, client_id: str) -> bytes | None:
        """The dialogue of a device that is back, once; None when there is none or it is too old."""
        kept = self._kept.pop((device_id, client_id), None)
        if not isinstance(kept, _Kept):
            return None
        self._said_at[device_id, client_id] = kept.said_at
        return kept.snapshot

    def _share(self, device_id: str, client_id: str, snapshot: bytes, said_at: float) -> None:
        if self._notes is not None:
            self._notes.keep(device_id, client_id, snapshot, said_at, self._today())
        if self._elsewhere is not None:
            self._elsewhere.keep(device_id, client_id, snapshot, said_at)

    def _keeps(self, client_id: str, snapshot: bytes) -> bool:
        return self.seconds > 0 and bool(client_id) and len(snapshot) <= self._max_bytes

    def _remember(self, device_id: str, client_id: str, kept: _Kept) -> None:
        while len(self._kept) >= self._max_entries:
            self._kept.popitem()
        self._kept[device_id, client_id] = kept
