"""What stands between many devices and one vendor: a concurrency window with a bounded queue, a circuit breaker, retries, and who is told.

Knows errors, not voice: `providers/guarded.py` puts a `Guard` around each kind of provider. Nothing here spawns; clock, sleep and chance are
injected, so every decision is tested without waiting.

Retries are tenacity's. The breaker is our own: pybreaker 1.4 holds its RLock for the whole call, which under gevent (where that lock is a
greenlet lock) lets one request at a time through each breaker, and it opens on consecutive failures, not on a rate.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import gevent
import tenacity
from gevent.lock import BoundedSemaphore

from xiaozhi.errors import (
    CircuitOpen,
    Overloaded,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
    XiaozhiError,
)

T = TypeVar("T")
Clock = Callable[[], float]

_END = object()


# --- concurrency ---------------------------------------------------------------------------------------------------


class Window:
    """At most `max_concurrent` at once, at most `queue_size` waiting in order of arrival. 0 concurrent: no limit."""

    def __init__(self, name: str, max_concurrent: int, queue_size: int = 50, *, clock: Clock = time.monotonic) -> None:
        self.name = name
        self.max_concurrent = max_concurrent
        self.queue_size = queue_size
        self._clock = clock
        self._places = BoundedSemaphore(max_concurrent) if max_concurrent > 0 else None
        self.active = 0
        self.waiting = 0
        self.refused = 0

    def enter(self, timeout: float) -> float:
        """Take a place, waiting at most `timeout` seconds; the seconds waited. Raises Overloaded when the queue is full or the wait too long."""
        waited = 0.0
        # Whoever comes while others wait goes to the end, even if a place has just become free: it is promised to the first of them.
        if self._places is not None and (self.waiting or not self._places.acquire(blocking=False)):
            if self.waiting >= self.queue_size or timeout <= 0:
                raise self._overloaded()
            began = self._clock()
            self.waiting += 1
            try:
                if not self._places.acquire(timeout=timeout):
                    raise self._overloaded()
            finally:
                self.waiting -= 1
            waited = self._clock() - began
        self.active += 1
        return waited

    def leave(self) -> None:
        """Give the place back."""
        self.active -= 1
        if self._places is not None:
            self._places.release()

    def _overloaded(self) -> Overloaded:
        self.refused += 1
        return Overloaded(self.name)


class OnePerKey:
    """At most one holder per key, such as one request per device; others wait in order. Keys that nobody uses are forgotten."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: dict[str, tuple[BoundedSemaphore, int]] = {}

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def hold(self, key: str, timeout: float) -> Generator[None]:
        """Hold `key` ("": no limit) for the block. Raises Overloaded after `timeout` seconds."""
        if not key:
            yield
            return
        lock, users = self._held.get(key) or (BoundedSemaphore(1), 0)
        self._held[key] = lock, users + 1
        try:
            if not lock.acquire(timeout=timeout):
                raise Overloaded(self._name)
            try:
                yield
            finally:
                lock.release()
        finally:
            users = self._held[key][1] - 1
            if users:
                self._held[key] = lock, users
            else:
                del self._held[key]


# --- the breaker ---------------------------------------------------------------------------------------------------


class State(StrEnum):
    """Of a breaker. HALF_OPEN: one request at a time is let through to see whether the vendor is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """Opens when at least `error_rate` of at least `min_volume` calls within `window` seconds failed; tries again after `open_for` seconds."""

    error_rate: float = 0.5
    min_volume: int = 6
    window: float = 30.0
    open_for: float = 15.0


class Breaker:
    """Keeps devices from waiting for an endpoint that is known to be down.

    `admit` gives a ticket, `record` hands it back with the result: a call that was admitted before the breaker opened cannot close it."""

    def __init__(self, name: str, options: BreakerOptions = BreakerOptions(), *, clock: Clock = time.monotonic) -> None:  # noqa: B008
        self.name = name
        self.options = options
        self._clock = clock
        self._state = State.CLOSED
        self._results: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._opened_at = 0.0
        self._generation = 0
        self._probing = False
        self.listeners: list[Callable[[str, State], None]] = []
        """Called with (name, new state) at every change; must not block."""

    @property
    def state(self) -> State:
        """OPEN turns into HALF_OPEN when its time is over and somebody asks to be admitted."""
        return self._state

    def admit(self) -> int:
        """A ticket for one call. Raises CircuitOpen."""
        if self._state is State.OPEN:
            left = self._opened_at + self.options.open_for - self._clock()
            if left > 0:
                raise CircuitOpen(self.name, f"not asked again for {left:.0f} s")
            self._change(State.HALF_OPEN)
        if self._state is State.HALF_OPEN:
            if self._probing:
                raise CircuitOpen(self.name, "being probed")
            self._probing = True
        return self._generation

    def record(self, ticket: int, ok: bool | None) -> None:
        """What became of the call: True, False, or None when nobody can tell (it was cancelled)."""
        if ticket != self._generation:
            return
        if self._state is State.HALF_OPEN:
            self._probing = False
            if ok is not None:
                self._change(State.CLOSED if ok else State.OPEN)
            return
        if ok is None:
            return
        now = self._clock()
        self._results.append((now, ok))
        self._failures += not ok
        while self._results and self._results[0][0] < now - self.options.window:
            _, was_ok = self._results.popleft()
            self._failures -= not was_ok
        volume = len(self._results)
        if not ok and volume >= self.options.min_volume and self._failures >= self.options.error_rate * volume:
            self._change(State.OPEN)

    def _change(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._probing = False
        self._results.clear()
        self._failures = 0
        if state is State.OPEN:
            self._opened_at = self._clock()
        for listener in self.listeners:
            listener(self.name, state)


# --- retries -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """`attempts` in all; waits of `first`, twice that, ... at most `longest` seconds, each with up to `jitter` of itself added."""

    attempts: int = 3
    first: float = 1.0
    longest: float = 4.0
    jitter: float = 0.25

    def wait(self, retry: int, chance: float) -> float:
        """Seconds before retry number `retry` (1, 2, ...); `chance` in 0..1."""
        return min(self.longest, self.first * 2.0 ** (retry - 1)) * (1 + self.jitter * chance)


NO_RETRY = RetryOptions(attempts=1)


# --- the guard -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallReport:
    """One attempt at a vendor, for metrics. Times in seconds.

    `outcome`: ok, timeout, busy, unavailable, rejected, garbage, open (the breaker refused), overloaded (the window refused), error (a bug),
    cancelled (nobody wanted the answer any more). `first_s`: from admission to the first output, None when there was none."""

    vendor: str
    outcome: str
    waited_s: float
    first_s: float | None
    total_s: float
    retry: int


Observer = Callable[[CallReport], None]


class Attempt:
    """One admitted call. Whoever holds it calls `end` exactly when the call is over; later calls do nothing."""

    def __init__(self, guard: Guard, ticket: int | None, waited: float, retry: int) -> None:
        self._guard = guard
        self._ticket = ticket
        self._waited = waited
        self._retry = retry
        self._began = guard.clock()
        self._first: float | None = None
        self._ended = False

    def first(self) -> None:
        """The first output is here."""
        if self._first is None:
            self._first = self._guard.clock() - self._began

    def end(self, error: BaseException | None = None) -> None:
        """The call is over: well (None), with an error, or cancelled (a GreenletExit, a GeneratorExit, somebody's timeout)."""
        if self._ended:
            return
        self._ended = True
        guard = self._guard
        total = guard.clock() - self._began
        outcome = outcome_of(error)
        if guard.window is not None:
            guard.window.leave()
        if guard.breaker is not None and self._ticket is not None:
            guard.breaker.record(self._ticket, self._verdict(outcome, total))
        guard.report(CallReport(guard.name, outcome, self._waited, self._first, total, self._retry))

    def _verdict(self, outcome: str, total: float) -> bool | None:
        if outcome in ("timeout", "unavailable", "garbage", "error"):
            return False
        if outcome == "cancelled":
            # Who gave up after waiting that long for the first sign of life has seen a failure, whatever ended the wait.
            return False if self._first is None and total >= self._guard.patience else None
        # Refusals (rejected, busy) prove that the endpoint lives.
        return None if outcome == "overloaded" else True


class Guard:
    """Window, breaker and retries of one vendor endpoint. `timeout`: seconds from the first wait in the window to the last attempt's start,
    so that a device is never kept waiting longer for its turn; the call's own deadlines are the provider's."""

    def __init__(
        self,
        name: str,
        *,
        window: Window | None = None,
        breaker: Breaker | None = None,
        retry: RetryOptions = NO_RETRY,
        timeout: float = 30.0,
        patience: float = 5.0,
        observer: Observer | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = gevent.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.window = window
        self.breaker = breaker
        self.timeout = timeout
        self.patience = patience
        self.clock = clock
        self._retry = retry
        self._observer = observer
        self._sleep = sleep
        self._chance = chance

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` whole under the guard. Raises what it raises, CircuitOpen, Overloaded."""
        result, attempt = self.begin(function)
        attempt.first()
        attempt.end()
        return result

    def iterate(self, make: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Iterate over `make()` under the guard; it is made anew only while nothing has been yielded. Closing closes the inner iterator."""

        def start() -> tuple[Iterator[T], object]:
            inner = make()
            return inner, next(inner, _END)

        (inner, item), attempt = self.begin(start)
        try:
            while item is not _END:
                attempt.first()
                yield item  # type: ignore[misc]
                item = next(inner, _END)
        except BaseException as error:
            attempt.end(error)
            raise
        finally:
            attempt.end()
            close = getattr(inner, "close", None)  # generators have one, other iterators need none
            if close is not None:
                close()

    def begin(self, function: Callable[[], T]) -> tuple[T, Attempt]:
        """Run `function`, with retries, and leave the attempt open: for what goes on afterwards, such as a stream that was opened."""
        until = self.clock() + self.timeout
        try:
            return self._once(function, until, 0)
        except VendorError as error:
            if not error.retryable or self._retry.attempts < 2:
                raise
            return self._again(function, until, error)

    def report(self, report: CallReport) -> None:
        """Tell the observer."""
        if self._observer is not None:
            self._observer(report)

    def _again(self, function: Callable[[], T], until: float, first_error: VendorError) -> tuple[T, Attempt]:
        def attempt(state: tenacity.RetryCallState) -> tuple[T, Attempt]:
            if state.attempt_number == 1:
                raise first_error  # the first attempt was made without tenacity, which costs as much as a small request
            return self._once(function, until, state.attempt_number - 1)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            wish = error.after if isinstance(error, VendorBusy) and error.after else 0.0
            return max(wish, self._retry.wait(state.attempt_number, self._chance()))

        def stop(state: tenacity.RetryCallState) -> bool:
            return state.attempt_number >= self._retry.attempts or self.clock() + state.upcoming_sleep > until

        state: list[tenacity.RetryCallState] = []
        retrying = tenacity.Retrying(
            wait=wait,
            stop=stop,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, VendorError) and error.retryable),
            sleep=self._sleep,
            before=state.append,
            reraise=True,
        )
        return retrying(lambda: attempt(state[-1]))

    def _once(self, function: Callable[[], T], until: float, retry: int) -> tuple[T, Attempt]:
        attempt = self._admit(until, retry)
        try:
            return function(), attempt
        except BaseException as error:
            attempt.end(error)
            raise

    def _admit(self, until: float, retry: int) -> Attempt:
        waited = 0.0
        began = self.clock()
        try:
            if self.breaker is not None and self.breaker.state is State.OPEN:
                self.breaker.record(self.breaker.admit(), None)  # not worth a place in the queue
            if self.window is not None:
                waited = self.window.enter(until - began)
        except XiaozhiError as error:
            self.report(CallReport(self.name, outcome_of(error), self.clock() - began, None, 0.0, retry))
            raise
        try:
            return Attempt(self, self.breaker.admit() if self.breaker is not None else None, waited, retry)
        except BaseException as error:
            if self.window is not None:
                self.window.leave()
            self.report(CallReport(self.name, outcome_of(error), waited, None, 0.0, retry))
            raise


_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (VendorTimeout, "timeout"),
    (VendorBusy, "busy"),
    (VendorRejected, "rejected"),
    (VendorGarbage, "garbage"),
    (CircuitOpen, "open"),
    (VendorUnavailable, "unavailable"),
    (VendorError, "unavailable"),
    (Overloaded, "overloaded"),
    (Exception, "error"),
)


def outcome_of(error: BaseException | None) -> str:
    """The `CallReport.outcome` an error stands for."""
    if error is None:
        return "ok"
    return next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "cancelled")
