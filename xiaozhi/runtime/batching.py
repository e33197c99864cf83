"""Many greenlets' small inputs -> one call of a batch function in the inference pool.

Not a queue between rooms and not tied to voice: the function takes a list of items and returns a list of results, one
each. It is on the path of every audio frame, so it has no greenlet of its own: everything happens in the submitter or
in hub callbacks.

When a batch starts:
- nothing in flight and company is unlikely: at the end of the current turn of the event loop, so an idle server adds no
  delay;
- nothing in flight and items have been arriving faster than one per half `max_wait_ms`: when the oldest has waited
  `max_wait_ms`, or earlier when the batch is full. One call of the voice model costs 30 us + 27 us per item, one pool
  job 57 us, so company pays;
- one in flight: the next collects meanwhile and starts when it is due by the same rules.

Order: a caller has one ticket at a time, so its items cannot overtake each other. Failure: the function may return an
exception in place of one result, and only that ticket fails; when the whole call raises, every item is tried once more
alone, so that only the guilty fail (a function with state must therefore commit it last). Deadline: one coarse timer
for all tickets, because a timer per item would cost more than everything else here. A late ticket stays valid: its work
may already be on a thread and cannot be recalled, so the result is kept and `wait` may be called again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import gevent
from gevent.hub import Waiter

from xiaozhi.errors import Overloaded, XiaozhiError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.inference import InferencePool, Job
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.usage import current

log = get_logger(__name__)

I = TypeVar("I")  # noqa: E741  the usual name of an input
O = TypeVar("O")  # noqa: E741

_INTERVAL_WEIGHT = 0.1
"""Share of the newest gap in the running mean of gaps between items: adapts within some 20 items."""
_SIZE_CLASSES = 12
REFUSED_RETRY_S = 0.01
"""How soon a batch is offered again to a pool that was full."""


class BatcherClosed(XiaozhiError):
    """The batcher has been closed; the server is stopping or its provider was replaced."""


@dataclass(slots=True)
class BatchStats:
    """What has been done; read by metrics and benches."""

    batches: int = 0
    items: int = 0
    largest: int = 0
    late: int = 0
    refused: int = 0
    """Items not taken: at the door because too many wait, or by a full pool, which is asked again."""
    failed: int = 0
    waited_s: float = 0.0
    """Sum over the items: from submit to the start of their batch."""
    sizes: list[int] = field(default_factory=lambda: [0] * _SIZE_CLASSES)
    """Batches by size: sizes[n] counts those with 2**n <= size < 2**(n + 1)."""

    @property
    def mean_size(self) -> float:
        """Items per batch."""
        return self.items / self.batches if self.batches else 0.0


class Ticket(Generic[I, O]):
    """One item under way. Only its batcher changes it; redeem it with `Batcher.wait`."""

    __slots__ = ("done", "error", "item", "submitted", "usage", "value", "waiter")

    def __init__(self, item: I, submitted: float) -> None:
        self.item = item
        self.submitted = submitted
        self.usage = current()
        self.done = False
        self.value: O | None = None
        self.error: Exception | None = None
        self.waiter: Any = None


class Batcher(Generic[I, O]):
    """Collects items for `function`, which runs in the pool: no gevent, no shared state but what its items carry.

    `deadline` (seconds) is how long `wait` waits; `max_waiting` bounds the items not yet on a thread. `eager`: the
    first item does not wait for the end of the turn of the event loop, for functions that do not get cheaper by
    company."""

    def __init__(
        self,
        function: Callable[[list[I]], Sequence[O | Exception]],
        inference: InferencePool,
        *,
        kind: str,
        max_batch: int = 64,
        max_wait_ms: float = 4.0,
        deadline: float = 0.5,
        max_waiting: int = 4096,
        eager: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._function = function
        self._inference = inference
        self._kind = kind
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1000
        self._deadline = deadline
        self._max_waiting = max_waiting
        self._eager = eager
        self._waiting: deque[Ticket[I, O]] = deque()
        self._flying: list[Ticket[I, O]] = []
        self._job: Job | None = None
        self._armed = False
        """A start is planned: by a callback at the end of this turn of the loop, or by the timer."""
        self._retries: deque[Ticket[I, O]] = deque()
        self._closed = False
        self._last = 0.0
        self._interval = 1.0
        self._loop = gevent.get_hub().loop
        self._start_timer = self._loop.timer(0.0)
        self._late_timer = self._loop.timer(deadline / 4, repeat=deadline / 4)
        self._watching = False
        self.stats = BatchStats()
        self.observe: Callable[[int], None] | None = None
        """Called with the size of every batch, in the hub: for a metric."""

    @property
    def waiting(self) -> int:
        """Items not yet on a thread."""
        return len(self._waiting)

    def run(self, item: I) -> O:
        """Submit and wait: the result for one item. Raises what `submit` and `wait` raise."""
        return self.wait(self.submit(item))

    def submit(self, item: I) -> Ticket[I, O]:
        """Queue one item; never blocks. Raises Overloaded when `max_waiting` items wait already, BatcherClosed."""
        if self._closed:
            raise BatcherClosed("batcher is closed")
        waiting = self._waiting
        if len(waiting) >= self._max_waiting:
            self.stats.refused += 1
            raise Overloaded(f"{self._kind} batch")
        now = self._clock()
        self._interval += _INTERVAL_WEIGHT * (min(now - self._last, 1.0) - self._interval)
        self._last = now
        ticket: Ticket[I, O] = Ticket(item, now)
        waiting.append(ticket)
        if not self._flying:
            if not self._armed:
                delay = self._delay(0.0)
                if self._eager and delay <= 0:
                    self._start()
                else:
                    self._arm(delay)
            elif len(waiting) == self._max_batch:
                self._start_timer.stop()
                self._loop.run_callback(self._start)
        return ticket

    def wait(self, ticket: Ticket[I, O]) -> O:
        """The result of a ticket, waiting at most the deadline since it was submitted (or since the last `wait` was
        late).

        Raises Overloaded when it is late - wait again later, nothing is lost - and whatever the function raised for
        this item."""
        if not ticket.done:
            if ticket.waiter is not None:
                raise RuntimeError("a ticket is waited for by one greenlet at a time")
            if not self._watching:
                self._watching = True
                self._late_timer.start(self._expire)
            ticket.waiter = waiter = Waiter()
            try:
                waiter.get()
            finally:
                ticket.waiter = None
        if ticket.error is not None:
            raise ticket.error
        return ticket.value  # type: ignore[return-value]

    def close(self) -> None:
        """Fail everything that waits and refuse new items; a batch on a thread still ends and is delivered.
        Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._start_timer.stop()
        left = [*self._retries, *self._waiting]
        self._retries.clear()
        self._waiting.clear()
        # Their waiters belong to other greenlets, which only the hub may switch to.
        self._loop.run_callback(self._finish, left, [BatcherClosed("batcher is closed")] * len(left))

    def _arm(self, delay: float) -> None:
        # Plans the next start, `delay` seconds from now.
        self._armed = True
        if delay > 0:
            self._start_timer.close()
            self._start_timer = self._loop.timer(delay)
            self._start_timer.start(self._start)
        else:
            self._loop.run_callback(self._start)

    def _delay(self, oldest_waited: float) -> float:
        # Seconds until a batch of what waits now is due; not above 0: it is due.
        if self._interval * 2 >= self._max_wait or len(self._waiting) >= self._max_batch:
            return 0.0
        return self._max_wait - oldest_waited

    def _start(self) -> None:
        # In the hub, or in a callback after every ready greenlet of this turn of the loop has had its say.
        if self._flying or self._closed:
            return
        self._armed = False
        alone, waiting = bool(self._retries), self._waiting
        size = 1 if alone else min(len(waiting), self._max_batch)
        if not size:
            return
        source = self._retries if alone else waiting
        batch = [source.popleft() for _ in range(size)]
        try:
            self._job = self._inference.submit(
                self._function, [ticket.item for ticket in batch], kind=self._kind, deliver=self._landed
            )
        except Overloaded:
            # Nothing is lost: they wait on, bounded by `max_waiting`, and whoever waits for them is told when the
            # deadline passes.
            self.stats.refused += size
            source.extendleft(reversed(batch))
            self._arm(REFUSED_RETRY_S)
        except XiaozhiError as closed:
            self._finish(batch, [closed] * size)
        else:
            self._flying = batch
            if not alone:
                self._count(batch)

    def _count(self, batch: list[Ticket[I, O]]) -> None:
        stats, size, now = self.stats, len(batch), self._clock()
        stats.batches += 1
        stats.items += size
        stats.largest = max(stats.largest, size)
        stats.sizes[min(size.bit_length() - 1, _SIZE_CLASSES - 1)] += 1
        stats.waited_s += size * now - sum([ticket.submitted for ticket in batch])
        if self.observe is not None:
            self.observe(size)

    def _landed(self, results: Sequence[O | Exception] | None, error: Exception | None) -> None:
        # In the hub. The next batch goes to its thread before the greenlets of this one are woken.
        batch, self._flying = self._flying, []
        if self._job is not None and self._job.started:
            share_s = (time.monotonic() - self._job.started) / len(batch)
            for ticket in batch:
                if ticket.usage is not None:
                    ticket.usage.pool_s += share_s
        if error is None and (results is None or len(results) != len(batch)):
            error = RuntimeError(
                f"batch function returned {0 if results is None else len(results)} results for {len(batch)} items"
            )
        if error is not None and len(batch) > 1 and not self._closed:
            # A log handler may wait for its lock, which the hub must not.
            tasks.spawn(
                "log-failed-batch",
                log.warning,
                "batch failed, items are tried alone",
                kind=self._kind,
                items=len(batch),
                error=repr(error),
            )
            self._retries.extend(batch)
            self._plan()
            return
        self._plan()
        self._finish(batch, [error] * len(batch) if error is not None else results or ())

    def _plan(self) -> None:
        # In the hub. A batch that is due starts here, not in a callback: its thread works while this one's greenlets
        # are woken.
        if self._retries:
            self._start()
        elif self._waiting:
            delay = self._delay(self._clock() - self._waiting[0].submitted)
            if delay > 0:
                self._arm(delay)
            else:
                self._start()

    def _finish(self, batch: Sequence[Ticket[I, O]], results: Sequence[O | Exception]) -> None:
        for ticket, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                self.stats.failed += 1
                ticket.error = result
            else:
                ticket.value = result
            ticket.done = True
        for ticket in batch:
            if ticket.waiter is not None:
                # Runs that greenlet until it waits again; it may well submit its next item here.
                ticket.waiter.switch(None)

    def _expire(self) -> None:
        # In the hub, a few times per deadline while anybody waits.
        now = self._clock()
        pending = [ticket for tickets in (self._flying, self._retries, self._waiting) for ticket in tickets]
        if not pending:
            self._watching = False
            self._late_timer.stop()
            return
        for ticket in pending:
            if ticket.waiter is not None and now - ticket.submitted >= self._deadline:
                self.stats.late += 1
                ticket.submitted = now
                ticket.waiter.throw(Overloaded(f"{self._kind} batch"))
