"""Collectors: what other objects count anyway, turned into metrics at the moment of a scrape.

Nothing is counted here and nothing is kept; `metrics.py` declares the rest and registers these. Objects are known by
the few attributes that are read, so that tests can use plain ones. Every label takes its values from code or
configuration, never from a device."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xiaozhi.runtime import logs, tasks
from xiaozhi.runtime.connections import Held, Used
from xiaozhi.runtime.guesses import DOORS
from xiaozhi.runtime.inference import ClassCounts
from xiaozhi.runtime.resilience import BreakerState, Guard, vendor_labels
from xiaozhi.runtime.watchdog import LoopHealth

# Known beforehand, so that their series begin at 0: an alert cannot see the first increase of a series that did not
# exist.
REFUSALS = ("closed", "rate", "address rate", "places", "device places", "address places")
SWEEPS = ("replaced", "ping", "slow", "trim", "close", "abort")
BREAKER_VALUES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class PoolView(Protocol):
    """What is read of an inference pool."""

    @property
    def counts(self) -> Mapping[str, ClassCounts]:
        """By class."""

    @property
    def workers(self) -> int:
        """Threads."""

    @property
    def queue_size(self) -> int:
        """Jobs that may wait."""


class AdmissionView(Protocol):
    """What is read of the door."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Refusals by cause."""


class GuessesView(Protocol):
    """What is read of the wrong secrets."""

    @property
    def wrong(self) -> Mapping[str, int]:
        """Wrong ones, by door."""

    @property
    def locked_out(self) -> Mapping[str, int]:
        """Tries of those who had to wait, by door."""


class ConnectionsView(Protocol):
    """What is read of the live connections."""

    @property
    def actions(self) -> Mapping[str, int]:
        """What was done so far, by action."""

    @property
    def held(self) -> Held:
        """What they held then."""

    @property
    def used(self) -> Used:
        """What they have used so far."""


class ToolSourceView(Protocol):
    """What is read of a source of tools behind a connection."""

    @property
    def name(self) -> str:
        """A label: there are as many as the configuration has."""

    @property
    def up(self) -> bool:
        """Whether it can be called."""

    @property
    def restarts(self) -> int:
        """Connections that were lost, or not had."""


class SidecarView(Protocol):
    """What is read of the sidecar."""

    @property
    def pid(self) -> int | None:
        """None: it does not run."""

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""

    @property
    def calls(self) -> int:
        """Under way."""

    @property
    def resident_bytes(self) -> int:
        """Its memory."""


class TallyReadings(Collector):
    """Counts that somebody else keeps, by one label."""

    def __init__(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self._read().items():
            family.add_metric([value], count)
        yield family


class ToolSourceReadings(Collector):
    """Connections with MCP servers and endpoints. Two of one name (two configurations, or devices' own endpoints) are
    one series: up is how many are, so that an alert compares it with how many there should be."""

    def __init__(self, sources: Callable[[], Iterable[ToolSourceView]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        found: dict[str, list[ToolSourceView]] = {}
        for source in self._sources():
            found.setdefault(source.name, []).append(source)
        wanted = GaugeMetricFamily("xiaozhi_tool_sources", "Connections with sources of tools.", labels=["source"])
        up = GaugeMetricFamily("xiaozhi_tool_sources_up", "Those that can be called now.", labels=["source"])
        lost = GaugeMetricFamily(
            "xiaozhi_tool_sources_lost", "How often those in use were lost, or not had.", labels=["source"]
        )
        for name, sources in sorted(found.items()):
            wanted.add_metric([name], len(sources))
            up.add_metric([name], sum(source.up for source in sources))
            lost.add_metric([name], sum(source.restarts for source in sources))
        yield from (wanted, up, lost)


class SidecarReadings(Collector):
    """The process for asyncio-only libraries."""

    def __init__(self, sidecar: SidecarView) -> None:
        self._sidecar = sidecar

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        sidecar = self._sidecar
        yield GaugeMetricFamily("xiaozhi_sidecar_up", "1 while the sidecar runs.", value=float(sidecar.pid is not None))
        yield CounterMetricFamily(
            "xiaozhi_sidecar_restarts", "How often the sidecar had to be started again.", value=sidecar.restarts
        )
        yield GaugeMetricFamily("xiaozhi_sidecar_calls", "Calls of the sidecar under way.", value=sidecar.calls)
        yield GaugeMetricFamily(
            "xiaozhi_sidecar_resident_bytes",
            "Memory of the sidecar, without its programs.",
            value=sidecar.resident_bytes,
        )


class TotalReading(Collector):
    """One number that only rises."""

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name = name
        self._text = text
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, value=self._read())


class PoolReadings(Collector):
    """The inference pool, by class of work."""

    def __init__(self, pool: PoolView) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        jobs = GaugeMetricFamily("xiaozhi_pool_jobs", "Jobs of the inference pool now.", labels=["class", "state"])
        done = CounterMetricFamily("xiaozhi_pool_jobs_done", "Jobs the pool has finished.", labels=["class"])
        refused = CounterMetricFamily(
            "xiaozhi_pool_jobs_refused", "Jobs refused because the pool was full.", labels=["class"]
        )
        late = CounterMetricFamily("xiaozhi_pool_jobs_late", "Jobs whose deadline passed.", labels=["class"])
        waited = CounterMetricFamily("xiaozhi_pool_wait_seconds", "Time jobs waited for a thread.", labels=["class"])
        worked = CounterMetricFamily("xiaozhi_pool_work_seconds", "Time jobs held a thread.", labels=["class"])
        for kind, counts in list(self._pool.counts.items()):
            jobs.add_metric([kind, "active"], counts.active)
            jobs.add_metric([kind, "queued"], counts.queued)
            done.add_metric([kind], counts.done)
            refused.add_metric([kind], counts.refused)
            late.add_metric([kind], counts.late)
            waited.add_metric([kind], counts.waited_s)
            worked.add_metric([kind], counts.worked_s)
        yield from (jobs, done, refused, late, waited, worked)
        yield GaugeMetricFamily("xiaozhi_pool_workers", "Threads of the inference pool.", value=self._pool.workers)
        yield GaugeMetricFamily(
            "xiaozhi_pool_queue_limit", "Jobs that may wait for a thread.", value=self._pool.queue_size
        )


class AdmissionReadings(Collector):
    """Refusals at the door."""

    def __init__(self, admission: AdmissionView) -> None:
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        refused = CounterMetricFamily(
            "xiaozhi_connections_refused", "Connections refused before the upgrade, by cause.", labels=["cause"]
        )
        for cause, count in (dict.fromkeys(REFUSALS, 0) | dict(self._admission.refused)).items():
            refused.add_metric([cause.replace(" ", "_")], count)
        yield refused


class GuessReadings(Collector):
    """Wrong secrets."""

    def __init__(self, guesses: GuessesView) -> None:
        self._guesses = guesses

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        wrong = CounterMetricFamily("xiaozhi_wrong_secrets", "Wrong tokens and secrets, by door.", labels=["door"])
        waiting = CounterMetricFamily(
            "xiaozhi_locked_out", "Tries that were refused after too many wrong ones, by door.", labels=["door"]
        )
        for door in DOORS:
            wrong.add_metric([door], self._guesses.wrong.get(door, 0))
            waiting.add_metric([door], self._guesses.locked_out.get(door, 0))
        yield from (wrong, waiting)


class ConnectionReadings(Collector):
    """What the sweeper did, and what all sessions together held when it last looked: a scrape asks nobody."""

    def __init__(self, connections: ConnectionsView) -> None:
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        connections = self._connections
        actions = CounterMetricFamily(
            "xiaozhi_sweeper_actions", "What was done about connections, by action.", labels=["action"]
        )
        for action, count in (dict.fromkeys(SWEEPS, 0) | dict(connections.actions)).items():
            actions.add_metric([action], count)
        held = connections.held
        yield actions
        yield GaugeMetricFamily(
            "xiaozhi_sessions_memory_bytes", "Estimate of what all sessions hold.", value=held.memory_bytes
        )
        yield GaugeMetricFamily(
            "xiaozhi_sessions_queued", "Things waiting in the queues of all sessions.", value=held.queued
        )
        yield GaugeMetricFamily(
            "xiaozhi_sessions_queued_most",
            "Things waiting in the queues of the fullest session.",
            value=held.queued_most,
        )
        yield GaugeMetricFamily(
            "xiaozhi_sessions_memory_most_bytes", "Estimate of what the largest session holds.", value=held.memory_most
        )
        used = connections.used
        yield CounterMetricFamily(
            "xiaozhi_sessions_cpu_seconds",
            "Processor time that devices brought about: the hub's for their messages, voice detection, codecs.",
            value=used.cpu_s,
        )
        carried = CounterMetricFamily("xiaozhi_device_bytes", "Bytes from and to devices.", labels=["direction"])
        carried.add_metric(["in"], used.bytes_in)
        carried.add_metric(["out"], used.bytes_out)
        yield carried


class LoopReadings(Collector):
    """How long each lasting loop has not run."""

    def __init__(self, loops: Callable[[], Iterable[LoopHealth]]) -> None:
        self._loops = loops

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        silent = GaugeMetricFamily(
            "xiaozhi_loop_silent_seconds", "Time since a loop that never ends has run, by loop.", labels=["loop"]
        )
        for loop in self._loops():
            silent.add_metric([loop.name], loop.silent_s)
        yield silent


@dataclass(slots=True)
class FrameCounts:
    """Audio frames so far. Plain numbers: on this path, a locked counter would cost more than what it counts."""

    sent: int = 0
    received: int = 0


class FrameReadings(Collector):
    """Audio frames to and from devices."""

    def __init__(self, counts: FrameCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        yield CounterMetricFamily("xiaozhi_frames_sent", "Audio frames sent to devices.", value=self._counts.sent)
        yield CounterMetricFamily(
            "xiaozhi_frames_received", "Audio frames received from devices.", value=self._counts.received
        )


class VendorReadings(Collector):
    """The windows and breakers in front of vendors. Guards of one name (a vendor's block in two configurations, or with
    several devices' own settings) are one series: their sums, and the worst state."""

    def __init__(self, guards: Callable[[], Iterable[Guard]]) -> None:
        self._guards = guards

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        labels = ["kind", "vendor"]
        active = GaugeMetricFamily("xiaozhi_vendor_active", "Calls a vendor is working on.", labels=labels)
        waiting = GaugeMetricFamily(
            "xiaozhi_vendor_waiting", "Calls waiting for a place in a vendor's window.", labels=labels
        )
        limit = GaugeMetricFamily(
            "xiaozhi_vendor_active_limit", "Places in a vendor's window; 0: no limit.", labels=labels
        )
        refused = CounterMetricFamily(
            "xiaozhi_vendor_window_refused", "Calls that found no place in time.", labels=labels
        )
        state = GaugeMetricFamily("xiaozhi_vendor_breaker_state", "0 closed, 1 half-open, 2 open.", labels=labels)
        by_name: dict[str, list[Guard]] = {}
        for guard in self._guards():
            by_name.setdefault(guard.name, []).append(guard)
        for name, guards in by_name.items():
            kind, vendor = vendor_labels(name)
            states = [BREAKER_VALUES[guard.breaker.state] for guard in guards if guard.breaker is not None]
            state.add_metric([kind, vendor], max(states, default=0))
            windows = [guard.window for guard in guards if guard.window is not None]
            if not windows:
                continue
            active.add_metric([kind, vendor], sum(window.active for window in windows))
            waiting.add_metric([kind, vendor], sum(window.waiting for window in windows))
            limits = [window.max_concurrent for window in windows]
            limit.add_metric([kind, vendor], sum(limits) if all(limits) else 0)
            refused.add_metric([kind, vendor], sum(window.refused for window in windows))
        yield from (active, waiting, limit, refused, state)


class LimitationReadings(Collector):
    """What vendors were found to be unable to do while they were used."""

    def __init__(self, guards: Callable[[], Iterable[Guard]]) -> None:
        self._guards = guards

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        found = GaugeMetricFamily(
            "xiaozhi_vendor_limitations",
            "1 for what a vendor was found to be unable to do, and is no longer asked for.",
            labels=["kind", "vendor", "limitation"],
        )
        seen = {(guard.name, limitation) for guard in self._guards() for limitation in guard.limitations()}
        for name, limitation in sorted(seen):
            kind, vendor = vendor_labels(name)
            found.add_metric([kind, vendor, limitation], 1)
        yield found


class HostReadings(Collector):
    """Memory and processors of the machine, which others use too."""

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        memory = psutil.virtual_memory()
        held = GaugeMetricFamily("xiaozhi_host_memory_bytes", "Memory of the machine.", labels=["state"])
        held.add_metric(["total"], memory.total)
        held.add_metric(["available"], memory.available)
        yield held
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)  # not on every system
        worked = CounterMetricFamily(
            "xiaozhi_host_cpu_seconds", "Processor time of the machine, all cores.", labels=["state"]
        )
        worked.add_metric(["idle"], idle)
        worked.add_metric(["busy"], times.user + times.nice + times.system)
        yield worked


class ProcessReadings(Collector):
    """Threads, greenlets, context switches, garbage collections."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        with self._process.oneshot():
            switches = self._process.num_ctx_switches()
            threads = self._process.num_threads()
        context = CounterMetricFamily("xiaozhi_context_switches", "Context switches of the process.", labels=["kind"])
        context.add_metric(["voluntary"], switches.voluntary)
        context.add_metric(["involuntary"], switches.involuntary)
        collections = CounterMetricFamily(
            "xiaozhi_gc_collections", "Garbage collections, by generation.", labels=["generation"]
        )
        for generation, stats in enumerate(gc.get_stats()):
            collections.add_metric([str(generation)], stats["collections"])
        yield GaugeMetricFamily("xiaozhi_native_threads", "Operating system threads.", value=threads)
        yield GaugeMetricFamily("xiaozhi_greenlets", "Greenlets that are at work or waiting.", value=tasks.census.live)
        by_name = GaugeMetricFamily("xiaozhi_tasks", "Tasks that are at work or waiting, by name.", labels=["name"])
        for name, count in sorted(tasks.census.by_name.items()):
            by_name.add_metric([name], count)
        yield by_name
        yield CounterMetricFamily(
            "xiaozhi_log_lines_dropped", "Log lines for which the writing thread had no room.", value=logs.dropped()
        )
        yield CounterMetricFamily("xiaozhi_greenlets_started", "Greenlets started.", value=tasks.census.started)
        yield CounterMetricFamily(
            "xiaozhi_greenlet_failures", "Greenlets that ended by an unexpected error.", value=tasks.census.failed
        )
        yield context
        yield collections


@dataclass(frozen=True, slots=True)
class HistoryFigures:
    """What became of what was said; by sink where it says so."""

    kept: int
    """Records that reached the disk."""
    lost: Mapping[str, int]
    """"turn" and "sound"."""
    refused: Mapping[str, int]
    """Records that a sink refused for good."""
    waiting: Mapping[str, int]
    """Records that wait for "disk", and for each sink."""
    failing: Mapping[str, bool]
    """Whether "disk", and each sink, fails now."""
    bytes: int
    """Of the journal's files."""


class HistoryReadings(Collector):
    """The journal of the history and its delivery."""

    def __init__(self, figures: Callable[[], HistoryFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        figures = self._figures()
        kept = CounterMetricFamily("xiaozhi_history_kept", "Turns, and ends of sessions, that are on the disk.")
        kept.add_metric([], figures.kept)
        lost = CounterMetricFamily(
            "xiaozhi_history_lost", "What was said and had to be dropped unstored.", labels=["what"]
        )
        refused = CounterMetricFamily("xiaozhi_history_refused", "Turns that a sink refused for good.", labels=["sink"])
        waiting = GaugeMetricFamily(
            "xiaozhi_history_waiting", "Turns that wait for the disk, or for a sink.", labels=["where"]
        )
        failing = GaugeMetricFamily(
            "xiaozhi_history_failing", "1 while the disk, or a sink, does not take the history.", labels=["where"]
        )
        size = GaugeMetricFamily("xiaozhi_history_journal_bytes", "Files of the history's journal.")
        size.add_metric([], figures.bytes)
        for family, values in ((lost, figures.lost), (refused, figures.refused), (waiting, figures.waiting)):
            for label, value in values.items():
                family.add_metric([label], value)
        for where, fails in figures.failing.items():
            failing.add_metric([where], int(fails))
        yield from (kept, lost, refused, waiting, failing, size)
