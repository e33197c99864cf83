"""Ten minutes of everyday life with some trouble in it: `python -m loadtest soak`. Reports what grew, and fails when
something did.

Talkers, idle devices, interrupters, a gateway, and a few that mean harm. Growth is the difference between the medians
of the first and the last fifth of the time; for memory also as a rate, since a small leak shows in an hour what it
hides in ten minutes."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from rich.console import Console
from rich.table import Table

from loadtest.measure import run
from loadtest.measure.watch import scrape
from loadtest.report import machine, outputs, tables
from loadtest.report.usage import Sample
from loadtest.simulator import scenario
from loadtest.simulator.scenario import Scenario

MINUTES = 10.0
DEVICES = 50
ROLES = "talker=60,holder=15,push_to_talk=8,interrupter=7,gateway=4,garbage=2,slow_reader=2,reconnector=2"
SCRAPE_EVERY_S = 5.0
MEMORY_MB = 20.0
"""Growth that is still breathing: caches fill, allocators keep what they had."""
GREENLETS = "xiaozhi_greenlets"


@dataclass(frozen=True, slots=True)
class Growth:
    """One kind of resource."""

    name: str
    first: float
    """Median of the first fifth; likewise last."""
    last: float
    allowed: float

    @property
    def grown(self) -> bool:
        """More than it may."""
        return self.last - self.first > self.allowed


def growth(name: str, values: Sequence[float], allowed: float) -> Growth:
    """Between the first and the last fifth of the values."""
    fifth = max(1, len(values) // 5)
    return Growth(name, statistics.median(values[:fifth]), statistics.median(values[-fifth:]), allowed)


def judged(samples: Sequence[Sample], greenlets: Sequence[float], devices: int) -> list[Growth]:
    """What grew. Devices come and go all the time, so what they hold varies by as much as a few of them."""
    if len(samples) < 5:
        return []
    found = [
        growth("RSS, MB", [sample.rss / 1e6 for sample in samples], MEMORY_MB),
        growth("threads", [float(sample.threads) for sample in samples], 0),
        growth("file descriptors", [float(sample.descriptors) for sample in samples], max(4.0, 0.15 * devices)),
    ]
    if len(greenlets) >= 5:
        found.append(growth("greenlets", greenlets, max(8.0, 0.5 * devices)))
    return found


def add_parser(commands: Any) -> None:
    """The command line of `soak`."""
    parser = commands.add_parser("soak", help="ten minutes of mixed load; what grew?", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"(default: {MINUTES:g})")
    parser.add_argument("--devices", type=int, default=DEVICES, help=f"(default: {DEVICES})")
    scenario.add_arguments(parser)
    run.add_where(parser)
    run.add_report(parser, "soak")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace, console: Console) -> int:
    """0 when no turn failed and nothing grew."""
    about = machine.describe()
    plan: Scenario = run.scenario_of(options, seconds=options.minutes * 60, turns=0, roles=ROLES)
    samples: list[Sample] = []
    greenlets: list[float] = []
    with run.progress_bar(console) as follow, run.server_at(options) as measured:
        looker = gevent.spawn(_count_greenlets, measured.metrics_urls, greenlets)
        began = time.monotonic()
        try:
            step = run.measure(
                plan.at(measured.ota_url),
                measured.url,
                measured.pids,
                on_progress=follow(plan, f"{plan.devices} devices"),
                on_sample=samples.append,
            )
        finally:
            looker.kill()
    tables.show(console, [step])
    settled = [sample for sample in samples if sample.at > began + plan.ramp_s + step["seconds"] * 0.1][:-1]
    found = judged(settled, greenlets[int(len(greenlets) * 0.15) :], plan.devices)
    _show(console, found, step["seconds"])
    server = {
        "url": options.url,
        "tree": str(options.tree),
        "growth": [[each.name, each.first, each.last] for each in found],
    }
    data = outputs.report(
        f"Soak: {plan.devices} devices, {options.minutes:g} minutes", plan, [step], machine=about, server=server
    )
    for path in outputs.write(data, options.out, run.report_name(options, "soak")):
        console.print(f"written: {path}", soft_wrap=True)
    return 1 if step["failed"] or any(each.grown for each in found) else 0


def _count_greenlets(urls: Sequence[str], counted: list[float]) -> None:
    while True:
        gevent.sleep(SCRAPE_EVERY_S)
        value = scrape(urls).get(GREENLETS)
        if value is not None:
            counted.append(value)


def _show(console: Console, found: Sequence[Growth], seconds: float) -> None:
    table = Table("what", show_edge=False, pad_edge=False)
    for title in ("first fifth", "last fifth", "growth", "per hour", ""):
        table.add_column(title, justify="right")
    for each in found:
        more = each.last - each.first
        verdict = "[red]grew[/red]" if each.grown else "[green]steady[/green]"
        per_hour = more * 3600 / max(1.0, seconds * 0.8)
        table.add_row(
            each.name, f"{each.first:,.1f}", f"{each.last:,.1f}", f"{more:+,.1f}", f"{per_hour:+,.1f}", verdict
        )
    console.print()
    console.print(table if found else "too short to tell what grew")
