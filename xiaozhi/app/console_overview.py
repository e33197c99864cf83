"""What the overview of the console shows, read from the objects that `/metrics` reads, by the same collectors: a number
here is the number there.

Part of the composition root. A reading is quick and waits for nobody: what has to be asked (the database, the disk) is
asked in the background, every few seconds while somebody looks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from prometheus_client.core import Metric

from xiaozhi import __version__
from xiaozhi.app.banner import still_offline
from xiaozhi.app.console_alerts import Conditions, alerts
from xiaozhi.app.descriptors import in_use
from xiaozhi.app.gauges import Watched
from xiaozhi.app.generations import Generation
from xiaozhi.app.history import History
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.listeners import open_to_strangers
from xiaozhi.app.management import ManagementConsole
from xiaozhi.app.vendor_health import VendorHealth
from xiaozhi.devices.enrolment import CODE_S
from xiaozhi.devices.presence import ALIVE_S
from xiaozhi.errors import Overloaded, StorageError, VendorTimeout
from xiaozhi.runtime.last_hour import MinuteFigures
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.readings import BREAKER_VALUES, ConnectionReadings, PoolReadings, VendorReadings
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.storage import enrolments, presences
from xiaozhi.storage.database import Transaction
from xiaozhi.storage.presences import WorkerSign

ASKED_EVERY_S: Final = 5.0
DEADLINE_S: Final = 4.0
CPU_OVER_S: Final = 1.0
_BREAKERS: Final = {value: state.value for state, value in BREAKER_VALUES.items()}
_POOL: Final = "xiaozhi_pool_"
_VENDOR: Final = "xiaozhi_vendor_"

Samples = Mapping[tuple[str, tuple[str, ...]], float]
"""Value by name and labels."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What has to be asked for. `workers`: None when the database has not answered."""

    database: bool = True
    workers: list[WorkerSign] | None = None
    waiting: int = 0
    disk_free_bytes: int | None = None
    descriptors: tuple[int, int] = (0, 1)


class Overview:
    """`sample` from the hub; `close` at the end. `clock`: monotonic seconds; `wall`: seconds since 1970."""

    def __init__(
        self,
        watched: Watched,
        metrics: Metrics,
        known: KnownDevices,
        vendors: VendorHealth,
        history: History,
        current: Callable[[], Generation],
        management: ManagementConsole | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._watched = watched
        self._metrics = metrics
        self._worker = known.presence.worker
        self._vendors = vendors
        self._history = history
        self._current = current
        self._management = management
        self._clock = clock
        self._wall = wall
        self._began = clock()
        self._pool = PoolReadings(watched.inference)
        self._guards = VendorReadings(lambda: watched.pool.guards)
        self._held = ConnectionReadings(watched.connections)
        self._process = psutil.Process()
        self._cpu_before = (clock(), _cpu_s(self._process))
        self._cpu = 0.0
        self._asked = Asked()
        self._asked_at = float("-inf")
        self._asking = Tasks()

    def sample(self) -> dict[str, Any]:
        """Everything that the page shows, as JSON has it. About 1 ms; waits for nobody."""
        if self._clock() - self._asked_at >= ASKED_EVERY_S and not len(self._asking):
            self._asked_at = self._clock()
            self._asking.spawn("console-overview", self._ask)
        watched, hour = self._watched, self._metrics.last_hour
        answers, waits = hour.waited(0.5, 0.95)
        here = len(watched.connections)
        return {
            "at": self._wall(),
            "version": __version__,
            "uptime_s": self._clock() - self._began,
            "devices": {
                "here": here,
                "all": self._devices_of_all(here),
                "places": watched.admission.limits.max_connections,
            },
            "turns": {
                "per_minute": round(hour.turns_per_minute(), 2),
                "outcomes": _by_label(self._metrics.turns.collect()),
            },
            "first_audio": {"answers": answers, "p50_ms": _ms(waits[0]), "p95_ms": _ms(waits[1])},
            "hub": {
                "lag_ms": _ms(watched.watchdog.lag_s),
                "cpu_percent": self._cpu_percent(),
                "shedding": watched.watchdog.shedding.name.lower(),
            },
            "pool": self._pool_load(),
            "memory": self._memory(),
            "vendors": self._vendor_rows(),
            "workers": self._worker_rows(here),
            "hour": _columns(hour.minutes()),
            "alerts": [
                {"level": each.level, "code": each.code, "values": each.values} for each in alerts(self._conditions())
            ],
        }

    def close(self) -> None:
        """Ask nobody any more. Idempotent."""
        self._asking.kill()

    # --- what is read -------------------------------------------------------------------------------------------------

    def _pool_load(self) -> dict[str, Any]:
        read = _samples(self._pool.collect())
        classes = sorted({labels[0] for name, labels in read if name == f"{_POOL}jobs"})
        return {
            "threads": int(read[f"{_POOL}workers", ()]),
            "places": int(read[f"{_POOL}queue_limit", ()]),
            "classes": [
                {
                    "class": each,
                    "active": int(read[f"{_POOL}jobs", (each, "active")]),
                    "waiting": int(read[f"{_POOL}jobs", (each, "queued")]),
                    "done": int(read[f"{_POOL}jobs_done_total", (each,)]),
                    "refused": int(read[f"{_POOL}jobs_refused_total", (each,)]),
                    "late": int(read[f"{_POOL}jobs_late_total", (each,)]),
                }
                for each in classes
            ],
        }

    def _vendor_rows(self) -> list[dict[str, Any]]:
        guards = _samples(self._guards.collect())
        calls: dict[tuple[str, ...], dict[str, int]] = {}
        for (name, (kind, vendor, result)), count in _samples(self._metrics.vendor_requests.collect()).items():
            if name.endswith("_total"):
                calls.setdefault((kind, vendor), {})[result] = int(count)
        in_use = {labels for name, labels in guards if name == f"{_VENDOR}breaker_state"}
        rows = []
        for labels in sorted(in_use | calls.keys()):
            results = calls.get(labels, {})
            state = guards.get((f"{_VENDOR}breaker_state", labels))
            rows.append(
                {
                    "kind": labels[0],
                    "vendor": labels[1],
                    "calls": sum(results.values()),
                    "errors": {each: n for each, n in sorted(results.items()) if each not in ("ok", "cancelled")},
                    "breaker": _BREAKERS[int(state)] if state is not None else "",
                    "active": int(guards.get((f"{_VENDOR}active", labels), 0)),
                    "waiting": int(guards.get((f"{_VENDOR}waiting", labels), 0)),
                    "places": int(guards.get((f"{_VENDOR}active_limit", labels), 0)),
                }
            )
        return rows

    def _memory(self) -> dict[str, int]:
        host = psutil.virtual_memory()
        sessions = _samples(self._held.collect())["xiaozhi_sessions_memory_bytes", ()]
        return {
            "process": self._process.memory_info().rss,
            "sessions": int(sessions),
            "host": host.total,
            "host_free": host.available,
        }

    def _cpu_percent(self) -> float:
        """Of one core, since it was last looked at; several pages that open at once see the same."""
        now, (before_at, before) = self._clock(), self._cpu_before
        if now - before_at >= CPU_OVER_S:
            spent = _cpu_s(self._process)
            self._cpu, self._cpu_before = round(100 * (spent - before) / (now - before_at), 1), (now, spent)
        return self._cpu

    def _worker_rows(self, here: int) -> list[dict[str, Any]]:
        now = self._wall()
        rows = [
            {
                "name": sign.worker,
                "here": sign.worker == self._worker,
                "address": sign.websocket,
                "devices": here if sign.worker == self._worker else sign.connections,
                "seen_s": 0.0 if sign.worker == self._worker else max(0.0, round(now - sign.beat_at, 1)),
            }
            for sign in self._asked.workers or ()
        ]
        if not any(row["here"] for row in rows):
            rows.insert(0, {"name": self._worker, "here": True, "address": "", "devices": here, "seen_s": 0.0})
        return rows

    def _devices_of_all(self, here: int) -> int | None:
        if self._asked.workers is None:
            return None
        return here + sum(each.connections for each in self._asked.workers if each.worker != self._worker)

    def _conditions(self) -> Conditions:
        watched, asked, generation = self._watched, self._asked, self._current()
        settings = generation.loaded.settings
        silent = {loop.name: loop.silent_s for loop in watched.watchdog.loops() if not loop.alive}
        host = psutil.virtual_memory()
        return Conditions(
            database=asked.database,
            shedding=watched.watchdog.shedding,
            lag_s=watched.watchdog.lag_s,
            devices=len(watched.connections),
            places=watched.admission.limits.max_connections,
            silent_loops=silent,
            failing_vendors=self._vendors.reasons,
            refusing_vendors=self._vendors.refusing,
            management=self._management.failing if self._management is not None else (),
            history_failing=self._history.figures().failing,
            disk_free_bytes=asked.disk_free_bytes,
            memory_free=host.available / host.total,
            descriptors=asked.descriptors,
            pool=(watched.inference.queued, watched.inference.queue_size),
            open_port=settings.server.port if open_to_strangers(settings) else 0,
            offline=still_offline(settings, generation.agent.providers.names),
            waiting=asked.waiting,
        )

    # --- what has to be asked -----------------------------------------------------------------------------------------

    def _ask(self) -> None:
        since = self._wall()

        def read(connection: Transaction) -> tuple[list[WorkerSign], int]:
            return presences.workers(connection, since - ALIVE_S), enrolments.count_waiting(connection, since - CODE_S)

        folder = self._current().loaded.settings.data_dir
        try:
            workers, waiting = self._watched.database.read(read, deadline=DEADLINE_S)
        except (StorageError, Overloaded):
            self._asked = Asked(False, None, 0, self._disk_free(folder), in_use())
        else:
            self._asked = Asked(True, workers, waiting, self._disk_free(folder), in_use())

    def _disk_free(self, folder: Path) -> int | None:
        try:
            usage = self._watched.inference.run(shutil.disk_usage, folder, kind="other", deadline=DEADLINE_S)
        except (OSError, Overloaded, VendorTimeout):
            return None
        return int(usage.free)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _samples(families: Iterable[Metric]) -> Samples:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def _by_label(families: Iterable[Metric]) -> dict[str, int]:
    return {labels[0]: int(value) for (name, labels), value in _samples(families).items() if name.endswith("_total")}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _columns(minutes: list[MinuteFigures]) -> dict[str, list[Any]]:
    return {
        "minute": [round(each.began) for each in minutes],
        "devices": [each.devices for each in minutes],
        "turns": [each.turns for each in minutes],
        "p50_ms": [_ms(each.p50_s) for each in minutes],
        "p95_ms": [_ms(each.p95_s) for each in minutes],
        "lag_ms": [_ms(each.worst_lag_s) for each in minutes],
    }
