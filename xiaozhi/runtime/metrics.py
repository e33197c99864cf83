"""Every metric of the server, declared in one place, in Prometheus' conventions: base units, `_total` counters, few and
bounded labels.

Not a time series store and not the watchdog. What other objects already count (the pool, the connection registry,
queues) is read when somebody scrapes, so that the per-frame path pays nothing; only what has a distribution (turn
stages, vendor latency, late frames, batches) is observed as it happens. The collectors that read are in `readings.py`.

Vendors are labelled by their configured name, of which there are as many as the configuration has blocks; device ids
are never labels. Measured here: `observe` 2.5 us, `inc` 1.5 us; a scrape of 700 lines 8 ms, which is why `render` lets
others run in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import gevent
from cachetools import TTLCache
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    Summary,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from xiaozhi.protocol import close_codes
from xiaozhi.runtime.last_hour import LastHour
from xiaozhi.runtime.mqtt_readings import MqttReadings, MqttView
from xiaozhi.runtime.readings import (
    AdmissionReadings,
    AdmissionView,
    ConnectionReadings,
    ConnectionsView,
    FrameCounts,
    FrameReadings,
    GuessesView,
    GuessReadings,
    HistoryFigures,
    HistoryReadings,
    HostReadings,
    LimitationReadings,
    LoopReadings,
    PoolReadings,
    PoolView,
    ProcessReadings,
    SidecarReadings,
    SidecarView,
    TallyReadings,
    ToolSourceReadings,
    ToolSourceView,
    TotalReading,
    VendorReadings,
)
from xiaozhi.runtime.resilience import Guard
from xiaozhi.runtime.usage import ConnectionUsage
from xiaozhi.runtime.watchdog import LoopHealth

STAGE_BUCKETS = (
    0.05,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.35,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    1.0,
    1.25,
    1.5,
    2.0,
    3.0,
    5.0,
    10.0,
    30.0,
)
LATENESS_BUCKETS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
LAG_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WORK_BUCKETS = (0.01, 0.1, 1, 10, 100, 1000)
VISIT_BUCKETS = (1, 10, 60, 300, 1800, 7200, 86400)

# A second timestamp series per counter and histogram would double every scrape.
disable_created_metrics()

TALKING_S = 60.0
MAX_TALKING = 50_000


class Metrics:
    """The registry and everything in it. One per process.

    `worker` (when several share a port) is put on every series, `version` on `xiaozhi_build_info`."""

    def __init__(self, *, worker: str = "", version: str = "") -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._worker = worker
        ProcessCollector(registry=registry)
        if version:
            Gauge("xiaozhi_build_info", "1, with the version of the server.", ["version"], registry=registry).labels(
                version
            ).set(1)
        self.connections_opened = Counter(
            "xiaozhi_connections_opened_total", "Device connections accepted.", registry=registry
        )
        self.connections_closed = Counter(
            "xiaozhi_connections_closed_total", "Connections that ended, by close code.", ["code"], registry=registry
        )
        self.connection_seconds = Histogram(
            "xiaozhi_connection_duration_seconds",
            "How long connections lasted.",
            buckets=VISIT_BUCKETS,
            registry=registry,
        )
        self.connection_work = Histogram(
            "xiaozhi_connection_work_seconds",
            "Work for one connection by who did it, and the time it was made to wait (waited).",
            ["where"],
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self.turns = Counter("xiaozhi_turns_total", "Turns that ended, by outcome.", ["outcome"], registry=registry)
        self.messages_kept = Counter(
            "xiaozhi_messages_kept_total", "Messages for devices that were taken, by kind.", ["kind"], registry=registry
        )
        self.messages = Counter(
            "xiaozhi_messages_total",
            "Messages for devices that have settled, by kind and what became of them.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.speculations = Counter(
            "xiaozhi_speculations_total",
            "Answers prepared during a pause, by what became of them.",
            ["fate"],
            registry=registry,
        )
        self.turn_stage = Histogram(
            "xiaozhi_turn_stage_seconds",
            "From the end of the user's voice to a stage of the answer.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.turn_share = Summary(
            "xiaozhi_turn_share_seconds",
            "What the time from the end of the user's voice to the first frame was spent on; the shares add up to it.",
            ["share"],
            registry=registry,
        )
        self.frame_lateness = Histogram(
            "xiaozhi_frame_lateness_seconds",
            "How late audio frames were sent; punctual frames are not observed.",
            buckets=LATENESS_BUCKETS,
            registry=registry,
        )
        self.line_jitter = Histogram(
            "xiaozhi_line_jitter_seconds",
            "How unevenly the packets of a device came in a visit.",
            buckets=LATENESS_BUCKETS,
            registry=registry,
        )
        self.frames = FrameCounts()
        registry.register(FrameReadings(self.frames))
        self.dropped = Counter(
            "xiaozhi_dropped_total", "What bounded queues had to drop, by queue.", ["queue"], registry=registry
        )
        self.vad_batch = Histogram(
            "xiaozhi_vad_batch_size", "Windows per voice detection call.", buckets=BATCH_BUCKETS, registry=registry
        )
        self.vendor_requests = Counter(
            "xiaozhi_vendor_requests_total",
            "Calls of providers, by result.",
            ["kind", "vendor", "result"],
            registry=registry,
        )
        self.vendor_first = Histogram(
            "xiaozhi_vendor_first_output_seconds",
            "From a call to its first output.",
            ["kind", "vendor"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.vendor_seconds = Histogram(
            "xiaozhi_vendor_request_duration_seconds",
            "From a call to its end.",
            ["kind", "vendor"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.tool_calls = Counter(
            "xiaozhi_tool_calls_total",
            "Calls of tools, by source and by what followed.",
            ["source", "action"],
            registry=registry,
        )
        self.tool_seconds = Histogram(
            "xiaozhi_tool_call_duration_seconds",
            "How long tool calls took.",
            ["source"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.hub_lag = Histogram(
            "xiaozhi_hub_lag_seconds", "How late a timer of the hub fires.", buckets=LAG_BUCKETS, registry=registry
        )
        self.shedding = Gauge(
            "xiaozhi_shedding", "0 accepting all, 1 refusing new turns, 2 refusing connections too.", registry=registry
        )
        self.restarted_loops = Counter(
            "xiaozhi_restarted_loops_total", "Loops the watchdog had to restart, by name.", ["loop"], registry=registry
        )
        self.reminders_due = Counter(
            "xiaozhi_reminders_due_total",
            "Reminders that fell due, by how they were handed on.",
            ["how"],
            registry=registry,
        )
        self.reloads = Counter(
            "xiaozhi_reloads_total", "Configuration reloads, by result.", ["result"], registry=registry
        )
        for how in ("on_time", "late", "missed", "failed"):
            self.reminders_due.labels(how)
        for result in ("accepted", "refused"):
            self.reloads.labels(result)  # known beforehand: a series that begins at 0 makes its first increase visible
        self.talking: TTLCache[str, None] = TTLCache(MAX_TALKING, TALKING_S)
        """Devices that had a turn lately."""
        gauge = Gauge("xiaozhi_talking_devices", "Devices that had a turn within the last minute.", registry=registry)
        gauge.set_function(lambda: len(self.talking))
        self.last_hour = LastHour()
        """What of it is drawn by the pages of the console."""
        self.last_hour.turns = lambda: sum(each.value for family in self.turns.collect() for each in family.samples)

    def hub_was_late(self, seconds: float) -> None:
        """A timer of the hub has fired so late."""
        self.hub_lag.observe(seconds)
        self.last_hour.tick(seconds)

    def connection_ended(self, code: int, seconds: float) -> None:
        """A connection ended with this close code after so many seconds."""
        self.connections_closed.labels(str(code) if code in close_codes.NAMED else "other").inc()
        self.connection_seconds.observe(seconds)

    def connection_used(self, used: ConnectionUsage) -> None:
        """What a connection has used that has ended."""
        spent = {"hub": used.hub_s, "pool": used.pool_s, "models": used.model_s, "vendors": used.vendor_s}
        spent["waited"] = used.waited_s
        for what, seconds in spent.items():
            self.connection_work.labels(what).observe(seconds)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when somebody scrapes."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def watch_total(self, name: str, text: str, read: Callable[[], float]) -> None:
        """The same for what only rises; `name` without _total."""
        self.registry.register(TotalReading(name, text, read))

    def watch_tally(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Counts by one label, read when somebody scrapes; `name` without `_total`."""
        self.registry.register(TallyReadings(name, text, label, read))

    def watch_pool(self, pool: PoolView) -> None:
        """The inference pool's counts, by class."""
        self.registry.register(PoolReadings(pool))

    def watch_admission(self, admission: AdmissionView) -> None:
        """Refusals at the door, by cause."""
        self.registry.register(AdmissionReadings(admission))

    def watch_mqtt(self, port: MqttView) -> None:
        """Devices connected by MQTT, and the UDP port for their sound."""
        self.registry.register(MqttReadings(port))

    def watch_guesses(self, guesses: GuessesView) -> None:
        """Wrong secrets, by the door at which they were shown."""
        self.registry.register(GuessReadings(guesses))

    def watch_connections(self, connections: ConnectionsView) -> None:
        """What the sweeper did, memory and queues of all sessions. (How many there are is the caller's to
        `watch`.)"""
        self.registry.register(ConnectionReadings(connections))

    def watch_vendors(self, guards: Callable[[], Iterable[Guard]]) -> None:
        """Windows, breakers and limitations of the guards that `guards` names at the time of the scrape: those of the
        configuration in force."""
        self.registry.register(VendorReadings(guards))
        self.registry.register(LimitationReadings(guards))

    def watch_history(self, figures: Callable[[], HistoryFigures]) -> None:
        """What became of what was said."""
        self.registry.register(HistoryReadings(figures))

    def watch_loops(self, loops: Callable[[], Iterable[LoopHealth]]) -> None:
        """How long each lasting loop has not run."""
        self.registry.register(LoopReadings(loops))

    def watch_tool_sources(self, sources: Callable[[], Iterable[ToolSourceView]], sidecar: SidecarView) -> None:
        """Connections with MCP servers and endpoints, and the process that keeps those with servers."""
        self.registry.register(ToolSourceReadings(sources))
        self.registry.register(SidecarReadings(sidecar))

    def watch_process(self) -> None:
        """Threads, greenlets, context switches, garbage collections, and the machine. The process's memory and file
        descriptors are there already."""
        self.registry.register(ProcessReadings())
        self.registry.register(HostReadings())

    def render(self) -> tuple[str, bytes]:
        """(content type, body) of a scrape. Yields to other greenlets between metrics, so that no audio frame waits for
        a whole scrape."""
        pieces = []
        for metric in self.registry.collect():
            pieces.append(generate_latest(_Single(_labelled(metric, self._worker) if self._worker else metric)))
            gevent.sleep(0)
        return CONTENT_TYPE_LATEST, b"".join(pieces)


@dataclass(frozen=True, slots=True)
class _Single(Collector):
    """A registry of one metric, which is all that `generate_latest` asks for."""

    metric: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.metric


def _labelled(metric: Metric, worker: str) -> Metric:
    copy = Metric(metric.name, metric.documentation, metric.type)
    copy.samples = [_with_worker(sample, worker) for sample in metric.samples]
    return copy


def _with_worker(sample: Sample, worker: str) -> Sample:
    return sample._replace(labels={"worker": worker, **sample.labels})
