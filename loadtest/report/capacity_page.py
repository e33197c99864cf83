"""The capacity table as Markdown, put between two marks of docs/capacity.md; the text around it is written by
people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.report import machine
from loadtest.report.result import Step, figure
from loadtest.simulator.record import FIRST_AUDIO

BEGIN, END = "<!-- measured: begin (written by `make capacity`) -->", "<!-- measured: end -->"
NOTHING = "–"
OPEN = "open"
"""The profile without limits."""
ESTIMATES = {
    "low": (50, 400, "2 cores, 4 GB"),
    "mid": (150, 1_200, "4 cores, 8 GB"),
    "high": (300, 2_400, "8 cores, 16 GB"),
}
"""The documents this project was ordered from: devices, MB, and the machine they were thought for; 8 MB per connection
throughout."""
ESTIMATED_MB_PER_CONNECTION = 8


def update(page: Path, data: Mapping[str, Any]) -> None:
    """Replace what stands between the marks; a page without them (or no page) gets them at its end."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# Capacity\n"
    block = f"{BEGIN}\n\n{markdown(data)}\n{END}"
    if BEGIN in text and END in text:
        before, _, rest = text.partition(BEGIN)
        text = before + block + rest.partition(END)[2]
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")


def markdown(data: Mapping[str, Any]) -> str:
    """Both tables, and what they were measured on."""
    parts = [f"Machine: {machine.in_words(data['machine'])}.  ", f"Command: `{data['machine']['command']}`", ""]
    if data["climbs"]:
        parts += [_talking(data["climbs"]), ""]
        parts += [line for each in data["climbs"] if each["profile"] == OPEN for line in _levels(each)]
    if data["idle"]:
        parts += [_idle(data["idle"]), ""]
    return "\n".join(parts)


def _talking(climbs: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "profile",
        "workers",
        "devices talking",
        "stopped by",
        "first audio p50 / p95",
        "gap p99.9",
        "CPU per turn",
        "server cores",
        "RSS",
        "KB per connection",
        "threads",
        "estimate",
    )
    rows = []
    for climb in climbs:
        best: Step | None = climb["best"]
        rows.append(
            (
                climb["profile"],
                str(climb["workers"]),
                f"**{best['devices'] if best else 0}**",
                climb["stopped_by"],
                f"{_shown(best, f'ms.{FIRST_AUDIO}.p50')} / {_shown(best, f'ms.{FIRST_AUDIO}.p95')} ms",
                f"+{_shown(best, 'gaps.beyond_p999', decimals=1)} ms",
                f"{_shown(best, 'server.cpu_ms_per_turn', decimals=1)} ms",
                _shown(best, "server.cores", decimals=2),
                f"{_shown(best, 'server.rss', 1e-6)} MB",
                _shown(best, "server.kb_per_connection"),
                _shown(best, "server.threads"),
                _estimate(climb["profile"]),
            )
        )
    return _table(head, rows)


def _levels(climb: Mapping[str, Any]) -> list[str]:
    """Every level of one climb, and which way things go between them."""
    head = (
        "devices",
        "first audio p50 / p95 / p99",
        "gap p99.9",
        "CPU per turn",
        "server cores",
        "RSS",
        "threads",
        "machine busy",
        "failed",
    )
    rows = [
        (
            f"{step['devices']:,}",
            " / ".join(_shown(step, f"ms.{FIRST_AUDIO}.{part}") for part in ("p50", "p95", "p99")) + " ms",
            f"+{_shown(step, 'gaps.beyond_p999', decimals=1)} ms",
            f"{_shown(step, 'server.cpu_ms_per_turn', decimals=1)} ms",
            _shown(step, "server.cores", decimals=2),
            f"{_shown(step, 'server.rss', 1e-6)} MB",
            _shown(step, "server.threads"),
            f"{_shown(step, 'server.machine_busy', 100)} %",
            ", ".join(f"{number:,} x {reason}" for reason, number in step["failures"].items()) or "0",
        )
        for step in sorted(climb["steps"], key=lambda step: step["devices"])
    ]
    return [
        f"Level by level, {climb['workers']} worker{'s' if climb['workers'] > 1 else ''} with every door open:",
        "",
        _table(head, rows),
        "",
    ]


def _estimate(profile: str) -> str:
    if profile not in ESTIMATES:
        return NOTHING
    devices, megabytes, thought_for = ESTIMATES[profile]
    return f"{devices} devices, {megabytes:,} MB ({thought_for})"


def _idle(steps: Sequence[Step]) -> str:
    head = (
        "devices idle",
        "failed",
        "KB per connection",
        "estimate",
        "CPU per device and second",
        "RSS",
        "threads before / with",
        "hello p99",
    )
    rows = [
        (
            f"**{step['devices']:,}**",
            str(step["failed"]),
            _shown(step, "server.kb_per_connection", decimals=1),
            f"{ESTIMATED_MB_PER_CONNECTION * 1024:,}",
            f"{_shown(step, 'server.cpu_ms_per_device_second', decimals=3)} ms",
            f"{_shown(step, 'server.rss', 1e-6)} MB",
            f"{_shown(step, 'server.threads_before')} / {_shown(step, 'server.threads')}",
            f"{_shown(step, 'ms.hello.p99', decimals=1)} ms",
        )
        for step in steps
    ]
    return _table(head, rows)


def _shown(step: Step | None, path: str, scale: float = 1.0, *, decimals: int = 0) -> str:
    value = figure(step, path) if step is not None else None
    return NOTHING if value is None else f"{value * scale:,.{decimals}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
