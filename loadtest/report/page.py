"""A run's report as one HTML page that needs nothing else: figures, charts, and what it was measured on and with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from loadtest.report import charts, machine, verdict
from loadtest.report.result import Step, figure
from loadtest.report.tables import COLUMNS, cell

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5c6675; --line: #d8dde5; --paper: #fff; --card: #f6f8fa;
  --bad: #c0362c; --good: #1a7f4b }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #343b47; --paper: #14181f; --card: #1b212a;
    --bad: #ff8075; --good: #56d08f }
}
body { margin: 0 auto; padding: 24px; max-width: 1240px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 24px; margin: 0 0 4px } h2 { font-size: 18px; margin: 32px 0 8px }
p { color: var(--soft) } code { font-size: 13px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: right }
th { color: var(--soft); font-weight: 600 } th:first-child, td:first-child { text-align: left }
.scroll { overflow-x: auto } .bad { color: var(--bad) } .good { color: var(--good) }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 14px }
.chart { background: var(--card); border: 1px solid var(--line); border-radius: 8px; width: 100%; height: auto }
.chart text { fill: var(--soft); font: 11px system-ui, sans-serif }
.chart .title { fill: var(--ink); font-weight: 600; font-size: 13px }
.grid { stroke: var(--line); stroke-width: 1 } .axis { stroke: var(--soft); stroke-width: 1 }
.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4 } .chart .limit-label { fill: var(--bad) }
details { margin: 16px 0 }
pre { overflow-x: auto; background: var(--card); padding: 12px; border-radius: 8px; font-size: 12px }
"""
LIMIT = ("aim 1 s", verdict.AIM_MS)
MB = 1e6


def html(report: Mapping[str, Any]) -> str:
    """The page for a report; see `outputs.report`."""
    steps: Sequence[Step] = report["steps"]
    parts = [
        f"<h1>{escape(report['title'])}</h1>",
        f"<p>{escape(machine.in_words(report['machine']))}<br><code>{escape(report['machine']['command'])}</code></p>",
        _verdict(steps),
        "<h2>Figures</h2>",
        _table(steps),
    ]
    if len(steps) > 1:
        parts += ["<h2>Against the number of devices</h2>", '<div class="charts">', *_against_devices(steps), "</div>"]
    last = steps[-1]
    parts += [f"<h2>In the run of {last['devices']} devices</h2>", '<div class="charts">', *_over_time(last), "</div>"]
    parts += [_failures(steps), _details("Scenario and server", report["scenario"] | {"server": report["server"]})]
    parts.append(_details("Everything measured", {"steps": [_without_series(step) for step in steps]}))
    body = "\n".join(part for part in parts if part)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(report['title'])}</title><style>{STYLE}</style>"
    )
    return f"<!doctype html>\n<html lang='en'><head>{head}</head>\n<body>\n{body}\n</body></html>\n"


def _verdict(steps: Sequence[Step]) -> str:
    failed, turns = sum(step["failed"] for step in steps), sum(step["turns_in_all"] for step in steps)
    items = [
        f'<li class="{"good" if verdict.of(step) == verdict.GOOD else "bad"}">{escape(verdict.sentence(step))}</li>'
        for step in steps
    ]
    return f"<p>{turns:,} turns, {failed:,} failures.</p><ul>{''.join(items)}</ul>"


def _table(steps: Iterable[Step]) -> str:
    head = "".join(f"<th>{escape(column.title)}</th>" for column in COLUMNS)
    rows = (
        "<tr>" + "".join(f"<td>{escape(cell(step, column))}</td>" for column in COLUMNS) + "</tr>" for step in steps
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _against_devices(steps: Sequence[Step]) -> list[str]:
    def against(path: str, scale: float = 1.0) -> list[tuple[float, float]]:
        return [(step["devices"], value * scale) for step in steps if (value := figure(step, path)) is not None]

    return [
        charts.lines(
            "End of speech to first audio",
            "devices",
            "ms",
            {name: against(f"ms.first audio.{name}") for name in ("p50", "p95", "p99")},
            limit=LIMIT,
        ),
        charts.lines(
            "Frame gaps beyond the frame",
            "devices",
            "ms",
            {"p99": against("gaps.beyond_p99"), "p99.9": against("gaps.beyond_p999")},
        ),
        charts.lines("Memory of the server", "devices", "MB", {"RSS": against("server.rss", 1 / MB)}),
        charts.lines("Threads of the server", "devices", "threads", {"threads": against("server.threads")}),
        charts.lines(
            "Cores in use",
            "devices",
            "cores",
            {"server": against("server.cores"), "load generator": against("client.cores")},
        ),
        charts.lines("CPU per turn", "devices", "ms", {"ms of core": against("server.cpu_ms_per_turn")}),
    ]


def _over_time(step: Step) -> list[str]:
    def over_time(key: str) -> list[tuple[float, float]]:
        return [(point["at"], point[key]) for point in step["series"]]

    drawn = [
        charts.dots(
            "First audio, every turn", "s since the start", "ms", [(at, ms) for at, ms in step["points"]], limit=LIMIT
        ),
        charts.bars("Distribution of first audio", "ms", "turns", [(x, n) for x, n in step["histogram"]], 20),
        charts.bars(
            "Time between audio frames", "ms", "frames", [(x, n) for x, n in step["gap_histogram"]], 1, logarithmic=True
        ),
    ]
    if step["series"]:
        drawn += [
            charts.lines("Cores", "s since the start", "cores", {"server": over_time("cores")}),
            charts.lines("Memory of the server", "s since the start", "MB", {"RSS": over_time("rss_mb")}),
            charts.lines(
                "Threads and files of the server",
                "s since the start",
                "",
                {"threads": over_time("threads"), "open files": over_time("descriptors")},
            ),
        ]
    return drawn


def _failures(steps: Sequence[Step]) -> str:
    rows = [
        f"<tr><td>{escape(reason)}</td><td>{step['devices']}</td><td>{n}</td></tr>"
        for step in steps
        for reason, n in step["failures"].items()
    ]
    if not rows:
        return ""
    head = "<tr><th>reason</th><th>devices</th><th>times</th></tr>"
    return f"<h2>Failures</h2><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _details(title: str, data: Mapping[str, Any]) -> str:
    text = escape(json.dumps(data, indent=1, ensure_ascii=False))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"


def _without_series(step: Step) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key not in ("series", "points", "histogram", "gap_histogram")}
