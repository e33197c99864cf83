"""Delivers the journal to the sinks: each gets everything, in order per session, at least once.

    journal ─► [window, bounded] ─► by session ─► a few workers ─► sink.deliver, sink.session_ended ─► journal.take

Every sink has its own place in the journal, so one that is down holds up no other. Sessions are delivered side by side;
within a session an entry comes after all earlier ones were taken, and the session's end after all of them. While a sink
fails, one worker tries again after a pause that grows; what waits stays in the journal, which has a bound of its own.
What a sink refuses for good is given up for that sink and counted. Delivery begins at the start of the server with
whatever the journal still holds, and costs nothing while it holds nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gevent import Greenlet
from gevent.event import Event

from xiaozhi.errors import Overloaded, StorageError, VendorBusy, VendorError, forget_trace
from xiaozhi.history.entries import EndedSession, HistoryEntry, HistorySink
from xiaozhi.history.journal import Journal, Record
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

WINDOW: Final = 128
"""Records in memory per sink."""
WORKERS: Final = 4
"""Sessions that are delivered side by side, per sink."""
TOGETHER: Final = 16
"""Entries of one session that are delivered in one call."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
READ_PAUSE_S: Final = 1.0
"""Between two looks while the journal cannot be read."""


@dataclass(slots=True)
class SinkCounts:
    """What became of the records of one sink."""

    delivered: int = 0
    given_up: int = 0
    failures: int = 0


class Reporter:
    """`start`, then `flush` and `close` at the end. `clock`: monotonic seconds."""

    def __init__(
        self,
        journal: Journal,
        sinks: Sequence[HistorySink],
        *,
        workers: int = WORKERS,
        first_pause: float = FIRST_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._deliveries = [_Delivery(journal, sink, workers, first_pause, clock) for sink in sinks]

    def start(self, *, soon: bool = True) -> None:
        """Begin with what earlier processes left; `soon`: see `Journal.start`. Blocks while it is read."""
        self._journal.start([delivery.sink.name for delivery in self._deliveries], self._wake, soon=soon)

    def revive(self) -> None:
        """Have every sink served, also if a bug has ended what served it."""
        for delivery in self._deliveries:
            delivery.wake()

    @property
    def counts(self) -> dict[str, SinkCounts]:
        """By sink."""
        return {delivery.sink.name: delivery.counts for delivery in self._deliveries}

    @property
    def failing(self) -> dict[str, bool]:
        """Sink -> whether it fails now."""
        return {delivery.sink.name: delivery.failing for delivery in self._deliveries}

    @property
    def waiting(self) -> dict[str, int]:
        """Sink -> records on the disk that it has not been given."""
        return {delivery.sink.name: delivery.waiting for delivery in self._deliveries}

    def flush(self, seconds: float) -> bool:
        """Have everything delivered, within about `seconds`; False when something is left, which the next start
        delivers. A sink that fails is not waited for."""
        until = time.monotonic() + seconds
        self._journal.flush(seconds)
        settled = True
        for delivery in self._deliveries:
            settled = delivery.settle(max(0.0, until - time.monotonic())) and settled
        return settled

    def close(self) -> None:
        """Stop; what is being delivered is cut off. Idempotent."""
        for delivery in self._deliveries:
            delivery.close()

    def _wake(self) -> None:
        for delivery in self._deliveries:
            delivery.wake()


class _Delivery:
    """One sink's."""

    def __init__(
        self, journal: Journal, sink: HistorySink, workers: int, first_pause: float, clock: Callable[[], float]
    ) -> None:
        self.sink = sink
        self.counts = SinkCounts()
        self.failing = False
        self._journal = journal
        self._workers = workers
        self._first_pause = self._pause = first_pause
        self._clock = clock
        self._not_before = 0.0
        self._cursor = 0
        """Number of the last record that was read."""
        self._open: dict[int, None] = {}
        """Numbers that were read and are not taken yet, in order."""
        self._sessions: dict[str, deque[tuple[int, Record]]] = {}
        """What waits, by session; the one that has waited longest first."""
        self._busy: set[str] = set()
        self._tasks = Tasks()
        self._dispatcher: Greenlet | None = None
        self._wanted = Event()
        self._progress = Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Records that the sink has not been given."""
        return max(0, self._journal.newest - self._journal.taken(self.sink.name))

    def wake(self) -> None:
        """There is something to do."""
        self._wanted.set()
        if not self._closed and (self._dispatcher is None or self._dispatcher.dead):
            self._dispatcher = tasks.spawn("history-delivery", self._dispatch)

    def settle(self, seconds: float) -> bool:
        """Wait until nothing waits, or the sink fails."""
        until = time.monotonic() + seconds
        while self.waiting and not self.failing and (left := until - time.monotonic()) > 0:
            self._progress.clear()
            self._progress.wait(timeout=left)
        return not self.waiting

    def close(self) -> None:
        """See Reporter."""
        self._closed = True
        if self._dispatcher is not None:
            tasks.end(self._dispatcher)
        self._tasks.kill()

    # --- the dispatcher -----------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Lives while there is something to deliver."""
        while True:
            self._wanted.clear()
            self._read()
            pause = self._not_before - self._clock()
            if pause <= 0:
                self._hand_out()
            if not self._open and not self.waiting:
                return
            if self._open:
                self._wanted.wait(timeout=max(0.0, pause) if pause > 0 else LONGEST_PAUSE_S)
            else:
                self._wanted.wait(timeout=READ_PAUSE_S)

    def _read(self) -> None:
        self._cursor = max(self._cursor, self._journal.taken(self.sink.name))
        room = WINDOW - len(self._open)
        if room <= 0:
            return
        for number, record in self._journal.read(self._cursor, room):
            self._cursor = number
            self._open[number] = None
            if record is None:
                self._take([number])
            else:
                self._sessions.setdefault(record.session.id, deque()).append((number, record))

    def _hand_out(self) -> None:
        """Have free workers deliver; only one while the sink fails, to see whether it still does."""
        workers = 1 if self.failing else self._workers
        for session in list(self._sessions):
            if len(self._busy) >= workers:
                return
            if session not in self._busy:
                self._busy.add(session)
                self._tasks.spawn("history-worker", self._serve, session)

    # --- a worker: one session ----------------------------------------------------------------------------------------

    def _serve(self, session: str) -> None:
        try:
            queue = self._sessions[session]
            while queue and self._deliver_next(queue):
                pass
            del self._sessions[session]
            if queue:
                self._sessions[session] = queue  # behind the others
        finally:
            self._busy.discard(session)
            self._wanted.set()
            self._progress.set()

    def _deliver_next(self, queue: deque[tuple[int, Record]]) -> bool:
        """Deliver the front of a session's queue; False when the sink has to be left alone for a while."""
        entries: list[tuple[int, HistoryEntry]] = []
        for number, record in queue:
            if isinstance(record, EndedSession) or len(entries) == TOGETHER:
                break
            entries.append((number, record))
        try:
            if entries:
                self.sink.deliver([entry for _, entry in entries])
            elif isinstance(ended := queue[0][1], EndedSession):
                self.sink.session_ended(ended)
        except (VendorError, StorageError, Overloaded) as error:
            self.counts.failures += 1
            if isinstance(error, Overloaded) or error.retryable:
                self._failed(error)
                return False
            forget_trace(error)
            if len(entries) > 1:
                return self._one_by_one(queue, entries)
            self._give_up(error)
        except Exception as error:
            self.counts.failures += 1
            log.exception("history not delivered", sink=self.sink.name)
            self._give_up(error)
        else:
            self.counts.delivered += max(1, len(entries))
            self._works()
        self._done(queue, max(1, len(entries)))
        return True

    def _one_by_one(self, queue: deque[tuple[int, Record]], entries: Sequence[tuple[int, HistoryEntry]]) -> bool:
        """One of several was refused: only that one is given up."""
        for _, entry in entries:
            try:
                self.sink.deliver([entry])
            except (VendorError, StorageError, Overloaded) as error:
                self.counts.failures += 1
                if isinstance(error, Overloaded) or error.retryable:
                    self._failed(error)
                    return False
                self._give_up(error)
            else:
                self.counts.delivered += 1
            self._done(queue, 1)
        return True

    def _done(self, queue: deque[tuple[int, Record]], count: int) -> None:
        self._take([queue.popleft()[0] for _ in range(count)])

    def _take(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._open.pop(number, None)
        through = next(iter(self._open)) - 1 if self._open else self._cursor
        if through > self._journal.taken(self.sink.name):
            self._journal.take(self.sink.name, through)

    # --- what is said of it -------------------------------------------------------------------------------------------

    def _failed(self, error: VendorError | StorageError | Overloaded) -> None:
        wish = error.after if isinstance(error, VendorBusy) else None
        self._not_before = self._clock() + max(self._pause, wish or 0.0)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
        if not self.failing:
            log.warning("history is not taken, it is kept", sink=self.sink.name, error=str(error)[:200])
        self.failing = True
        self._progress.set()
        forget_trace(error)

    def _works(self) -> None:
        if self.failing:
            log.warning("history is taken again", sink=self.sink.name, waiting=self.waiting)
        self.failing = False
        self._pause = self._first_pause

    def _give_up(self, error: Exception) -> None:
        if not self.counts.given_up:
            log.error(
                "history refused, given up; further ones are only counted",
                sink=self.sink.name,
                error=str(error)[:200],
            )
        self.counts.given_up += 1
        forget_trace(error)
