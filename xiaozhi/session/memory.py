"""Saves what a visit left behind, off the hot path, without losing it when the vendor fails, the server stops or the
process is killed.
 Not a memory provider: it only sees to it that `Memory.save` is called for each visit, by few workers, with a bounded
backlog.

    note ─► [open] ─────► keeper: a row of the store, every few seconds while the visit lasts
    save ─► [accepted] ─► keeper: a row of the store ─► [held] ─► a worker: Memory.save ─► the row is removed
                                                                       └─ failed for now ─► the row is due again later
 A visit is a row from soon after its first answer, and before its saving begins, until that has succeeded, so it is
saved at least once; it is saved twice only when the process dies between the two. A process that is killed loses what
was said in the last `NOTE_S` of the visits under way. A row belongs to one process for the time of a lease
(`storage/pending_memories.py`). Rows that are due, of whichever process, are taken up at start and every `TICK_S`.
While the store is down, visits are saved from memory, of which there is a bound.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import gevent
from gevent import Greenlet
from gevent.event import Event

from xiaozhi.chat import Message
from xiaozhi.errors import Overloaded, StorageError, VendorBusy, VendorError, VendorGarbage, VendorRejected
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.storage import pending_memories
from xiaozhi.storage.database import Database
from xiaozhi.storage.pending_memories import PendingVisit, Said

log = get_logger(__name__)

MAX_WAITING = 500
"""Visits in memory that are accepted, and visits that are held to be saved. More of the latter wait in the store only;
more of the former, which come together only while the store is down, are lost and counted."""
WORKERS = 4
TAKEN_AT_ONCE = 16
"""Rows of others, and of earlier times, that one process holds."""
TICK_S = 15.0
NOTE_S = 5.0
"""Between what is said in a visit under way and its row."""
LEASE_S = 60.0
STORE_PAUSE_S = 2.0
"""Between two tries while the store fails."""
STORE_DEADLINE_S = 10.0
LAST_DEADLINE_S = 5.0
"""The same when the server stops."""
FIRST_RETRY_S = 15.0
LONGEST_RETRY_S = 3_600.0
KEPT_S = 30 * 86_400.0
"""A visit that could not be saved for so long is given up."""


@dataclass(slots=True, eq=False)
class _Job:
    memory: Memory
    visit: PendingVisit
    stored: bool = False
    noted: bool = False
    """A part of it may be a row, from when it was under way."""
    due_at: float = 0.0


@dataclass(slots=True, eq=False)
class _OpenVisit:
    visit: PendingVisit
    noted: bool = False
    """It is in the store as it is here."""


class MemoryWriter:
    """`start`; `note` while a visit lasts and `save` when it ends; `flush` in the end. `clock`: seconds since 1970, the
    same for all processes of a store."""

    def __init__(
        self,
        database: Database,
        *,
        workers: int = WORKERS,
        lease_s: float = LEASE_S,
        note_s: float = NOTE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.saved = 0
        self.failed = 0
        self.lost = 0
        self._database = database
        self._workers = workers
        self._lease_s = lease_s
        self._note_s = note_s
        self._tick_s = min(TICK_S, lease_s / 4)
        self._clock = clock
        self._owner = uuid.uuid4().hex
        self._memory: Callable[[], Memory] | None = None
        self._open: dict[str, _OpenVisit] = {}
        """Visits under way by session."""
        self._note_at: float | None = None
        self._accepted: deque[_Job] = deque()
        self._held: dict[str, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._finished: set[str] = set()
        self._more_due = False
        self._tasks = Tasks()
        self._keeper: Greenlet | None = None
        self._wanted = Event()
        self._progress = Event()
        self._stopping = False
        self._failing = False
        self._beat = time.monotonic()

    @property
    def waiting(self) -> int:
        """Visits in memory that are not saved yet."""
        return len(self._accepted) + len(self._held)

    @property
    def beat(self) -> float:
        """When the keeper last began a round (monotonic seconds); it does so at least every minute."""
        return self._beat

    def start(self, memory: Callable[[], Memory]) -> None:
        """Begin, with what is due. `memory`: the provider in force, for visits of earlier processes."""
        self._memory = memory
        self._tick()
        self.revive()

    def revive(self) -> None:
        """Have a keeper, in the place of one that has failed or hangs."""
        if self._keeper is not None:
            self._keeper.kill(block=False)
        self._keeper = tasks.spawn("memory-keeper", self._keep)

    def note(self, memory: Memory, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        """What was said so far in a visit that goes on; never blocks. `save` will follow, or the end of the process."""
        said = _said(messages)
        if not said or not memory.traits.remembers or self._stopping:
            return
        known = self._open.get(session_id)
        visit = known.visit if known else PendingVisit(uuid.uuid4().hex, device_id, session_id, (), self._clock())
        self._open[session_id] = _OpenVisit(replace(visit, said=said))
        if self._note_at is None:
            self._note_at = self._clock() + self._note_s
            self._wanted.set()

    def save(self, memory: Memory, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        """Hand in a visit; never blocks. It is a row of the store a few milliseconds later."""
        said = _said(messages)
        known = self._open.pop(session_id, None)
        if not said or not memory.traits.remembers:
            return
        if len(self._accepted) >= MAX_WAITING:
            self._lose(1)
            return
        visit = (
            replace(known.visit, said=said)
            if known is not None
            else PendingVisit(uuid.uuid4().hex, device_id, session_id, said, self._clock())
        )
        self._accepted.append(_Job(memory, visit, noted=known is not None))
        self._wanted.set()

    def settle(self, memory: Memory, seconds: float) -> bool:
        """Wait until nothing is left to be saved with `memory`, at most `seconds`; True when nothing is."""
        return self._wait(
            lambda: not any(job.memory is memory for job in chain(self._accepted, self._held.values())), seconds
        )

    def flush(self, seconds: float) -> bool:
        """Wait for the backlog at most `seconds`, then leave the rest to another process, and stop; True when nothing
        was left."""
        self._stopping = True
        self._wanted.set()
        self._wait(lambda: not self.waiting, seconds)
        if self._keeper is not None:
            tasks.end(self._keeper, 1.0)
        self._tasks.kill(timeout=1.0)
        jobs = [*self._accepted, *self._held.values()]
        loose = [job.visit for job in jobs if not job.stored]
        if not jobs and not self._finished:
            return True
        try:
            self._database.run(
                lambda connection: pending_memories.let_go(
                    connection, self._owner, loose, list(self._finished), self._clock()
                ),
                deadline=LAST_DEADLINE_S,
            )
        except (StorageError, Overloaded) as error:
            self._store_failed(error)
            self._lose(len(loose))
        self._accepted.clear()
        self._held.clear()
        self._queue.clear()
        return not jobs

    # --- the keeper: between memory and store -------------------------------------------------------------------------

    def _keep(self) -> None:
        tick_at = self._clock() + self._tick_s
        while True:
            self._beat = time.monotonic()
            notes = self._tick_s if self._note_at is None else max(0.0, self._note_at - self._clock())
            self._wanted.wait(timeout=min(self._tick_s, notes))
            self._wanted.clear()
            self._store_accepted()
            self._store_open()
            if self._failing or self._more_due or self._clock() >= tick_at:
                tick_at = self._clock() + self._tick_s
                self._tick()
            if self._failing:
                gevent.sleep(STORE_PAUSE_S)
                self._wanted.set()

    def _store_accepted(self) -> None:
        """Make rows of what was accepted, and have it saved; without rows when the store fails."""
        jobs, now = list(self._accepted), self._clock()
        if not jobs:
            return
        ready = [job for job in jobs if job.due_at <= now][: max(0, MAX_WAITING - len(self._held))]
        others = [job for job in jobs if job not in ready]
        try:
            mine, theirs = [job.visit for job in ready], [(job.visit, max(now, job.due_at)) for job in others]
            self._database.run(
                lambda connection: pending_memories.accept(connection, mine, self._owner, now + self._lease_s, theirs),
                deadline=STORE_DEADLINE_S,
            )
        except (StorageError, Overloaded) as error:
            self._store_failed(error)
        else:
            self._store_works()
            for job in ready:
                job.stored = True
            # There is no room for these here and now: whoever has some takes them from the store.
            self._more_due = self._more_due or bool(others)
            others = []
        for _ in jobs:
            self._accepted.popleft()
        self._accepted.extendleft(reversed(others))
        self._hand_over(ready)

    def _store_open(self) -> None:
        """Make rows of what was said in the visits under way, when it is time."""
        now = self._clock()
        if self._note_at is None or now < self._note_at:
            return
        fresh = [known for known in self._open.values() if not known.noted]
        self._note_at = None
        try:
            visits = [known.visit for known in fresh]
            self._database.run(
                lambda connection: pending_memories.accept(connection, visits, self._owner, now + self._lease_s),
                deadline=STORE_DEADLINE_S,
            )
        except (StorageError, Overloaded) as error:
            self._note_at = now + self._note_s
            self._store_failed(error)
            return
        for known in fresh:
            known.noted = True

    def _tick(self) -> None:
        """Renew the leases of what is held or under way, and take what is due."""
        now = self._clock()
        held, finished = [id for id, job in self._held.items() if job.stored], list(self._finished)
        held += [known.visit.id for known in self._open.values()]
        memory = self._memory() if self._memory is not None and not self._stopping else None
        room = min(TAKEN_AT_ONCE, MAX_WAITING) - len(self._held)
        try:
            if held or finished:
                self._database.run(
                    lambda connection: pending_memories.tend(
                        connection, self._owner, held, now + self._lease_s, finished
                    ),
                    deadline=STORE_DEADLINE_S,
                )
                self._finished.difference_update(finished)
            self._more_due = False
            if (
                memory is None
                or not memory.traits.remembers
                or not self._database.read(lambda connection: pending_memories.any_due(connection, now))
            ):
                return
            self._more_due = True
            if room > 0:
                visits, given_up = self._database.run(
                    lambda connection: pending_memories.claim(
                        connection, self._owner, now, now + self._lease_s, limit=room, kept_since=now - KEPT_S
                    ),
                    deadline=STORE_DEADLINE_S,
                )
                self._more_due = len(visits) == room
                self._lose(given_up)
                self._hand_over([_Job(memory, visit, stored=True) for visit in visits if visit.id not in self._held])
        except (StorageError, Overloaded) as error:
            self._store_failed(error)
        else:
            self._store_works()

    # --- the workers: between memory and vendor -----------------------------------------------------------------------

    def _hand_over(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            self._held[job.visit.id] = job
            self._queue.append(job)
        for _ in range(min(len(self._queue), self._workers - len(self._tasks))):
            self._tasks.spawn("memory-writer", self._work)

    def _work(self) -> None:
        while self._queue:
            job = self._queue.popleft()
            try:
                self._save(job)
            finally:
                self._progress.set()
        if self._more_due:
            self._wanted.set()

    def _save(self, job: _Job) -> None:
        visit = job.visit
        try:
            job.memory.save(
                visit.device,
                [Message("user" if role == "user" else "assistant", content) for role, content in visit.said],
                visit.session,
            )
        except (VendorError, Overloaded) as error:
            self.failed += 1
            log.warning("memory not saved", vendor=job.memory.name, error=str(error)[:200], attempts=visit.attempts + 1)
            if isinstance(error, VendorRejected | VendorGarbage):
                self._done(job)
            else:
                self._again(job, error.after if isinstance(error, VendorBusy) else None)
        except Exception:
            # A bug in one provider must not cost the visits that wait behind this one.
            self.failed += 1
            log.exception("memory not saved")
            self._again(job)
        else:
            self.saved += 1
            self._done(job)

    def _done(self, job: _Job) -> None:
        has_row = job.stored or job.noted
        if has_row:
            # First noted: a worker that is killed now has its row removed by `flush`.
            self._finished.add(job.visit.id)
        self._held.pop(job.visit.id, None)
        if has_row:
            try:
                self._database.run(
                    lambda connection: pending_memories.remove(connection, self._owner, [job.visit.id]),
                    deadline=STORE_DEADLINE_S,
                )
                self._finished.discard(job.visit.id)
            except (StorageError, Overloaded) as error:
                self._store_failed(error)

    def _again(self, job: _Job, after: float | None = None) -> None:
        visit = replace(job.visit, attempts=job.visit.attempts + 1)
        due_at = self._clock() + max(after or 0.0, min(FIRST_RETRY_S * 2 ** (visit.attempts - 1), LONGEST_RETRY_S))
        self._held.pop(visit.id, None)
        if not job.stored:
            self._accepted.append(_Job(job.memory, visit, noted=job.noted, due_at=due_at))
            return
        try:
            self._database.run(
                lambda connection: pending_memories.put_back(connection, self._owner, visit.id, visit.attempts, due_at),
                deadline=STORE_DEADLINE_S,
            )
        except (StorageError, Overloaded) as error:
            # Its lease ends by itself.
            self._store_failed(error)

    # --- what is said of it -------------------------------------------------------------------------------------------

    def _store_failed(self, error: StorageError | Overloaded) -> None:
        if not self._failing:
            self._failing = True
            log.warning("pending memories are in memory only, the store fails", error=str(error), waiting=self.waiting)

    def _store_works(self) -> None:
        if self._failing:
            self._failing = False
            log.warning("pending memories are in the store again", lost=self.lost)

    def _lose(self, count: int) -> None:
        if count and not self.lost:
            log.error("visits lost that could not be saved; further ones are only counted", count=count)
        self.lost += count

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not condition():
            self._progress.clear()
            if not self._progress.wait(timeout=max(0.0, until - time.monotonic())):
                return condition()
        return True


def _said(messages: Sequence[Message]) -> Said:
    """What the user and the assistant said."""
    return tuple(
        (message.role, message.content)
        for message in messages
        if message.role in ("user", "assistant") and message.content
    )
