"""The figures of runs as tables: for the terminal, for CSV, and the columns the HTML page shares. Formatting only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from loadtest.report import verdict
from loadtest.report.result import Step, figure, flat
from loadtest.simulator.record import ABORT, BARGE_IN, FIRST_AUDIO, FIRST_AUDIO_BY, HANDSHAKE, HELLO, STT

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure by its path in a step, how to scale it and how many decimals to show."""

    title: str
    path: str
    scale: float = 1.0
    decimals: int = 0


COLUMNS = (
    Column("devices", "devices"),
    Column("turns", "turns"),
    Column("failed", "failed"),
    Column("first audio p50 ms", f"ms.{FIRST_AUDIO}.p50"),
    Column("first audio p95 ms", f"ms.{FIRST_AUDIO}.p95"),
    Column("first audio p99 ms", f"ms.{FIRST_AUDIO}.p99"),
    Column("gap p99 +ms", "gaps.beyond_p99", decimals=1),
    Column("gap p99.9 +ms", "gaps.beyond_p999", decimals=1),
    Column("CPU ms/turn", "server.cpu_ms_per_turn", decimals=1),
    Column("cores", "server.cores", decimals=2),
    Column("RSS MB", "server.rss", 1e-6),
    Column("KB/connection", "server.kb_per_connection"),
    Column("threads", "server.threads"),
    Column("client cores", "client.cores", decimals=2),
)


def cell(step: Step, column: Column) -> str:
    """The figure as text."""
    value = figure(step, column.path)
    return NOTHING if value is None else f"{value * column.scale:,.{column.decimals}f}"


def overview(steps: Sequence[Step]) -> Table:
    """One column per run: a terminal is narrow and a run has many figures."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(COLUMNS[0].title)
    for step in steps:
        table.add_column(cell(step, COLUMNS[0]), justify="right", header_style="red" if step["failed"] else "")
    for column in COLUMNS[1:]:
        table.add_row(column.title, *(cell(step, column) for step in steps))
    return table


def details(step: Step) -> RenderableType:
    """Everything else worth a look about one run."""
    stages = Table("ms", "p50", "p95", "p99", "max", "n", show_edge=False, title_justify="left")
    for name in (HANDSHAKE, HELLO, STT, FIRST_AUDIO, *FIRST_AUDIO_BY.values(), ABORT, BARGE_IN):
        numbers = step["ms"].get(name)
        if numbers:
            stages.add_row(
                _label(name), *(f"{numbers[key]:,.1f}" for key in ("p50", "p95", "p99", "max")), f"{numbers['count']:,}"
            )
    gaps, client, server = step["gaps"], step["client"], step["server"]
    notes = []
    if step["account"]:
        notes.append(f"end of speech to first audio, means: {in_words(step['account'])}")
    if gaps["count"]:
        late = gaps["share_late"] * 100
        notes.append(
            f"audio frames: {gaps['count']:,} gaps; beyond the frame p99 {gaps['beyond_p99']} ms, "
            f"p99.9 {gaps['beyond_p999']} ms, max {gaps['beyond_max']} ms; {late:.2f} % more than 5 ms late"
        )
    strays = step["counts"].get("stray frames", 0)
    if strays or step["counts"].get("aborts"):
        after = step["counts"].get("frames after an abort", 0)
        notes.append(f"stray frames after tts stop: {strays}; between abort and tts stop: {after}")
    if server:
        notes.append(
            f"server: {server['cores']:.2f} cores, {server['cpu_ms_per_device_second']:.2f} ms of core per device and "
            f"second, {server['threads']} threads ({server.get('threads_before', '?')} before), "
            f"{server['descriptors']} open files, "
            f"{server['voluntary_per_s']:,.0f} + {server['involuntary_per_s']:,.0f} context switches/s, "
            f"machine {server['machine_busy'] * 100:.0f} % busy"
        )
    notes.append(
        f"load generator: {client['processes']} process(es), {client['cores']:.2f} cores, "
        f"its timers late by p99 {client['lateness_p99']} ms, p99.9 {client['lateness_p999']} ms, "
        f"max {client['lateness_max']} ms"
        + (" [red]SATURATED: latencies are partly its own[/red]" if client["saturated"] else "")
    )
    notes += [f"[red]{count} x {escape(reason)}[/red]" for reason, count in step["failures"].items()]
    notes += [f"{name}: {count}" for name, count in step["counts"].items() if name.startswith(("abus", "holding"))]
    return Group(stages, "", *notes)


def show(console: Console, steps: Sequence[Step]) -> None:
    """The last run in detail and all of them in a table."""
    console.print()
    console.print(details(steps[-1]))
    console.print()
    console.print(overview(steps))
    console.print()
    for step in steps:
        colour = "green" if verdict.of(step) == verdict.GOOD else "red"
        console.print(f"[{colour}]{escape(verdict.sentence(step))}[/{colour}]", soft_wrap=True)


def as_csv(steps: Sequence[Step]) -> str:
    """One line per run, every figure; failures and counts of all runs are columns."""
    rows = [flat(step) for step in steps]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _label(name: str) -> str:
    return {STT: "end of speech to stt", FIRST_AUDIO: "end of speech to first audio", ABORT: "abort to tts stop"}.get(
        name, name
    )


def in_words(account: Mapping[str, float]) -> str:
    """The shares of a wait and their sum."""
    return " + ".join(f"{share} {ms:,.0f}" for share, ms in account.items()) + f" = {sum(account.values()):,.0f} ms"
