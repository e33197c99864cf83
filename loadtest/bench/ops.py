"""What watching costs, and whether threads are really fixed.

The share of metrics and logs is sampled with py-spy in a server under load: samples of working threads whose stack
passes through them, out of all samples of working threads. Nothing has to be switched off for it, and it counts what
really happens (a scrape every 15 s included). Rows (name, value, unit, aim) for `python -m loadtest.bench`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import gevent
from rich.console import Console

from loadtest.measure import fleet, hotspots, run
from loadtest.measure.processes import EXPECTED, Setup, set_up
from loadtest.measure.watch import Watch, scrape
from loadtest.report.usage import usage_between
from loadtest.simulator.scenario import Scenario

Row = tuple[str, float | None, str, str]

IDLE = (100, 1_000)
TALKING = 100
SECONDS = 25
SCRAPE_EVERY_S = 15.0
WATCHING = (
    "xiaozhi/app/telemetry.py",
    "xiaozhi/runtime/metrics.py",
    "xiaozhi/runtime/readings.py",
    "xiaozhi/runtime/logs.py",
    "xiaozhi/runtime/redaction.py",
    "xiaozhi/runtime/tracing.py",
    "/prometheus_client/",
    "/structlog/",
    "/logging/",
)
"""Files a stack passes through when somebody counts, times or logs."""
WAITING = "acquire_with_timeout"
"""Where an idle thread of gevent's pool is."""


def rows() -> list[Row]:
    """Everything, about a minute and a half."""
    return [*threads(), *cost_of_watching()]


def threads(idle: Sequence[int] = IDLE, setup: Setup | None = None) -> list[Row]:
    """Operating system threads of the server with nobody, with some and with many devices."""
    found: list[Row] = []
    with set_up(setup or Setup()) as measured:
        watch = Watch(measured.pids)
        nobody = watch.look().threads
        found.append(("threads with 0 devices", float(nobody), "threads", ""))
        for count in idle:
            plan = Scenario(
                devices=count, turns=0, seconds=2.0, ramp=count / 400, roles="holder", first_device=100_000 + count
            )
            with watch:
                record = fleet.run(plan, measured.url)
            began, ended = record.window or (0.0, 0.0)
            most = max(sample.threads for sample in watch.samples if began <= sample.at <= ended + 1)
            found.append((f"threads with {count:,} devices", float(most), "threads", f"<= {nobody}"))
    return found


def cost_of_watching(devices: int = TALKING, seconds: int = SECONDS, setup: Setup | None = None) -> list[Row]:
    """Metrics and logs out of all the server's CPU; None where py-spy may not look."""
    plan = Scenario(devices=devices, turns=0, seconds=float(seconds), expect=EXPECTED)
    shares: list[tuple[int, int] | None] = []
    console = Console(stderr=True)
    with set_up(setup or Setup()) as measured, run.progress_bar(console) as follow:

        def look() -> None:
            shares.append(watching_share(hotspots.sampled(measured.pids[0], seconds)))

        scraper = gevent.spawn(_scrape, measured.metrics_urls)
        looker: list[gevent.Greenlet] = []
        try:
            label = f"{devices} talking, sampled"
            with Watch(measured.pids) as watch:
                record = fleet.run(
                    plan,
                    measured.url,
                    on_progress=follow(plan, label),
                    on_all_there=lambda: looker.append(gevent.spawn(look)),
                )
            gevent.joinall(looker)
        finally:
            scraper.kill()
    counted = shares[0] if shares else None
    began, ended = record.window or (0.0, 0.0)
    usage = usage_between(watch.samples, began, ended)
    turns = record.counts["turns"]
    share = counted[0] / counted[1] if counted is not None and counted[1] else None
    each = usage.cores * (ended - began) * 1000 / turns if usage is not None and turns else None
    return [
        (
            f"metrics and logs, share of the server's CPU ({devices} talking)",
            share * 100 if share is not None else None,
            "%",
            "< 3",
        ),
        ("metrics and logs per turn", share * each if share is not None and each is not None else None, "ms", ""),
        ("samples it rests on", float(counted[1]) if counted is not None else None, "samples", ""),
    ]


def watching_share(lines: Iterable[str]) -> tuple[int, int] | None:
    """(samples that were watching, all samples) of py-spy's raw format, "frame;frame;frame count" per line; None
    without any sample.

    Threads on their way into or out of a wait for work are left out: the share is rather too high than too low."""
    watching = total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if not count.strip().isdigit() or WAITING in stack.rpartition(";")[2]:
            continue
        total += int(count)
        if any(part in stack for part in WATCHING):
            watching += int(count)
    return (watching, total) if total else None


def _scrape(urls: Sequence[str]) -> None:
    while True:
        gevent.sleep(SCRAPE_EVERY_S)
        scrape(urls)
