"""What stands between many devices and one vendor: a concurrency window with a bounded queue, a circuit breaker
(`breaker.py`), retries (tenacity's), and who is told.

Knows errors, not voice: `providers/wrappers/` puts a `Guard` around each kind of provider. Nothing here spawns; clock,
sleep and chance are injected, so every decision is tested without waiting."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    VendorSilent,
    VendorTimeout,
    VendorUnavailable,
    XiaozhiError,
    forget_trace,
)
from xiaozhi.runtime.breaker import Breaker, BreakerOptions, BreakerState, Clock

__all__ = [
    "NO_RETRY",
    "Attempt",
    "Breaker",
    "BreakerOptions",
    "BreakerState",
    "CallReport",
    "Clock",
    "Guard",
    "Observer",
    "OnePerKey",
    "RetryOptions",
    "Window",
    "outcome_of",
    "vendor_labels",
]

T = TypeVar("T")

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
        """Take a place, waiting at most `timeout` seconds; the seconds waited. Raises Overloaded when the queue is full
        or the wait too long."""
        waited = 0.0
        # Whoever comes while others wait goes to the end, even if a place has just become free: it is promised to the
        # first of them.
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
    """At most one holder per key, such as one request per device; others wait in order. Keys that nobody uses are
    forgotten."""

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


# --- retries -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """`attempts` in all; waits of `first`, twice that, ... at most `longest` seconds, each with up to `jitter` of
    itself added."""

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

    `outcome`: ok, timeout, busy, unavailable, rejected, garbage, silent (no sound for a text), open (the breaker
    refused), overloaded (the window refused), error (a bug), cancelled (nobody wanted the answer any more). `first_s`:
    from admission to the first output, None when there was none."""

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
        self._unsettled: bool | None = None
        """The verdict that `settle` hands in."""

    def first(self) -> None:
        """The first output is here."""
        if self._first is None:
            self._first = self._guard.clock() - self._began

    def end(self, error: BaseException | None = None) -> None:
        """The call is over: well (None), with an error, or cancelled (a GreenletExit, a GeneratorExit, somebody's
        timeout)."""
        self._explain(error)
        if not self._ended:
            self._record(self._over(error))

    def failed(self, error: BaseException) -> None:
        """The call is over with an error, and may be made again: the breaker is told now, or by `settle` where all
        tries of a call count as one. Its probe is not repeated."""
        self._explain(error)
        breaker = self._guard.breaker
        if self._guard.counts_tries or breaker is None or breaker.state is BreakerState.HALF_OPEN:
            self.end(error)
        else:
            self._unsettled = self._over(error)

    def settle(self) -> None:
        """The call is not made again after it `failed`."""
        if self._unsettled is not None:
            self._record(self._unsettled)

    def _explain(self, error: BaseException | None) -> None:
        if isinstance(error, VendorError):
            self._guard.explain(error)

    def _record(self, verdict: bool | None) -> None:
        if self._guard.breaker is not None and self._ticket is not None:
            self._guard.breaker.record(self._ticket, verdict)

    def _over(self, error: BaseException | None) -> bool | None:
        self._ended = True
        guard = self._guard
        total = guard.clock() - self._began
        outcome = outcome_of(error)
        if guard.window is not None:
            guard.window.leave()
        guard.report(CallReport(guard.name, outcome, self._waited, self._first, total, self._retry))
        return self._verdict(outcome, total)

    def _verdict(self, outcome: str, total: float) -> bool | None:
        if outcome in _OF_THE_ENDPOINT:
            return False
        if outcome == "cancelled":
            # Who gave up after waiting that long for the first sign of life has seen a failure, whatever ended the
            # wait.
            return False if self._first is None and total >= self._guard.patience else None
        # Refusals (rejected, busy, silent) prove that the endpoint lives. What one request is answered with may be the
        # fault of what it asked, and an error may be ours: neither says anything about the next device's request.
        return None if outcome in _OF_ONE_REQUEST or outcome == "overloaded" else True


def vendor_labels(name: str) -> tuple[str, str]:
    """(kind, vendor) of a guard's name, for metrics: "LLM.OpenaiLLM" is the `vendor` OpenaiLLM of the `kind` llm."""
    kind, _, vendor = name.partition(".")
    return kind.lower(), vendor


class Guard:
    """Window, breaker and retries of one vendor endpoint. `timeout`: seconds from the first wait in the window to the
    last attempt's start, so that a device is never kept waiting longer for its turn; the call's own deadlines are the
    provider's. `counts_tries`: False: all tries of one call are one failure for the breaker, where the fault may be in
    the request, which must not open it for everybody."""

    def __init__(
        self,
        name: str,
        *,
        window: Window | None = None,
        breaker: Breaker | None = None,
        retry: RetryOptions = NO_RETRY,
        counts_tries: bool = True,
        timeout: float = 30.0,
        patience: float = 5.0,
        observer: Observer | None = None,
        limitations: Callable[[], Iterable[str]] = tuple,
        explain: Callable[[VendorError], None] = lambda error: None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = gevent.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.limitations = limitations
        """What the vendor was found to be unable to do, for metrics."""
        self.explain = explain
        """Makes a vendor's error one that a person can act on."""
        self.window = window
        self.breaker = breaker
        self.counts_tries = counts_tries
        self.timeout = timeout
        self.patience = patience
        self.clock = clock
        self._retry = retry
        self._observer = observer
        self.sleep = sleep
        self._chance = chance

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` whole under the guard. Raises what it raises, CircuitOpen, Overloaded."""
        result, attempt = self.begin(function)
        attempt.first()
        attempt.end()
        return result

    def iterate(self, make: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Iterate over `make()` under the guard; it is made anew only while nothing has been yielded. Closing closes
        the inner iterator."""

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
        """Run `function`, with retries, and leave the attempt open: for what goes on afterwards, such as a stream that
        was opened."""
        until = self.clock() + self.timeout
        made: list[Attempt] = []
        try:
            try:
                return self._once(function, until, made)
            except VendorError as error:
                if not error.retryable or self._retry.attempts < 2:
                    raise
                return self._again(function, until, error, made)
        except BaseException:
            if made:
                made[-1].settle()
            raise

    def report(self, report: CallReport) -> None:
        """Tell the observer."""
        if self._observer is not None:
            self._observer(report)

    def _again(
        self, function: Callable[[], T], until: float, first_error: VendorError, made: list[Attempt]
    ) -> tuple[T, Attempt]:
        def attempt(state: tenacity.RetryCallState) -> tuple[T, Attempt]:
            if state.attempt_number == 1:
                raise first_error  # the first attempt was made without tenacity, which costs as much as a small request
            return self._once(function, until, made)

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
            sleep=self.sleep,
            before=state.append,
            reraise=True,
        )
        try:
            return retrying(lambda: attempt(state[-1]))
        finally:
            # Both know this frame: a call that failed twice would stay, with all that was asked.
            forget_trace(first_error)
            state.clear()

    def _once(self, function: Callable[[], T], until: float, made: list[Attempt]) -> tuple[T, Attempt]:
        attempt = self._admit(until, len(made))
        made.append(attempt)
        try:
            return function(), attempt
        except BaseException as error:
            attempt.failed(error)
            raise

    def _admit(self, until: float, retry: int) -> Attempt:
        waited = 0.0
        began = self.clock()
        try:
            if self.breaker is not None and self.breaker.state is BreakerState.OPEN:
                self.breaker.record(self.breaker.admit(), None)  # not worth a place in the queue
            if self.window is not None:
                waited = self.window.enter(until - began)
        except XiaozhiError as error:
            if isinstance(error, VendorError):
                self.explain(error)
            self.report(CallReport(self.name, outcome_of(error), self.clock() - began, None, 0.0, retry))
            raise
        try:
            return Attempt(self, self.breaker.admit() if self.breaker is not None else None, waited, retry)
        except BaseException as error:
            if isinstance(error, VendorError):
                self.explain(error)
            if self.window is not None:
                self.window.leave()
            self.report(CallReport(self.name, outcome_of(error), waited, None, 0.0, retry))
            raise


_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (VendorTimeout, "timeout"),
    (VendorBusy, "busy"),
    (VendorRejected, "rejected"),
    (VendorSilent, "silent"),
    (VendorGarbage, "garbage"),
    (CircuitOpen, "open"),
    (VendorUnavailable, "unavailable"),
    (VendorError, "unavailable"),
    (Overloaded, "overloaded"),
    (OSError, "unavailable"),
    (Exception, "error"),
)
_OF_THE_ENDPOINT = frozenset({"timeout", "unavailable"})
"""What counts for its breaker."""
_OF_ONE_REQUEST = frozenset({"garbage", "error"})


def outcome_of(error: BaseException | None) -> str:
    """The `CallReport.outcome` an error stands for."""
    if error is None:
        return "ok"
    return next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "cancelled")
