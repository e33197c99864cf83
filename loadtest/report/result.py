"""What became of one run: the figures that reports, comparisons and the capacity table are made of. Arithmetic on
records and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.report.usage import Sample, Usage, usage_between
from loadtest.simulator.record import (
    ABORT,
    ANSWER,
    BARGE_IN,
    FIRST_AUDIO,
    FIRST_AUDIO_BY,
    GAP,
    HANDSHAKE,
    HELLO,
    LATENESS,
    STT,
    Record,
)
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.spread import Spread

DURATIONS = (HANDSHAKE, HELLO, STT, FIRST_AUDIO, *FIRST_AUDIO_BY.values(), ANSWER, ABORT, BARGE_IN)
LATE_FRAME_MS = 5.0
"""A frame that comes later than this beyond its time counts as late: 65 ms after the one before when frames last 60
ms."""
SATURATED_CORES = 0.85
SATURATED_LATENESS_MS = 10.0
MAX_SERIES = 600

Step = dict[str, Any]
"""JSON-ready figures of one run. Keys: see `of_run`."""


def of_run(scenario: Scenario, record: Record, samples: Sequence[Sample] = (), before: Sample | None = None) -> Step:
    """The figures of a run. `samples` are the server's during the run, `before` is the one before the first device
    came. Without samples there is nothing about the server."""
    began, ended = record.window or (0.0, 0.0)
    turns = record.counts["turns"]
    return {
        "devices": scenario.devices,
        "talking": scenario.talking,
        "roles": scenario.head_count(),
        "seconds": round(ended - began, 1),
        "turns": turns,
        "turns_in_all": record.counts["turns in all"],
        "failed": sum(record.failures.values()),
        "failures": dict(record.failures.most_common()),
        "counts": dict(sorted(record.counts.items())),
        "ms": {
            name: durations(record.spreads[name])
            for name in DURATIONS
            if name in record.spreads and record.spreads[name].count
        },
        "gaps": gaps(record.spreads.get(GAP, Spread()), scenario.frame_ms),
        "account": {},
        "turns_refused": 0,
        "client": client(record),
        "server": server(scenario, turns, ended - began, usage_between(samples, began, ended), before),
        "series": series(samples, began),
        "points": [[round(at - began, 2), ms] for at, ms in record.points],
        "histogram": _bars(record, FIRST_AUDIO, 20, 5_000),
        "gap_histogram": _bars(record, GAP, 1, 150),
    }


def _bars(record: Record, name: str, width_ms: float, most_ms: float) -> list[list[float]]:
    spread = record.spreads.get(name)
    return [list(bar) for bar in spread.histogram(width_ms, most_ms=most_ms)] if spread is not None else []


def durations(spread: Spread) -> dict[str, float | int | None]:
    """ms"""
    return {
        "count": spread.count,
        "mean": None if spread.mean is None else round(spread.mean, 1),
        "p50": spread.quantile(0.5),
        "p95": spread.quantile(0.95),
        "p99": spread.quantile(0.99),
        "max": round(spread.largest, 1),
    }


def gaps(spread: Spread, frame_ms: int) -> dict[str, float | int | None]:
    """How far frames come behind the frame before them, beyond the time it lasts (ms)."""

    def beyond(share: float) -> float | None:
        gap = spread.quantile(share)
        return None if gap is None else round(max(0.0, gap - frame_ms), 1)

    return {
        "count": spread.count,
        "beyond_p99": beyond(0.99),
        "beyond_p999": beyond(0.999),
        "beyond_max": round(max(0.0, spread.largest - frame_ms), 1) if spread.count else None,
        "share_late": spread.share_over(frame_ms + LATE_FRAME_MS),
    }


def client(record: Record) -> dict[str, Any]:
    """How the load generator itself fared: a saturated one measures itself."""
    lateness = record.spreads.get(LATENESS, Spread())
    cores = [each["cpu_s"] / each["wall_s"] for each in record.clients.values() if each["wall_s"] > 0]
    late = lateness.quantile(0.99)
    return {
        "processes": len(record.clients),
        "cores": round(sum(cores), 3),
        "busiest": round(max(cores, default=0.0), 3),
        "rss": sum(each["rss"] for each in record.clients.values()),
        "lateness_p99": late,
        "lateness_p999": lateness.quantile(0.999),
        "lateness_max": round(lateness.largest, 1),
        "saturated": max(cores, default=0.0) > SATURATED_CORES or (late or 0.0) > SATURATED_LATENESS_MS,
    }


def server(
    scenario: Scenario, turns: int, seconds: float, usage: Usage | None, before: Sample | None
) -> dict[str, Any]:
    """What the server's processes used; `turns` were made within `seconds`."""
    if usage is None:
        return {}
    figures: dict[str, Any] = {
        "threads": usage.threads,
        "rss": usage.rss,
        "descriptors": usage.descriptors,
        "cores": round(usage.cores, 3),
        "cpu_ms_per_device_second": round(usage.cores * 1000 / scenario.devices, 3),
        "voluntary_per_s": round(usage.voluntary_per_s, 1),
        "involuntary_per_s": round(usage.involuntary_per_s, 1),
        "machine_busy": round(usage.machine_busy, 3),
    }
    if turns:
        figures["cpu_ms_per_turn"] = round(usage.cores * seconds * 1000 / turns, 2)
    if before is not None:
        figures["processes"] = before.processes
        figures["threads_before"] = before.threads
        figures["rss_before"] = before.rss
        figures["descriptors_before"] = before.descriptors
        figures["kb_per_connection"] = round((usage.rss - before.rss) / 1024 / scenario.devices, 1)
    return figures


def series(samples: Sequence[Sample], began: float) -> list[dict[str, float]]:
    """The server over time (s after `began`), thinned to at most MAX_SERIES points."""
    step = max(1, -(-len(samples) // MAX_SERIES))
    found = []
    for earlier, later in zip(samples[::step], samples[step::step], strict=False):
        seconds = later.at - earlier.at
        found.append(
            {
                "at": round(later.at - began, 1),
                "threads": later.threads,
                "rss_mb": round(later.rss / 1e6, 1),
                "cores": round((later.cpu_s - earlier.cpu_s) / seconds, 3) if seconds > 0 else 0.0,
                "descriptors": later.descriptors,
                "machine_busy": later.machine_busy,
            }
        )
    return found


def flat(step: Step) -> dict[str, Any]:
    """One line of a table: nested figures become dotted names; series are left out."""
    found: dict[str, Any] = {}

    def visit(prefix: str, value: Mapping[str, Any]) -> None:
        for key, inner in value.items():
            name = f"{prefix}{key}".replace(" ", "_")
            if isinstance(inner, Mapping):
                visit(f"{name}.", inner)
            elif not isinstance(inner, list):
                found[name] = inner

    visit(
        "", {key: value for key, value in step.items() if key not in ("series", "points", "histogram", "gap_histogram")}
    )
    return found


def figure(step: Step, path: str) -> float | None:
    """One number of a step by its dotted name ("ms.first audio.p95"); None when it has none."""
    value: Any = step
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None
