"""The fixed native thread pool: every CPU-bound call of every device goes through it, and nothing else owns a thread.

Not a queue for blocking I/O: that is what greenlets are for. Functions run here are plain Python or C that releases the
GIL; they must not touch gevent or anything monkey-patched (a patched lock in a foreign thread would create a second
hub).

Four facts of gevent shape this file. `ThreadPool.spawn` blocks its caller without limit when the pool is full, so
admission is counted here and refused with `Overloaded`; a job is only spawned when a thread is free, so `spawn` never
waits. A timeout around a pool call frees the caller, not the thread, so a permit is returned when the THREAD ends. The
pool does not inherit contextvars, so they are copied in. `AsyncResult.get(timeout=...)` cannot tell its own timeout
from one its caller set around it, so `wait` is used.

Work is classed ("vad", "codec", "asr", "tts", "other"). Hearing and codecs may use every thread; all other classes
together leave `reserved` threads (default 1) to them, so that a slow local recogniser never makes voice detection wait.
A class can also be capped by `shares`. Waiting jobs start round robin between classes; within a class those that cost
least first, as far as `runtime/queue_order.py` allows, and first come, first served where they cost the same.

The GIL: a thread that comes back from C waits for it as long as the interpreter's switch interval whenever the hub is
busy. At the default of 5 ms a voice batch of 2 ms took 15 to 20, and a pool function that computes in Python kept the
hub waiting as long; the server sets it to 0.5 ms (`app/process.py`), which costs a few forced switches per batch. It
also means that a pool function should enter C few times and for long.

Measured here (Python 3.11, 2 cores): one empty job costs 30 us of hub time and 57 us of CPU in all, which is why many
small inputs travel together (`runtime/batching.py`) and why anything under about 100 us is better done inline."""

from __future__ import annotations

import contextvars
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from gevent import monkey
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool

from xiaozhi.errors import Overloaded, VendorTimeout, XiaozhiError
from xiaozhi.runtime.queue_order import JobQueue
from xiaozhi.runtime.thread_names import name_pool
from xiaozhi.runtime.usage import ConnectionUsage, current

T = TypeVar("T")

Deliver = Callable[[Any, Exception | None], None]
"""Receives (value, None) or (None, error) of a job, in the hub: it must not block."""

QUICK_KINDS = frozenset({"vad", "codec"})
"""Classes whose jobs take milliseconds and that every device waits for, frame by frame."""

# The native kind: monkey-patching turns threading.local into a greenlet-local.
_NativeLocal = monkey.get_original("threading", "local")


class InferenceClosed(XiaozhiError):
    """The pool has been closed; the server is stopping."""


class PerWorker(Generic[T]):
    """One lazily made object per pool thread, such as a decoder that is not thread-safe. Only use it inside pool
    functions."""

    def __init__(self, factory: Callable[[], T]) -> None:
        self._factory = factory
        self._local: Any = _NativeLocal()

    def get(self) -> T:
        """This thread's object."""
        try:
            return self._local.value  # type: ignore[no-any-return]
        except AttributeError:
            self._local.value = made = self._factory()
            return made


@dataclass(slots=True)
class ClassCounts:
    """What one class of work has done and is doing; read by metrics."""

    active: int = 0
    queued: int = 0
    done: int = 0
    refused: int = 0
    late: int = 0
    waited_s: float = 0.0
    worked_s: float = 0.0
    last_at: float = -math.inf
    """When the last job was handed in, monotonic seconds."""


@dataclass(slots=True, eq=False)
class Job:
    """One call, waiting or on a thread; only `InferencePool` makes and changes it."""

    kind: str
    function: Callable[[], Any]
    deliver: Deliver
    submitted: float
    usage: ConnectionUsage | None
    """Whose work it is, where it is one connection's."""
    cost: float = 0.0
    """Seconds on a thread, estimated."""
    started: float = field(default=0.0)
    """Monotonic seconds; 0 while it waits."""


class InferencePool:
    """`workers` threads (default: cores, at least 2), at most `queue_size` jobs waiting.

    `shares` caps the threads a class may hold; `reserved` threads are kept free for the quick classes. `name`: of the
    threads, as the system shows them."""

    def __init__(
        self,
        workers: int | None = None,
        queue_size: int = 256,
        shares: Mapping[str, int] | None = None,
        *,
        reserved: int | None = None,
        name: str = "inference",
    ) -> None:
        self.name = name
        self.workers = workers or max(2, os.cpu_count() or 2)
        self.queue_size = queue_size
        self._shares = dict(shares or {})
        kept = 1 if reserved is None else reserved
        # However small the pool, slow work must be able to run at all.
        self._slow_limit = max(1, self.workers - kept)
        self._slow_busy = 0
        self._pool = ThreadPool(self.workers)
        self._waiting: dict[str, JobQueue[Job]] = {}
        self._order: deque[str] = deque()
        self._busy = 0
        self._queued = 0
        self._closed = False
        self._idle = Event()
        self._idle.set()
        self.counts: dict[str, ClassCounts] = {}

    @property
    def active(self) -> int:
        """Jobs on a thread now."""
        return self._busy

    @property
    def slow_workers(self) -> int:
        """How many threads the classes that are not quick may use together."""
        return self._slow_limit

    @property
    def queued(self) -> int:
        """Jobs waiting for a thread now."""
        return self._queued

    def seconds_since(self, kind: str) -> float:
        """Since a job of this class was handed in last; infinite when there was none."""
        counts = self.counts.get(kind)
        return math.inf if counts is None else time.monotonic() - counts.last_at

    def start(self) -> None:
        """Start every thread now, so that the number of threads never changes afterwards."""
        self._pool.size = self.workers
        name_pool(self._pool, self.name)

    def run(self, function: Callable[..., T], *args: Any, kind: str = "other", deadline: float, cost: float = 0.0) -> T:
        """Run `function(*args)` on a pool thread and wait for its result, at most `deadline` seconds including the
        queue. `cost`: the seconds that it will take, as far as known; a job that costs more lets those of its class
        that cost less go first.

        Raises whatever the function raises, Overloaded when the queue is full, VendorTimeout when the deadline passes
        (a thread that has begun goes on and its permit returns when it ends), InferenceClosed when the pool is or gets
        closed."""
        result = AsyncResult()
        job = self.submit(function, *args, kind=kind, deliver=partial(_settle, result), cost=cost)
        try:
            result.wait(timeout=deadline)
        finally:
            # Late or killed: a job that has not begun must not begin for nobody.
            if not result.ready():
                self.withdraw(job)
        if not result.ready():
            self.counts[kind].late += 1
            raise VendorTimeout(f"inference:{kind}", f"no result within {deadline:g} s")
        try:
            return result.get()  # type: ignore[no-any-return]
        finally:
            del result  # an error that it holds would know it by this frame

    def submit(self, function: Callable[..., Any], *args: Any, kind: str, deliver: Deliver, cost: float = 0.0) -> Job:
        """Like `run` for callers without a greenlet to spare: returns at once; `deliver` is called later, in the hub,
        exactly once unless the job is withdrawn first. Raises Overloaded, InferenceClosed."""
        if self._closed:
            raise InferenceClosed("inference pool is closed")
        counts = self.counts.get(kind)
        if counts is None:
            counts = self.counts[kind] = ClassCounts()
            self._waiting[kind] = JobQueue()
            self._order.append(kind)
        starts = self._may_start(kind) and not self._waiting[kind]
        if not starts and self._queued >= self.queue_size:
            counts.refused += 1
            raise Overloaded("inference pool")
        context = contextvars.copy_context()
        counts.last_at = time.monotonic()
        job = Job(kind, lambda: context.run(function, *args), deliver, counts.last_at, current(), cost)
        if starts:
            self._start(job)
        else:
            self._waiting[kind].add(job, cost)
            self._queued += 1
            counts.queued += 1
        return job

    def withdraw(self, job: Job) -> bool:
        """Take a job that still waits out of the queue: it never runs and is never delivered. False when it has
        begun."""
        queue = self._waiting[job.kind]
        if job.started or job not in queue:
            return False
        queue.remove(job)
        self._queued -= 1
        self.counts[job.kind].queued -= 1
        return True

    def close(self, timeout: float = 5.0) -> bool:
        """Refuse new work, fail what waits, give running threads `timeout` seconds; True when all have ended.
        Idempotent."""
        self._closed = True
        for kind, queue in self._waiting.items():
            while queue:
                job = queue.take()
                self._queued -= 1
                self.counts[kind].queued -= 1
                job.deliver(None, InferenceClosed("inference pool is closed"))
        if not self._idle.wait(timeout=timeout):
            return False
        if self._pool.size:
            self._pool.kill()
        return True

    def _may_start(self, kind: str) -> bool:
        if self._busy >= self.workers:
            return False
        if kind not in QUICK_KINDS and self._slow_busy >= self._slow_limit:
            return False
        return self.counts[kind].active < self._shares.get(kind, self.workers)

    def _start(self, job: Job) -> None:
        counts = self.counts[job.kind]
        job.started = time.monotonic()
        # First the thread: should it not start, nothing has been counted. It cannot finish before this greenlet yields.
        result = self._pool.spawn(_outcome, job.function)
        result.rawlink(lambda done: self._ended(job, done))
        counts.active += 1
        counts.waited_s += job.started - job.submitted
        self._busy += 1
        self._slow_busy += job.kind not in QUICK_KINDS
        self._idle.clear()
        if job.cost:
            self._waiting[job.kind].began(job.cost)

    def _ended(self, job: Job, done: AsyncResult) -> None:
        # Runs in the hub: must not block.
        counts = self.counts[job.kind]
        counts.active -= 1
        counts.done += 1
        worked_s = time.monotonic() - job.started
        counts.worked_s += worked_s
        if job.usage is not None:
            if job.kind in QUICK_KINDS:
                job.usage.pool_s += worked_s
            else:
                job.usage.model_s += worked_s
        self._busy -= 1
        self._slow_busy -= job.kind not in QUICK_KINDS
        self._start_next()
        if not self._busy:
            self._idle.set()
        value, error = done.value if done.successful() else (None, done.exception)
        job.deliver(value, error)

    def _start_next(self) -> None:
        # Round robin over the classes, so that none waits behind another's backlog.
        for _ in range(len(self._order)):
            if not self._queued or self._busy >= self.workers:
                return
            kind = self._order[0]
            self._order.rotate(-1)
            if self._waiting[kind] and self._may_start(kind):
                job = self._waiting[kind].take()
                self._queued -= 1
                self.counts[kind].queued -= 1
                self._start(job)


def _settle(result: AsyncResult, value: Any, error: Exception | None) -> None:
    if error is None:
        result.set(value)
    else:
        result.set_exception(error)


def _outcome(function: Callable[[], Any]) -> tuple[Any, Exception | None]:
    # Returned rather than raised: gevent prints the traceback of an exception that leaves a pool thread.
    try:
        return function(), None
    except Exception as error:  # noqa: BLE001  handed to the greenlet that waits
        return None, error
    except BaseException as error:  # noqa: BLE001  see below
        # sys.exit() in a vendor's library must not take the server with it; nothing legitimate is killed in a pool
        # thread.
        return None, RuntimeError(f"pool function raised {error!r}")
