"""The watchdog: notices overload and loops that hang, and acts before users notice.

Three jobs, one greenlet: it measures hub lag (how late its own timer fires) and backlog, and sheds load in two steps
(new turns, then new connections) until they recover; it restarts registered loops whose heartbeat stops; and it writes
the periodic sample of threads, memory and connections that `monitoring.sample_interval` asks for.

Not a profiler and not an alerting system: it reports in metrics, logs and `/readyz`. The decision to shed is pure
(`ShedPolicy`). A hub that is blocked for good blocks its watchdog too: then `/healthz` stops answering, and the
supervisor of the process has to act."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import gevent
import psutil
from gevent import Greenlet

from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

TICK_S = 0.25
OWN_PULSE_S = 5.0
"""How long the watchdog itself may be silent: a hub that is busy for longer serves nobody."""


class Shed(IntEnum):
    """What is being refused."""

    NOTHING = 0
    TURNS = 1
    CONNECTIONS = 2


@dataclass(slots=True)
class ShedPolicy:
    """Decides what to refuse from smoothed hub lag (s) and backlog (0..1 of the inference queue). Goes up quickly and
    down slowly: a level is left only after `calm_s` seconds below half of what leads to it, so that the server does not
    flap."""

    turns_lag_s: float = 0.25
    connections_lag_s: float = 0.75
    turns_backlog: float = 0.8
    connections_backlog: float = 0.98
    smoothing: float = 0.3
    calm_s: float = 3.0
    level: Shed = Shed.NOTHING
    lag_s: float = 0.0
    _calm_since: float | None = None

    def feed(self, lag_s: float, backlog: float, now: float) -> Shed:
        """One sample; returns the level that applies from now on."""
        self.lag_s += self.smoothing * (lag_s - self.lag_s)
        wanted = Shed.NOTHING
        if self.lag_s >= self.connections_lag_s or backlog >= self.connections_backlog:
            wanted = Shed.CONNECTIONS
        elif self.lag_s >= self.turns_lag_s or backlog >= self.turns_backlog:
            wanted = Shed.TURNS
        if wanted > self.level:
            self.level = wanted
            self._calm_since = None
        elif wanted < self.level:
            turns = self.level is Shed.TURNS
            lag_limit = self.turns_lag_s if turns else self.connections_lag_s
            backlog_limit = self.turns_backlog if turns else self.connections_backlog
            if self.lag_s < lag_limit / 2 and backlog < backlog_limit / 2:
                if self._calm_since is None:
                    self._calm_since = now
                elif now - self._calm_since >= self.calm_s:
                    self.level = Shed(self.level - 1)
                    self._calm_since = now
            else:
                self._calm_since = None
        else:
            self._calm_since = None
        return self.level


@dataclass(frozen=True, slots=True)
class LoopHealth:
    """How a loop is that should never end: seconds since it last ran, and how many are all right."""

    name: str
    silent_s: float
    within_s: float

    @property
    def alive(self) -> bool:
        """Whether it has run recently enough."""
        return self.silent_s <= self.within_s


@dataclass(slots=True)
class _Pulse:
    name: str
    beat: Callable[[], float]
    within_s: float
    revive: Callable[[], None]
    not_before: float = 0.0


class Watchdog:
    """`backlog` gives the fill of the inference queue (0..1), `sample` the fields of the periodic log line beside the
    process's own. `on_tick(now)` is called a few times a second, for small chores."""

    def __init__(
        self,
        *,
        backlog: Callable[[], float],
        sample: Callable[[], dict[str, object]] = dict,
        sample_interval: float = 0.0,
        policy: ShedPolicy | None = None,
        on_tick: Callable[[float], object] = lambda now: None,
        on_lag: Callable[[float], None] = lambda seconds: None,
        on_shed: Callable[[Shed], None] = lambda level: None,
        on_restart: Callable[[str], None] = lambda name: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backlog = backlog
        self._sample = sample
        self.sample_interval = sample_interval
        """Seconds between two samples; 0: none."""
        self._policy = policy or ShedPolicy()
        self._on_tick = on_tick
        self._on_lag = on_lag
        self._on_shed = on_shed
        self._on_restart = on_restart
        self._clock = clock
        self._pulses: list[_Pulse] = []
        self._greenlet: Greenlet | None = None
        self._stopped = False
        self._next_sample = clock() + sample_interval
        self._ticked_at = clock()
        self._process = psutil.Process()
        self._last_switches = self._process.num_ctx_switches()

    @property
    def shedding(self) -> Shed:
        """What is being refused now."""
        return self._policy.level

    @property
    def lag_s(self) -> float:
        """Smoothed hub lag, s."""
        return self._policy.lag_s

    def expect(self, name: str, beat: Callable[[], float], within_s: float, revive: Callable[[], None]) -> None:
        """Call `revive` when `beat` (a time on the watchdog's clock) has not moved for `within_s` seconds, and at most
        that often."""
        self._pulses.append(_Pulse(name, beat, within_s, revive))

    def loops(self) -> list[LoopHealth]:
        """Every lasting loop, this one included, for metrics and `/readyz`: nobody else would notice its end."""
        now = self._clock()
        beats = [("watchdog", self._ticked_at, OWN_PULSE_S)]
        beats += [(pulse.name, pulse.beat(), pulse.within_s) for pulse in self._pulses]
        return [LoopHealth(name, max(0.0, now - beat), within_s) for name, beat, within_s in beats]

    def start(self) -> None:
        """Begin to watch. Idempotent."""
        if self._greenlet is None:
            self._greenlet = tasks.spawn("watchdog", self._watch)

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        self._stopped = True
        if self._greenlet is not None:
            tasks.end(self._greenlet)

    def check(self, lag_s: float, now: float) -> None:
        """One tick's work; separate from the waiting so that it can be tested with a made-up clock."""
        self._ticked_at = now
        self._on_lag(lag_s)
        self._shed(lag_s, now)
        for pulse in self._pulses:
            silent_s = now - pulse.beat()
            # After a stall of the whole hub every pulse is old, and only because nobody was given a turn.
            if silent_s > pulse.within_s + lag_s and not self._stopped and now >= pulse.not_before:
                log.error("loop had no pulse, revived", loop=pulse.name, silent_s=round(silent_s, 1))
                self._on_restart(pulse.name)
                pulse.not_before = now + pulse.within_s
                pulse.revive()
        if self.sample_interval > 0 and now >= self._next_sample:
            self._next_sample = now + self.sample_interval
            log.info("sample", **self.sample())
        self._on_tick(now)

    def _shed(self, lag_s: float, now: float) -> None:
        backlog = self._backlog()
        before = self._policy.level
        level = self._policy.feed(lag_s, backlog, now)
        if level is before:
            return
        say = log.warning if level > before else log.info
        say(
            "load shedding",
            refusing=level.name.lower(),
            lag_ms=round(self._policy.lag_s * 1000),
            backlog=round(backlog, 2),
        )
        self._on_shed(level)

    def sample(self) -> dict[str, object]:
        """Threads, memory and switches of the process now, and whatever the composition root adds."""
        with self._process.oneshot():
            switches = self._process.num_ctx_switches()
            fields: dict[str, object] = {
                "greenlets": tasks.census.live,
                "native_threads": self._process.num_threads(),
                "rss_mb": round(self._process.memory_info().rss / 1e6, 1),
                "fds": self._process.num_fds(),
                "voluntary_switches": switches.voluntary - self._last_switches.voluntary,
                "involuntary_switches": switches.involuntary - self._last_switches.involuntary,
            }
        self._last_switches = switches
        fields["lag_ms"] = round(self._policy.lag_s * 1000, 1)
        fields.update(self._sample())
        return fields

    def _watch(self) -> None:
        while True:
            due = self._clock() + TICK_S
            gevent.sleep(TICK_S)
            now = self._clock()
            try:
                self.check(max(0.0, now - due), now)
            except Exception:
                # Nothing restarts the watchdog itself, so a fault in what it calls must not end it.
                log.exception("watchdog check failed")
