"""What the metrics read by themselves at each scrape, and what the watchdog expects.

Part of the composition root: it knows both sides."""

from __future__ import annotations

from dataclasses import dataclass

from xiaozhi.devices.lines import Lines
from xiaozhi.devices.quota import OutputQuota
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime.connections import ConnectionRegistry
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.limits import Admission
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.watchdog import Watchdog
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.session.services import SessionServices
from xiaozhi.storage.database import Database

PULSE_SECONDS = 5.0
"""A sweeper that has not swept for so long is replaced."""
STORE_PULSE_SECONDS = 90.0
"""The same for loops that ask the database, which may take its time."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is read at each scrape, and whenever somebody looks at a page of it (`console_overview.py`)."""

    services: SessionServices
    connections: ConnectionRegistry
    admission: Admission
    database: Database
    memories: MemoryWriter
    inference: InferencePool
    guesses: Guesses
    pool: ProviderPool
    watchdog: Watchdog


def watch_all(metrics: Metrics, watched: Watched) -> None:
    """Once per process."""
    services, connections, admission = watched.services, watched.connections, watched.admission
    database, memories, pool, watchdog = watched.database, watched.memories, watched.pool, watched.watchdog
    metrics.watch("xiaozhi_connections", "Devices connected now.", lambda: len(connections))
    metrics.watch("xiaozhi_connections_limit", "Places for devices.", lambda: admission.limits.max_connections)
    metrics.watch("xiaozhi_storage_waiting", "Jobs that wait for storage.", lambda: database.waiting)
    metrics.watch("xiaozhi_memories_waiting", "Visits not remembered yet.", lambda: memories.waiting)
    cache, shared = services.speech_cache, services.shared_tools
    metrics.watch("xiaozhi_reply_cache_bytes", "Ready speech in the reply cache.", lambda: cache.size_bytes)
    _watch_lines(metrics, services.lines)
    late = services.late
    metrics.watch("xiaozhi_late_calls", "Calls of tools that go on behind the conversation.", lambda: len(late.calls))
    metrics.watch_tally(
        "xiaozhi_late_answers", "Results of such calls, by what became of them.", "fate", lambda: late.told
    )
    metrics.watch_pool(watched.inference)
    metrics.watch_admission(admission)
    metrics.watch_guesses(watched.guesses)
    metrics.watch_connections(connections)
    metrics.watch_vendors(lambda: pool.guards)
    metrics.watch_loops(watchdog.loops)
    metrics.watch_tool_sources(lambda: shared, shared.sidecar)
    metrics.watch_process()
    metrics.last_hour.devices = lambda: len(connections)


def _watch_lines(metrics: Metrics, lines: Lines) -> None:
    totals = lines.totals
    metrics.watch_tally(
        "xiaozhi_line_visits", "Visits that ended, by what was found of their line.", "finding", lambda: totals.visits
    )
    metrics.watch_tally(
        "xiaozhi_line_gaps", "Gaps in the sound to devices, by what they came from.", "cause", lambda: totals.gaps
    )
    metrics.watch_tally(
        "xiaozhi_line_packets", "Packets of devices, by what became of them.", "fate", lambda: totals.packets
    )
    metrics.watch_tally(
        "xiaozhi_line_connections",
        "Broken connections, and devices that were back at once.",
        "fate",
        lambda: totals.connections,
    )
    lines.on_visit = lambda visit: metrics.line_jitter.observe(visit.jitter_ms / 1000) if visit.received else None


def expect_loops(
    watchdog: Watchdog, connections: ConnectionRegistry, memories: MemoryWriter, quota: OutputQuota
) -> None:
    """The lasting loops, which the watchdog replaces when they stand still."""
    watchdog.expect("sweeper", lambda: connections.swept_at, PULSE_SECONDS, connections.restart)
    watchdog.expect("memory keeper", lambda: memories.beat, STORE_PULSE_SECONDS, memories.revive)
    watchdog.expect("quota reader", lambda: quota.beat, STORE_PULSE_SECONDS, quota.revive)


def sample(connections: ConnectionRegistry, inference: InferencePool) -> dict[str, object]:
    """What the watchdog writes into the log now and then, beside its own numbers."""
    return {"connections": len(connections), "pool_active": inference.active, "pool_queued": inference.queued}
