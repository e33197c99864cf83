"""Write-behind: values gathered in memory by key, written together by one lasting greenlet, kept and tried again when
the database (or the shared store) fails.
 For what is counted or noted on a hot path, which must never wait for a database. Nothing is durable until it is
written: for what a process must not lose when it is killed, call `Database.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from gevent import Greenlet
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from xiaozhi.errors import Overloaded, StorageError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

K = TypeVar("K")
V = TypeVar("V")

GATHER_S = 1.0
"""From the first value to the writing of it and what came meanwhile."""
CAPACITY = 20_000
"""Keys that may wait. A new one more is dropped and counted."""
LONGEST_PAUSE_S = 60.0
"""Between two tries while the database fails; it begins with `GATHER_S` and doubles."""
WRITE_DEADLINE_S = 30.0
"""Long on purpose: a batch whose commit nobody knows of is written again, and may then be counted twice
(StorageTimeout.undecided)."""


class Store(Protocol):
    """Where values are written: a `Database` or a `SharedStore`."""

    def run(self, work: Callable[[Any], Any], /, *, deadline: float) -> Any:
        """What `work` returns, which gets a connection. Raises StorageError, Overloaded."""


def _latest(old: Any, new: Any) -> Any:
    return new


class WriteBehind(Generic[K, V]):
    """`put` from anywhere, never blocking; `start` and `close` around it.

    `write(connection, batch)` runs on the storage thread in a transaction, for a shared store on the hub and with its
    client; `on_written(batch, result)` on the hub with what it returned. `merge(old, new)` joins two values of one key
    that wait (default: the new one counts). `name` is for logs."""

    def __init__(
        self,
        name: str,
        store: Store,
        write: Callable[[Any, Mapping[K, V]], Any],
        *,
        merge: Callable[[V, V], V] = _latest,
        on_written: Callable[[Mapping[K, V], Any], None] = lambda batch, result: None,
        gather: float = GATHER_S,
        capacity: int = CAPACITY,
    ) -> None:
        self.dropped = 0
        self._name = name
        self._store = store
        self._write = write
        self._merge = merge
        self._on_written = on_written
        self._gather = gather
        self._capacity = capacity
        self._waiting: dict[K, V] = {}
        self._writing: dict[K, V] = {}
        self._wanted = Event()
        self._closing = Event()
        self._one_at_a_time = BoundedSemaphore(1)
        self._greenlet: Greenlet | None = None
        self._failing = False
        self._full = False

    def __len__(self) -> int:
        """Keys that are not written yet."""
        return len(self._waiting) + len(self._writing)

    def start(self) -> None:
        """Have what is put written; idempotent, and may be called again in case a bug has ended the writer."""
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = tasks.spawn(f"{self._name}-writer", self._work)

    def put(self, key: K, value: V) -> bool:
        """Have `value` written soon; False when there was no room for it."""
        waiting = self._waiting
        if key in waiting:
            waiting[key] = self._merge(waiting[key], value)
            return True
        if len(self) >= self._capacity:
            self.dropped += 1
            if not self._full:
                self._full = True
                log.error("no room left in memory, dropped from now on", what=self._name, capacity=self._capacity)
            return False
        waiting[key] = value
        if not self._wanted.is_set():
            self._wanted.set()
        return True

    def unwritten(self, key: K, default: V) -> V:
        """The value of `key` that is not written yet, as far as is known; `default` when there is none."""
        writing, waiting = self._writing, self._waiting
        if key not in writing:
            return waiting.get(key, default)
        return self._merge(writing[key], waiting[key]) if key in waiting else writing[key]

    def flush(self) -> bool:
        """Write what waits, now; False when the database failed (it is kept). Blocks at most about
        `WRITE_DEADLINE_S`."""
        with self._one_at_a_time:
            if not self._waiting:
                return True
            batch, self._waiting = self._waiting, {}
            self._writing = batch
            self._wanted.clear()
            try:
                result = self._store.run(lambda connection: self._write(connection, batch), deadline=WRITE_DEADLINE_S)
            except (StorageError, Overloaded) as error:
                if isinstance(error, StorageError) and not error.retryable:
                    self.dropped += len(batch)
                    self._writing = {}
                    log.error("refused by the store, dropped", what=self._name, error=str(error), count=len(batch))
                    return True
                self._keep()
                if not self._failing:
                    self._failing = True
                    log.warning("not written, kept in memory", what=self._name, error=str(error), waiting=len(self))
                return False
            except BaseException:
                self._keep()
                raise
            self._writing = {}
            self._on_written(batch, result)
            if self._failing:
                log.warning("written again", what=self._name, dropped=self.dropped)
            self._failing = self._full = False
            return True

    def close(self, seconds: float) -> int:
        """Write what is left and stop, within about `seconds`; how many values were lost. Idempotent."""
        self._closing.set()
        self._wanted.set()
        if len(self):
            self.start()
        if self._greenlet is not None:
            self._greenlet.join(timeout=seconds)
            tasks.end(self._greenlet)
            self._greenlet = None
        left = len(self)
        if left:
            log.error("lost at the stop of the server", what=self._name, count=left)
            self._waiting = {}
        return left

    def _work(self) -> None:
        pause = self._gather
        while not self._closing.is_set():
            self._wanted.wait()
            self._closing.wait(timeout=pause)
            pause = self._gather if self.flush() else min(pause * 2, LONGEST_PAUSE_S)
        self.flush()

    def _keep(self) -> None:
        """What could not be written waits again, joined with what has come since."""
        kept = dict(self._writing)
        for key, value in self._waiting.items():
            kept[key] = self._merge(kept[key], value) if key in kept else value
        self._waiting, self._writing = kept, {}
        self._wanted.set()
