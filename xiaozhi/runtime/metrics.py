"""Every metric of the server, declared in one place, in Prometheus' conventions: base units, `_total` counters, few and bounded labels.

Not a time series store and not the watchdog. What other objects already count (the pool, the roster, queues) is read when somebody scrapes,
so that the per-frame path pays nothing; only what has a distribution (turn stages, vendor latency, late frames, batches) is observed as
it happens.

Vendors are labelled by their configured name, of which there are as many as the configuration has blocks; device ids are never labels.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import greenlet
import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.limits import Admission

STAGE_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
LATENESS_BUCKETS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
LAG_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class RosterCounts(Protocol):
    """What the metrics want to know of the live connections."""

    def __len__(self) -> int: ...


class Metrics:
    """The registry and everything in it. One per process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        self.connections_opened = Counter("xiaozhi_connections_opened_total", "Device connections accepted.", registry=registry)
        self.connections_closed = Counter(
            "xiaozhi_connections_closed_total", "Connections that ended, by close code.", ["code"], registry=registry
        )
        self.connection_seconds = Histogram(
            "xiaozhi_connection_seconds", "How long connections lasted.", buckets=(1, 10, 60, 300, 1800, 7200, 86400), registry=registry
        )
        self.turns = Counter("xiaozhi_turns_total", "Turns that ended, by outcome.", ["outcome"], registry=registry)
        self.speculations = Counter(
            "xiaozhi_speculations_total", "Answers prepared during a pause, by what became of them.", ["fate"], registry=registry
        )
        self.turn_stage = Histogram(
            "xiaozhi_turn_stage_seconds",
            "From the end of the user's voice to a stage of the answer.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.frame_lateness = Histogram(
            "xiaozhi_frame_lateness_seconds",
            "How late audio frames were sent; punctual frames are not observed.",
            buckets=LATENESS_BUCKETS,
            registry=registry,
        )
        self.frames_sent = Counter("xiaozhi_frames_sent_total", "Audio frames sent to devices.", registry=registry)
        self.frames_received = Counter("xiaozhi_frames_received_total", "Audio frames received from devices.", registry=registry)
        self.dropped = Counter("xiaozhi_dropped_total", "What bounded queues had to drop, by queue.", ["queue"], registry=registry)
        self.vad_batch = Histogram("xiaozhi_vad_batch_size", "Windows per voice detection call.", buckets=BATCH_BUCKETS, registry=registry)
        self.vendor_requests = Counter(
            "xiaozhi_vendor_requests_total", "Calls of providers, by result.", ["kind", "vendor", "result"], registry=registry
        )
        self.vendor_first = Histogram(
            "xiaozhi_vendor_first_output_seconds",
            "From a call to its first output.",
            ["kind", "vendor"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.vendor_seconds = Histogram(
            "xiaozhi_vendor_request_seconds", "From a call to its end.", ["kind", "vendor"], buckets=STAGE_BUCKETS, registry=registry
        )
        self.breaker = Gauge("xiaozhi_vendor_breaker_state", "0 closed, 1 half-open, 2 open.", ["kind", "vendor"], registry=registry)
        self.vendor_waiting = Gauge(
            "xiaozhi_vendor_waiting", "Calls waiting for a place in a vendor's window.", ["kind", "vendor"], registry=registry
        )
        self.hub_lag = Histogram("xiaozhi_hub_lag_seconds", "How late a timer of the hub fires.", buckets=LAG_BUCKETS, registry=registry)
        self.shedding = Gauge("xiaozhi_shedding", "0 accepting all, 1 refusing new turns, 2 refusing connections too.", registry=registry)
        self.restarted_loops = Counter(
            "xiaozhi_restarted_loops_total", "Loops the watchdog had to restart, by name.", ["loop"], registry=registry
        )
        self.reloads = Counter("xiaozhi_reloads_total", "Configuration reloads, by result.", ["result"], registry=registry)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when somebody scrapes."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def watch_pool(self, pool: InferencePool) -> None:
        """The inference pool's counts, by class."""
        self.registry.register(_PoolCollector(pool))

    def watch_admission(self, admission: Admission) -> None:
        """Refusals at the door, by cause."""
        self.registry.register(_AdmissionCollector(admission))

    def watch_process(self) -> None:
        """Threads, greenlets, context switches, garbage collections."""
        self.registry.register(_ProcessCounts())

    def render(self) -> tuple[str, bytes]:
        """(content type, body) of a scrape."""
        return CONTENT_TYPE_LATEST, generate_latest(self.registry)


class _PoolCollector(Collector):
    def __init__(self, pool: InferencePool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("xiaozhi_pool_jobs", "Jobs of the inference pool now.", labels=["class", "state"])
        done = CounterMetricFamily("xiaozhi_pool_jobs_done", "Jobs the pool has finished.", labels=["class"])
        refused = CounterMetricFamily("xiaozhi_pool_jobs_refused", "Jobs refused because the pool was full.", labels=["class"])
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
        workers = GaugeMetricFamily("xiaozhi_pool_workers", "Threads of the inference pool.", value=self._pool.workers)
        yield from (jobs, done, refused, late, waited, worked, workers)


class _AdmissionCollector(Collector):
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        refused = CounterMetricFamily("xiaozhi_connections_refused", "Connections refused before the upgrade, by cause.", labels=["cause"])
        for cause, count in self._admission.refused.items():
            refused.add_metric([cause.replace(" ", "_")], count)
        yield refused


class _ProcessCounts(Collector):
    def __init__(self) -> None:
        self._process = psutil.Process()

    def collect(self) -> Iterable[Metric]:
        with self._process.oneshot():
            switches = self._process.num_ctx_switches()
            threads = self._process.num_threads()
        context = CounterMetricFamily("xiaozhi_context_switches", "Context switches of the process.", labels=["kind"])
        context.add_metric(["voluntary"], switches.voluntary)
        context.add_metric(["involuntary"], switches.involuntary)
        collections = CounterMetricFamily("xiaozhi_gc_collections", "Garbage collections, by generation.", labels=["generation"])
        for generation, stats in enumerate(gc.get_stats()):
            collections.add_metric([str(generation)], stats["collections"])
        return (
            GaugeMetricFamily("xiaozhi_native_threads", "Operating system threads.", value=threads),
            context,
            collections,
        )


def count_greenlets() -> int:
    """Live greenlets. Walks every object of the heap: for tests and diagnosis, not for a scrape."""
    return sum(isinstance(thing, greenlet.greenlet) and not thing.dead for thing in gc.get_objects())
