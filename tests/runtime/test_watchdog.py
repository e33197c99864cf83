"""The watchdog by a clock that is turned by hand: when load is shed, what is revived, what is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.waiting import PATIENCE_S
from xiaozhi.runtime.watchdog import TICK_S, Shed, ShedPolicy, Watchdog


def steadily(policy: ShedPolicy, lag_s: float, backlog: float, seconds: float, begin: float) -> float:
    """Feed the same sample every tick; returns the time after it."""
    now = begin
    while now < begin + seconds:
        policy.feed(lag_s, backlog, now)
        now += TICK_S
    return now


def test_a_calm_server_refuses_nothing() -> None:
    policy = ShedPolicy()

    steadily(policy, 0.01, 0.2, 60, 0)

    assert policy.level is Shed.NOTHING


def test_one_late_timer_is_not_overload() -> None:
    policy = ShedPolicy()
    steadily(policy, 0.0, 0.0, 1, 0)

    assert policy.feed(0.5, 0.0, 2.0) is Shed.NOTHING


def test_lasting_lag_sheds_turns_first_and_connections_when_it_gets_worse() -> None:
    policy = ShedPolicy()

    now = steadily(policy, 0.4, 0.0, 5, 0)
    assert policy.level is Shed.TURNS
    steadily(policy, 1.5, 0.0, 5, now)

    assert policy.level is Shed.CONNECTIONS


@pytest.mark.parametrize(
    "backlog,level", [(0.79, Shed.NOTHING), (0.8, Shed.TURNS), (0.97, Shed.TURNS), (0.98, Shed.CONNECTIONS)]
)
def test_backlog_counts_at_once(backlog: float, level: Shed) -> None:
    assert ShedPolicy().feed(0.0, backlog, 0.0) is level


def test_a_level_is_left_one_step_at_a_time_after_a_calm_while() -> None:
    policy = ShedPolicy(calm_s=3.0)
    policy.feed(0.0, 1.0, 0.0)

    assert policy.feed(0.0, 0.0, 1.0) is Shed.CONNECTIONS
    assert policy.feed(0.0, 0.0, 3.9) is Shed.CONNECTIONS
    assert policy.feed(0.0, 0.0, 4.0) is Shed.TURNS
    assert policy.feed(0.0, 0.0, 6.9) is Shed.TURNS
    assert policy.feed(0.0, 0.0, 7.0) is Shed.NOTHING


def test_load_between_half_and_whole_limit_keeps_the_level() -> None:
    policy = ShedPolicy(calm_s=1.0)
    policy.feed(0.0, 0.8, 0.0)

    steadily(policy, 0.0, 0.6, 60, 1)

    assert policy.level is Shed.TURNS


def test_connections_come_back_while_turns_are_still_shed() -> None:
    """Each level has its own limit: load that just forbids turns must not keep the door shut for ever."""
    policy = ShedPolicy(calm_s=1.0, connections_backlog=2.0)
    steadily(policy, 1.5, 0.0, 5, 0)
    assert policy.level is Shed.CONNECTIONS

    steadily(policy, 0.3, 0.0, 60, 5)

    assert policy.level is Shed.TURNS


def test_a_relapse_begins_the_calm_while_anew() -> None:
    policy = ShedPolicy(calm_s=3.0)
    policy.feed(0.0, 0.8, 0.0)
    policy.feed(0.0, 0.0, 1.0)
    policy.feed(0.0, 0.5, 2.0)

    assert policy.feed(0.0, 0.0, 4.5) is Shed.TURNS
    assert policy.feed(0.0, 0.0, 7.5) is Shed.NOTHING


class Ward:
    """A watchdog and what it told."""

    def __init__(self, **options: object) -> None:
        self.clock = FakeClock()
        self.backlog = 0.0
        self.lags: list[float] = []
        self.levels: list[Shed] = []
        self.restarts: list[str] = []
        self.dog = Watchdog(
            backlog=lambda: self.backlog,
            on_lag=self.lags.append,
            on_shed=self.levels.append,
            on_restart=self.restarts.append,
            clock=self.clock,
            **options,  # type: ignore[arg-type]
        )

    def tick(self, seconds: float = TICK_S, lag_s: float = 0.0) -> None:
        """Let time pass, then one check."""
        self.dog.check(lag_s, self.clock.advance(seconds))


@pytest.fixture
def ward() -> Iterator[Ward]:
    made = Ward()
    yield made
    made.dog.stop()


def test_a_change_of_level_is_told_once(ward: Ward) -> None:
    with capture_logs() as lines:
        ward.backlog = 0.99
        ward.tick()
        ward.tick()
        ward.backlog = 0.0
        for _ in range(60):
            ward.tick()

    assert ward.levels == [Shed.CONNECTIONS, Shed.TURNS, Shed.NOTHING]
    assert [(line["refusing"], line["log_level"]) for line in lines] == [
        ("connections", "warning"),
        ("turns", "info"),
        ("nothing", "info"),
    ]
    assert ward.dog.shedding is Shed.NOTHING


def test_every_lag_is_measured(ward: Ward) -> None:
    ward.tick(lag_s=0.1)
    ward.tick(lag_s=0.0)

    assert ward.lags == [0.1, 0.0]
    assert 0 < ward.dog.lag_s < 0.1


def test_stopped_it_restarts_nothing(ward: Ward) -> None:
    beat = ward.clock.now
    ward.dog.expect("sweeper", lambda: beat, 10.0, lambda: None)

    ward.dog.stop()
    ward.tick(60)

    assert ward.restarts == []


def test_a_loop_without_a_pulse_is_revived_and_given_time(ward: Ward) -> None:
    beat = ward.clock.now
    revived: list[float] = []
    ward.dog.expect("sweeper", lambda: beat, 10.0, lambda: revived.append(ward.clock.now))

    ward.tick(10.0)
    assert revived == []
    ward.tick(0.5)
    ward.tick(5.0)
    assert revived == [1010.5]
    ward.tick(5.0)

    assert revived == [1010.5, 1020.5]
    assert ward.restarts == ["sweeper", "sweeper"]


def test_the_health_of_every_loop_is_told_the_watchdogs_included(ward: Ward) -> None:
    beat = ward.clock.now
    ward.dog.expect("sweeper", lambda: beat, 10.0, lambda: None)
    ward.tick(0.25)

    ward.clock.advance(6.0)

    health = {loop.name: (loop.silent_s, loop.alive) for loop in ward.dog.loops()}
    assert health == {"watchdog": (6.0, False), "sweeper": (6.25, True)}


def test_a_pulse_is_not_missed_because_everybody_had_to_wait(ward: Ward) -> None:
    beat = ward.clock.now
    revived: list[str] = []
    ward.dog.expect("sweeper", lambda: beat, 10.0, lambda: revived.append("sweeper"))

    ward.tick(seconds=12.0, lag_s=11.75)

    assert revived == []


def test_the_sample_comes_at_its_interval_with_what_the_caller_adds() -> None:
    ward = Ward(sample_interval=10.0, sample=lambda: {"connections": 7})
    with capture_logs() as lines:
        for _ in range(100):
            ward.tick(0.25)

    samples = [line for line in lines if line["event"] == "sample"]
    assert len(samples) == 2
    expected = {
        "connections",
        "greenlets",
        "native_threads",
        "rss_mb",
        "fds",
        "voluntary_switches",
        "involuntary_switches",
        "lag_ms",
    }
    assert expected <= set(samples[0])
    assert samples[0]["connections"] == 7
    assert samples[0]["rss_mb"] > 1


def test_no_interval_no_sample(ward: Ward) -> None:
    with capture_logs() as lines:
        for _ in range(100):
            ward.tick(60)

    assert lines == []


def test_started_it_measures_by_itself_and_survives_what_it_calls() -> None:
    measured = Event()
    checks = 0

    def on_lag(seconds: float) -> None:
        nonlocal checks
        checks += 1
        if checks == 1:
            raise RuntimeError("metrics are broken")
        measured.set()

    dog = Watchdog(backlog=lambda: 0.0, on_lag=on_lag)
    dog.start()
    dog.start()
    try:
        with capture_logs() as lines:
            assert measured.wait(PATIENCE_S)
    finally:
        dog.stop()
        dog.stop()

    assert [line["event"] for line in lines] == ["watchdog check failed"]
