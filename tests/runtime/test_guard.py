"""A guarded call: limits, retries, breaker and deadline together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import gevent
import pytest
from gevent.event import Event

from tests.runtime.clock import SleepingClock
from tests.waiting import PATIENCE_S
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
)
from xiaozhi.runtime.resilience import (
    NO_RETRY,
    Breaker,
    BreakerOptions,
    BreakerState,
    CallReport,
    Guard,
    RetryOptions,
    Window,
    outcome_of,
)


@pytest.fixture
def clock() -> SleepingClock:
    return SleepingClock()


# --- guard ---------------------------------------------------------------------------------------------------------


def make_guard(clock: SleepingClock, **options: object) -> tuple[Guard, list[CallReport]]:
    reports: list[CallReport] = []
    guard = Guard("acme", observer=reports.append, clock=clock, sleep=clock.sleep, chance=lambda: 0.0, **options)  # type: ignore[arg-type]
    return guard, reports


def failing(*errors: Exception, then: str = "ok") -> Callable[[], str]:
    left = list(errors)

    def function() -> str:
        if left:
            raise left.pop(0)
        return then

    return function


def test_retries_wait_1_2_4_and_only_on_what_may_be_retried(clock: SleepingClock) -> None:
    guard, reports = make_guard(clock, retry=RetryOptions(attempts=5), timeout=60)
    errors = VendorUnavailable("a"), VendorTimeout("a"), VendorUnavailable("a"), VendorBusy("a")
    assert guard.call(failing(*errors)) == "ok"
    assert clock.slept == [1, 2, 4, 4]
    assert [report.outcome for report in reports] == ["unavailable", "timeout", "unavailable", "busy", "ok"]
    assert [report.retry for report in reports] == [0, 1, 2, 3, 4]
    for error in (VendorRejected("a"), VendorGarbage("a"), CircuitOpen("a"), Overloaded("a"), ValueError("bug")):
        with pytest.raises(type(error)):
            guard.call(failing(error))
    assert clock.slept == [1, 2, 4, 4]


def test_the_last_error_surfaces_after_the_last_attempt(clock: SleepingClock) -> None:
    guard, _ = make_guard(clock, retry=RetryOptions(attempts=2))
    with pytest.raises(VendorTimeout):
        guard.call(failing(VendorUnavailable("a"), VendorTimeout("a")))
    guard, _ = make_guard(clock, retry=NO_RETRY)
    with pytest.raises(VendorUnavailable):
        guard.call(failing(VendorUnavailable("a")))


def test_a_busy_vendors_wish_is_respected_within_the_deadline(clock: SleepingClock) -> None:
    guard, _ = make_guard(clock, retry=RetryOptions(attempts=3), timeout=20)
    assert guard.call(failing(VendorBusy("a", after=9))) == "ok"
    assert clock.slept == [9]
    with pytest.raises(VendorBusy):
        guard.call(failing(VendorBusy("a", after=21)))
    assert clock.slept == [9]


def test_jitter_only_adds() -> None:
    options = RetryOptions(first=1, longest=4, jitter=0.25)
    assert [options.wait(retry, 0) for retry in (1, 2, 3, 4)] == [1, 2, 4, 4]
    assert [options.wait(retry, 1) for retry in (1, 2, 3)] == [1.25, 2.5, 5]


def test_the_breaker_counts_attempts_and_stops_the_retries(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=2, open_for=100), clock=clock)
    guard, reports = make_guard(clock, breaker=breaker, retry=RetryOptions(attempts=5), timeout=60)
    with pytest.raises(CircuitOpen):
        guard.call(failing(*[VendorUnavailable("a")] * 5))
    assert [report.outcome for report in reports] == ["unavailable", "unavailable", "open"]


def test_all_tries_of_one_call_may_be_one_failure(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=3, open_for=100), clock=clock)
    guard, reports = make_guard(clock, breaker=breaker, counts_tries=False, retry=RetryOptions(attempts=3), timeout=60)
    for _ in range(2):
        with pytest.raises(VendorUnavailable):
            guard.call(failing(*[VendorUnavailable("a")] * 3))
    assert breaker.state is BreakerState.CLOSED
    assert [report.outcome for report in reports] == ["unavailable"] * 6
    assert guard.call(failing(*[VendorUnavailable("a")] * 2)) == "ok"  # tries that helped are no failure
    assert breaker.state is BreakerState.CLOSED
    with pytest.raises(VendorUnavailable):
        guard.call(failing(*[VendorUnavailable("a")] * 3))
    assert breaker.state is BreakerState.OPEN


def test_a_call_whose_time_is_up_before_its_last_try_is_a_failure(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=1), clock=clock)
    guard, _ = make_guard(clock, breaker=breaker, counts_tries=False, retry=RetryOptions(attempts=3), timeout=0.5)
    with pytest.raises(VendorUnavailable):
        guard.call(failing(VendorUnavailable("a")))
    assert breaker.state is BreakerState.OPEN


def test_an_open_breaker_stops_the_retries(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=1, open_for=100), clock=clock)
    guard, reports = make_guard(clock, breaker=breaker, retry=RetryOptions(attempts=5), timeout=60)

    def opened_by_others() -> str:
        breaker.record(breaker.admit(), False)
        raise VendorUnavailable("a")

    with pytest.raises(CircuitOpen):
        guard.call(opened_by_others)
    assert [report.outcome for report in reports] == ["unavailable", "open"]


def test_a_probe_is_not_repeated(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=1, open_for=10), clock=clock)
    guard, reports = make_guard(clock, breaker=breaker, counts_tries=False, retry=RetryOptions(attempts=3), timeout=60)
    with pytest.raises(VendorUnavailable):
        guard.call(failing(*[VendorUnavailable("a")] * 3))
    clock.now += 10
    reports.clear()
    with pytest.raises(CircuitOpen):
        guard.call(failing(*[VendorUnavailable("a")] * 3))
    assert [report.outcome for report in reports] == ["unavailable", "open"]


def test_refusals_show_that_the_endpoint_lives(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=2), clock=clock)
    guard, _ = make_guard(clock, breaker=breaker)
    for error in (VendorRejected("a"), VendorBusy("a"), VendorSilent("a"), Overloaded("pool")) * 5:
        with pytest.raises(type(error)):
            guard.call(failing(error))
    assert breaker.state is BreakerState.CLOSED


def test_an_open_breaker_refuses_before_the_queue(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=1, open_for=10), clock=clock)
    window = Window("acme", 1)
    guard, reports = make_guard(clock, breaker=breaker, window=window)
    with pytest.raises(VendorUnavailable):
        guard.call(failing(VendorUnavailable("a")))
    window.enter(0)
    with pytest.raises(CircuitOpen):
        guard.call(failing())
    window.leave()
    clock.now += 10
    assert guard.call(failing()) == "ok"
    assert [report.outcome for report in reports] == ["unavailable", "open", "ok"]
    assert window.active == 0


def test_the_window_bounds_calls_and_is_left_in_every_case(clock: SleepingClock) -> None:
    window = Window("acme", 1, queue_size=0)
    guard, reports = make_guard(clock, window=window)

    def nested() -> str:
        with pytest.raises(Overloaded):
            guard.call(failing())
        return "outer"

    assert guard.call(nested) == "outer"
    with pytest.raises(ZeroDivisionError):
        guard.call(lambda: 1 // 0)
    waiting = gevent.spawn(guard.call, Event().wait)
    gevent.sleep(0)
    assert window.active == 1
    waiting.kill()
    assert window.active == 0
    assert [report.outcome for report in reports] == ["overloaded", "ok", "error", "cancelled"]


def numbers(count: int, *, error: VendorError | None = None, closed: list[str] | None = None) -> Iterator[int]:
    try:
        yield from range(count)
        if error is not None:
            raise error
    finally:
        if closed is not None:
            closed.append("closed")


def test_an_iterator_is_made_anew_only_before_its_first_item(clock: SleepingClock) -> None:
    guard, reports = make_guard(clock, retry=RetryOptions())
    made = 0

    def make() -> Iterator[int]:
        nonlocal made
        made += 1
        return numbers(0, error=VendorUnavailable("a")) if made == 1 else numbers(3)

    assert list(guard.iterate(make)) == [0, 1, 2]
    assert made == 2
    got = []
    with pytest.raises(VendorUnavailable):
        for number in guard.iterate(lambda: numbers(2, error=VendorUnavailable("a"))):
            got.append(number)
    assert got == [0, 1]
    assert [report.outcome for report in reports] == ["unavailable", "ok", "unavailable"]
    assert list(guard.iterate(lambda: iter(()))) == []
    assert list(guard.iterate(lambda: iter([1]))) == [1]


def test_closing_the_iterator_closes_the_inner_one_and_frees_the_place(clock: SleepingClock) -> None:
    window = Window("acme", 1)
    breaker = Breaker("acme", BreakerOptions(min_volume=1), clock=clock)
    guard, reports = make_guard(clock, window=window, breaker=breaker)
    closed: list[str] = []
    with closing(guard.iterate(lambda: numbers(10, closed=closed))) as items:  # type: ignore[type-var]
        assert next(items) == 0
        assert window.active == 1
    assert closed == ["closed"]
    assert window.active == 0
    assert reports[0].outcome == "cancelled"
    assert breaker.state is BreakerState.CLOSED


def test_giving_up_on_a_silent_vendor_counts_as_its_failure(clock: SleepingClock) -> None:
    breaker = Breaker("acme", BreakerOptions(min_volume=1), clock=clock)
    guard, reports = make_guard(clock, breaker=breaker, patience=5)

    def silent(seconds: float) -> None:
        clock.now += seconds
        raise gevent.GreenletExit

    with pytest.raises(gevent.GreenletExit):
        guard.call(lambda: silent(4))
    assert breaker.state is BreakerState.CLOSED
    with pytest.raises(gevent.GreenletExit):
        guard.call(lambda: silent(6))
    assert breaker.state is BreakerState.OPEN
    assert [report.outcome for report in reports] == ["cancelled", "cancelled"]


def test_reports_hold_the_times(clock: SleepingClock) -> None:
    guard, reports = make_guard(clock)

    def slow() -> Iterator[int]:
        clock.now += 2
        yield 1
        clock.now += 3
        yield 2

    assert list(guard.iterate(slow)) == [1, 2]
    report = reports[0]
    assert (report.vendor, report.outcome, report.first_s, report.total_s) == ("acme", "ok", 2, 5)


def test_every_way_to_end_has_a_name() -> None:
    assert outcome_of(None) == "ok"
    assert outcome_of(gevent.Timeout(1)) == outcome_of(GeneratorExit()) == "cancelled"
    assert outcome_of(VendorError("a")) == "unavailable"


def test_a_guard_does_not_serialise_its_calls() -> None:
    guard = Guard("acme", breaker=Breaker("acme"), window=Window("acme", 10))
    inside = Event()
    both = []

    def call() -> None:
        both.append(1)
        if len(both) == 2:
            inside.set()
        assert inside.wait(PATIENCE_S)

    gevent.joinall(
        [gevent.spawn(guard.call, call), gevent.spawn(guard.call, call)], timeout=PATIENCE_S, raise_error=True
    )
    assert len(both) == 2


# --- whose fault it was ---


@pytest.mark.parametrize("kind", ["asr", "llm", "vllm", "tts", "memory", "intent"])
@pytest.mark.parametrize(
    "error",
    [VendorGarbage("acme", "a call"), VendorRejected("acme", "400"), ZeroDivisionError(), KeyError("choices")],
    ids=["garbage", "rejected", "a bug", "a body of another shape"],
)
def test_what_one_request_is_answered_with_is_not_held_against_the_vendor(
    clock: SleepingClock, kind: str, error: Exception
) -> None:
    """One device's odd requests must not silence the vendor for everybody."""
    breaker = Breaker(f"{kind}:acme", BreakerOptions(min_volume=3), clock=clock)
    guard = Guard(f"{kind}:acme", breaker=breaker, clock=clock, sleep=clock.sleep)

    def odd() -> str:
        raise error

    def stream() -> Iterator[str]:
        yield "Well"
        raise error

    for _ in range(20):
        with pytest.raises(type(error)):
            guard.call(odd)
        with pytest.raises(type(error)):
            list(guard.iterate(stream))

    assert breaker.state is BreakerState.CLOSED
    assert guard.call(lambda: "ok") == "ok"


@pytest.mark.parametrize(
    "error", [VendorUnavailable("acme"), VendorTimeout("acme"), ConnectionResetError(), TimeoutError()], ids=repr
)
def test_an_endpoint_that_is_not_there_is(clock: SleepingClock, error: Exception) -> None:
    breaker = Breaker("llm:acme", BreakerOptions(min_volume=3), clock=clock)
    guard = Guard("llm:acme", breaker=breaker, clock=clock, sleep=clock.sleep)

    def gone() -> str:
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            guard.call(gone)

    assert breaker.state is BreakerState.OPEN


def test_a_probe_that_is_answered_oddly_proves_nothing(clock: SleepingClock) -> None:
    breaker = Breaker("llm:acme", BreakerOptions(min_volume=1), clock=clock)
    guard = Guard("llm:acme", breaker=breaker, clock=clock, sleep=clock.sleep)
    with pytest.raises(VendorUnavailable):
        guard.call(failing(VendorUnavailable("acme")))
    clock.now += 20

    with pytest.raises(VendorGarbage):
        guard.call(failing(VendorGarbage("acme")))

    assert breaker.state is BreakerState.HALF_OPEN
    assert guard.call(lambda: "ok") == "ok"
    assert breaker.state is BreakerState.CLOSED
