"""What Prometheus reads when it asks: the sizes of queues, pools and caches of one server.

Part of the composition root: it knows both the owners of these numbers and `runtime/metrics.py`, which must not know
them. What is counted as it happens is `telemetry.py`."""

from __future__ import annotations

from xiaozhi.runtime.connections import ConnectionRegistry
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.limits import Admission
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.session.services import SessionServices
from xiaozhi.storage.database import Database


def watch_gauges(
    metrics: Metrics,
    services: SessionServices,
    connections: ConnectionRegistry,
    admission: Admission,
    guesses: Guesses,
    database: Database,
) -> None:
    """Have `metrics` read these whenever it is asked."""
    memories, cache = services.memories, services.speech_cache
    metrics.watch("xiaozhi_connections", "Devices connected now.", lambda: len(connections))
    metrics.watch("xiaozhi_connections_limit", "Places for devices.", lambda: admission.limits.max_connections)
    metrics.watch("xiaozhi_storage_waiting", "Jobs that wait for storage.", lambda: database.waiting)
    metrics.watch("xiaozhi_memories_waiting", "Visits not remembered yet.", lambda: memories.waiting)
    metrics.watch("xiaozhi_reply_cache_bytes", "Ready speech in the reply cache.", lambda: cache.size_bytes)
    metrics.watch_pool(services.inference)
    metrics.watch_admission(admission)
    metrics.watch_guesses(guesses)
    metrics.watch_connections(connections)
