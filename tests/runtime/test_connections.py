"""The connections: replacing, sweeping by a clock that is turned by hand, draining."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from gevent.event import Event

from tests.fakes.clock import FakeClock
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.runtime.connections import (
    KEEP,
    ConnectionRegistry,
    Held,
    Policy,
    Seen,
    SweepAction,
    Used,
    Verdict,
    Vitals,
    judge,
    observe,
)
from xiaozhi.runtime.tasks import spawn

POLICY = Policy(
    idle_timeout=100,
    ping_interval=30,
    ping_timeout=90,
    closing_timeout=5,
    max_memory_bytes=1000,
    max_queue_depth=50,
    trim_grace=3,
)
ALIVE = Vitals(connected_at=0.0, received=1, sent=0, last_heard=0.0)


@dataclass
class FakeLive:
    """A connection that only notes what it is told."""

    device: str = "aa"
    state: Vitals = ALIVE
    orders: list[Any] = field(default_factory=list)
    drains: Event | None = None
    connections: ConnectionRegistry | None = None
    number: int = 0
    broken: bool = False

    def vitals(self) -> Vitals:
        if self.broken:
            raise RuntimeError("vitals")
        return self.state

    def tick(self, now: float) -> None:
        self.orders.append(("tick", now))

    def ping(self) -> bool:
        self.orders.append("ping")
        return True

    def trim(self) -> None:
        self.orders.append("trim")

    def slow_down(self, seconds: float) -> None:
        self.orders.append(("slow", seconds))

    def close(self, code: int, reason: str) -> None:
        self.orders.append(("close", code, reason))
        if self.connections is not None:
            self.connections.leave(self.number)

    def abort(self, reason: str) -> None:
        self.orders.append(("abort", reason))

    def drain(self, seconds: float) -> None:
        self.orders.append(("drain", seconds))
        if self.drains is not None:
            self.drains.wait(seconds)

    @property
    def told(self) -> list[Any]:
        """Orders but ticks."""
        return [order for order in self.orders if order[0] != "tick"]


def connections(**options: Any) -> tuple[ConnectionRegistry, FakeClock]:
    clock = FakeClock(0.0)
    return ConnectionRegistry(POLICY, clock=clock, **options), clock


# --- judging: pure ---


@pytest.mark.parametrize(
    "vitals,seen,now,expected",
    [
        (ALIVE, Seen(), 1, KEEP),
        # idle, by messages either way
        (ALIVE, Seen(), 100, KEEP),
        (ALIVE, Seen(), 100.1, Verdict(SweepAction.CLOSE, "idle", 1000)),
        (ALIVE, Seen(traffic_at=50), 150, KEEP),
        (ALIVE, Seen(traffic_at=50), 150.1, Verdict(SweepAction.CLOSE, "idle", 1000)),
        (replace(ALIVE, last_heard=150), Seen(), 150.1, Verdict(SweepAction.CLOSE, "idle", 1000)),
        # heartbeat, only where the board can stand it
        (ALIVE, Seen(), 30, KEEP),
        (replace(ALIVE, pings=True), Seen(), 29, KEEP),
        (replace(ALIVE, pings=True), Seen(), 30, Verdict(SweepAction.PING)),
        (replace(ALIVE, pings=True), Seen(pinged_at=30), 59, KEEP),
        (replace(ALIVE, pings=True), Seen(pinged_at=30), 60, Verdict(SweepAction.PING)),
        (replace(ALIVE, pings=True, last_heard=40), Seen(pinged_at=30), 69, KEEP),
        (replace(ALIVE, pings=True), Seen(pinged_at=60), 90.1, Verdict(SweepAction.ABORT, "no answer to pings")),
        (replace(ALIVE, pings=True, last_heard=61), Seen(pinged_at=90), 91, KEEP),
        # zombies: nothing else matters once the end has begun
        (replace(ALIVE, closing_since=200), Seen(), 205, KEEP),
        (replace(ALIVE, closing_since=200), Seen(), 205.1, Verdict(SweepAction.ABORT, "did not end")),
        # budget: trim first
        (replace(ALIVE, memory_bytes=1000, queue_depth=50), Seen(), 1, KEEP),
        (replace(ALIVE, memory_bytes=1001), Seen(), 1, Verdict(SweepAction.TRIM)),
        (replace(ALIVE, queue_depth=51), Seen(), 1, Verdict(SweepAction.TRIM)),
        (replace(ALIVE, queue_depth=51), Seen(trimmed_at=1), 4, KEEP),
        (replace(ALIVE, queue_depth=51), Seen(trimmed_at=1), 4.1, Verdict(SweepAction.CLOSE, "over budget", 1013)),
    ],
)
def test_judging(vitals: Vitals, seen: Seen, now: float, expected: Verdict) -> None:
    assert judge(vitals, seen, POLICY, now) == expected


def test_rules_can_be_switched_off() -> None:
    off = Policy(0, 0, 0, 0, 0, 0, 0)
    worst = Vitals(0.0, 0, 0, 0.0, None, True, 10**12, 10**9)
    assert judge(worst, Seen(), off, 1e9) == KEEP
    assert judge(replace(worst, closing_since=0.0), Seen(), off, 1e9) == KEEP


def test_traffic_is_noticed_by_its_counts() -> None:
    seen = Seen()
    observe(replace(ALIVE, received=1, sent=0), seen, 5)
    observe(replace(ALIVE, received=1, sent=0), seen, 6)
    assert seen.traffic_at == 5
    observe(replace(ALIVE, received=1, sent=1), seen, 7)
    assert seen.traffic_at == 7


# --- sweeping ---


def test_a_silent_device_is_sent_away() -> None:
    book, _ = connections()
    silent, loud = FakeLive("a"), FakeLive("b")
    book.join(silent)
    book.join(loud)
    book.sweep(1)
    loud.state = replace(ALIVE, received=2)
    book.sweep(60)
    assert (silent.told, loud.told) == ([], [])
    book.sweep(102)
    assert (silent.told, loud.told) == ([("close", 1000, "idle")], [])


def test_only_the_living_are_ticked() -> None:
    book, _ = connections()
    living, leaving = FakeLive("a"), FakeLive("b", replace(ALIVE, closing_since=1.0))
    book.join(living)
    book.join(leaving)
    book.sweep(2)
    assert living.orders == [("tick", 2)]
    assert leaving.orders == []


def test_heartbeat() -> None:
    book, _ = connections()
    live = FakeLive("a", replace(ALIVE, pings=True))
    book.join(live)
    for now in range(0, 100, 5):
        live.state = replace(live.state, received=live.state.received + 1)  # not idle
        book.sweep(now)
    assert live.told == ["ping", "ping", "ping", ("abort", "no answer to pings")]


def test_over_budget_is_trimmed_then_closed() -> None:
    book, _ = connections()
    stubborn, humble = FakeLive("a", replace(ALIVE, queue_depth=99)), FakeLive("b", replace(ALIVE, memory_bytes=9999))
    book.join(stubborn)
    book.join(humble)
    book.sweep(1)
    humble.state = ALIVE
    for now in (2, 3, 5):
        book.sweep(now)
    assert stubborn.told == ["trim", ("close", 1013, "over budget")]
    assert humble.told == ["trim"]
    humble.state = replace(ALIVE, memory_bytes=9999)
    book.sweep(6)
    assert humble.told == ["trim", "trim"], "a new excess is a new chance"


def test_zombies_are_dropped() -> None:
    book, _ = connections()
    live = FakeLive("a", replace(ALIVE, closing_since=1.0))
    book.join(live)
    book.sweep(5)
    assert live.told == []
    book.sweep(7)
    book.sweep(8)
    assert live.told == [("abort", "did not end")], "once is enough: its session may still be cleaning up"


def test_one_broken_connection_does_not_stop_the_sweep() -> None:
    book, _ = connections()
    broken, other = FakeLive("a", broken=True), FakeLive("b")
    book.join(broken)
    book.join(other)
    book.sweep(1)
    book.sweep(102)
    assert other.told == [("close", 1000, "idle")]
    assert book.swept_at == 102


def test_a_connection_may_leave_during_the_sweep() -> None:
    book, _ = connections()
    lives = [FakeLive(str(number), connections=book) for number in range(3)]
    for live in lives:
        live.number = book.join(live)
    book.sweep(1)
    book.sweep(102)
    assert len(book) == 0
    assert all(live.told == [("close", 1000, "idle")] for live in lives)


def test_the_sweeper_runs_by_itself_and_stops() -> None:
    book, clock = connections(interval=0.001)
    clock.now = 50.0
    swept = Event()
    live = FakeLive()
    live.tick = lambda now: swept.set()  # type: ignore[method-assign]
    book.join(live)
    book.start()
    book.start()
    try:
        assert swept.wait(PATIENCE_S)
        assert book.swept_at == 50.0
    finally:
        book.stop()
        book.stop()


def test_the_sweeper_looks_at_a_slice_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.runtime.connections.SLICE", 2)
    book, clock = connections(interval=0.001)
    clock.now = 50.0
    swept, ticked = Event(), []
    lives = [FakeLive(name, replace(ALIVE, memory_bytes=10, queue_depth=depth)) for depth, name in enumerate("abcde")]
    for live in lives:
        live.tick = lambda now, live=live: (ticked.append(live.device), swept.set() if len(ticked) == 10 else None)  # type: ignore[method-assign]
    numbers = {live.device: book.join(live) for live in lives}
    book.start()
    try:
        gone = lives[-1]
        assert swept.wait(PATIENCE_S)
        assert sorted(ticked) == sorted("abcde" * 2)
        assert ticked[:5] == list("abcde")
        assert book.held == Held(memory_bytes=50, queued=10, queued_most=4, memory_most=10)
        book.leave(numbers[gone.device])
        book.sweep(50.0)
        assert book.held == Held(memory_bytes=40, queued=6, queued_most=3, memory_most=10)
    finally:
        book.stop()


# --- one connection per device ---


def test_the_new_connection_replaces_the_old() -> None:
    book, _ = connections()
    old, new, other = FakeLive("a"), FakeLive("a"), FakeLive("b")
    number = book.join(old)
    book.join(other)
    book.join(new)
    assert old.told == [("close", 1000, "replaced")]
    assert (new.told, other.told) == ([], [])
    assert book.of_device("a") == [new]
    assert len(book) == 3, "the old one is here until it has gone"
    book.leave(number)
    book.leave(number)
    assert book.of_device("a") == [new]
    assert len(book) == 2
    assert book.actions["replaced"] == 1


def test_several_connections_of_one_device_if_that_is_allowed() -> None:
    book, _ = connections(per_device=2)
    lives = [FakeLive("a") for _ in range(4)]
    for live in lives:
        book.join(live)
    assert [bool(live.told) for live in lives] == [True, True, False, False]
    assert book.of_device("a") == lives[2:]


def test_the_registry() -> None:
    book, clock = connections()
    clock.now = 3.0
    number = book.join(FakeLive("a"))
    book.sweep(4.0)
    (member,) = book.members()
    assert (member.number, member.device, member.joined_at, member.last_traffic_at) == (number, "a", 3.0, 4.0)
    book.leave(number)
    assert book.members() == [] and book.of_device("a") == []


# --- draining ---


def test_draining_lets_answers_end_then_says_goodbye() -> None:
    book, _ = connections()
    answered = Event()
    busy, idle = FakeLive("a", drains=answered, connections=book), FakeLive("b", connections=book)
    busy.number, idle.number = book.join(busy), book.join(idle)
    drained = spawn("drain", book.drain, 5.0, 1012, "restart")
    wait_for(lambda: len(idle.told) == 2)
    assert idle.told == [("drain", 5.0), ("close", 1012, "restart")], "who has nothing to say does not wait for others"
    assert busy.told == [("drain", 5.0)]
    answered.set()
    assert drained.get(timeout=PATIENCE_S) == 0
    assert busy.told[1:] == [("close", 1012, "restart")]


def test_draining_is_bounded_and_what_does_not_end_is_dropped() -> None:
    book, _ = connections()
    endless = FakeLive("a", drains=Event())
    book.join(endless)
    assert book.drain(0.02, grace=0.02) == 1
    assert endless.told[0] == ("drain", 0.02)
    assert endless.told[-2:] == [("close", 1001, "server stopping"), ("abort", "did not end in time")]


def test_whoever_comes_while_the_server_stops_is_sent_away() -> None:
    book, _ = connections()
    assert book.drain(0.1) == 0
    late = FakeLive("a")
    book.join(late)
    assert late.told == [("close", 1001, "server stopping")]


# --- processor time ---


def test_processor_time_over_the_limit_slows_down_first_and_closes_when_it_goes_on() -> None:
    book, clock = connections()
    live = FakeLive("a", replace(ALIVE, last_heard=clock.now))
    live.number, live.connections = book.join(live), book
    used = 0.0
    for second in range(1, 11):
        used += 1.6
        live.state = replace(live.state, cpu_s=used, received=second)
        clock.now += 1.0
        book.sweep(clock.now)
        if second == 4:
            assert live.told == []
        elif second in (5, 9):
            # 8 s of work in 5 s: at 80 % it takes 10 s.
            assert live.told == [("slow", 5.0)]
    assert live.told[-1] == ("close", 1008, "too much processor time")
    assert (book.actions["slow"], book.actions["close"]) == (1, 1)


def test_who_calms_down_is_forgiven() -> None:
    book, clock = connections()
    live = FakeLive("a", ALIVE)
    book.join(live)
    for second, used in enumerate([0, 0, 0, 0, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 12], start=1):
        live.state = replace(live.state, cpu_s=float(used), received=second)
        clock.now += 1.0
        book.sweep(clock.now)

    assert live.told == [("slow", 2.5), ("slow", 2.5)]


def test_no_limit_of_processor_time() -> None:
    book, clock = connections()
    book.policy = replace(POLICY, max_cpu=0.0)
    live = FakeLive("a", ALIVE)
    book.join(live)
    for second in range(1, 20):
        live.state = replace(live.state, cpu_s=10.0 * second, received=second)
        clock.now += 1.0
        book.sweep(clock.now)

    assert live.told == []


def test_what_was_used_is_added_up_and_never_falls() -> None:
    book, clock = connections()
    live, other = FakeLive("a", replace(ALIVE, cpu_s=1.0, bytes_in=10)), FakeLive("b", replace(ALIVE, bytes_out=5))
    number = book.join(live)
    book.join(other)
    book.sweep(clock.now)
    assert book.used == Used(1.0, 10, 5)

    live.state = replace(live.state, cpu_s=3.0, bytes_in=30)
    book.leave(number)

    assert book.used == Used(3.0, 30, 5)
    book.sweep(clock.now)
    assert book.used == Used(3.0, 30, 5)


def test_one_that_cannot_be_asked_can_leave() -> None:
    book, _ = connections()
    live = FakeLive("a", ALIVE)
    number = book.join(live)
    live.broken = True

    book.leave(number)

    assert len(book) == 0
