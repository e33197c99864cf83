"""What a device costs that is only connected: `python -m loadtest idle --devices 1000,5000,10000`.

Devices say hello and then nothing. Reported per level: memory, threads, greenlets and CPU per device, and how fast they
came in."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import gevent
from rich.console import Console

from loadtest.measure import fleet, run
from loadtest.measure.descriptors import raise_descriptor_limit
from loadtest.measure.processes import Setup, StartError, set_up
from loadtest.measure.watch import Watch, scrape
from loadtest.report import machine
from loadtest.report.result import Step, figure, of_run
from loadtest.simulator.record import HANDSHAKE, HELLO
from loadtest.simulator.scenario import Scenario

SECONDS = 10.0
PER_SECOND = 400.0
DEVICES_PER_ADDRESS = 20_000
"""One source address has some 28,000 ports."""
RESERVED_DESCRIPTORS = 500
LATE = 0.8
"""When greenlets are counted, as a share of the time: what the arrival has stirred up has settled by then."""
GREENLETS = "xiaozhi_greenlets"


def measure(
    setup: Setup, devices: int, console: Console, *, seconds: float = SECONDS, per_second: float = PER_SECOND
) -> dict[str, Any]:
    """So many idle devices on a fresh server. Raises StartError, fleet.FleetError."""
    allowed = raise_descriptor_limit()
    if allowed < devices + RESERVED_DESCRIPTORS:
        raise StartError(f"{devices} devices need as many file descriptors; the system allows {allowed} (ulimit -Hn)")
    plan = Scenario(
        devices=devices,
        turns=0,
        seconds=seconds,
        ramp=devices / per_second,
        roles="holder",
        transport="mqtt" if setup.mqtt else "websocket",
        sources=max(1, math.ceil(devices / DEVICES_PER_ADDRESS)),
    )
    greenlets: dict[str, float | None] = {}
    tellers: list[gevent.Greenlet] = []
    with run.progress_bar(console) as follow, set_up(setup) as measured, Watch(measured.pids) as looking:

        def tell() -> None:
            greenlets["during"] = scrape(measured.metrics_urls).get(GREENLETS)

        greenlets["before"] = scrape(measured.metrics_urls).get(GREENLETS)
        before = looking.look()
        record = fleet.run(
            plan.at(measured.ota_url),
            measured.url,
            on_progress=follow(plan, f"{devices} idle devices"),
            on_all_there=lambda: tellers.append(gevent.spawn_later(seconds * LATE, tell)),
        )
        gevent.joinall(tellers)
    step = of_run(plan, record, looking.samples, before)
    return step | {"greenlets_before": greenlets["before"], "greenlets_during": greenlets.get("during")}


def per_connection(step: Step) -> dict[str, float | None]:
    """KB of RSS, greenlets, CPU (ms of core per second) for one idle device."""
    during, before = step.get("greenlets_during"), step.get("greenlets_before")
    return {
        "kb": figure(step, "server.kb_per_connection"),
        "greenlets": round((during - before) / step["devices"], 2)
        if during is not None and before is not None
        else None,
        "cpu_ms_per_s": figure(step, "server.cpu_ms_per_device_second"),
    }


def line(step: Step) -> str:
    """One level in words."""
    each = per_connection(step)
    greenlets = "?" if each["greenlets"] is None else f"{each['greenlets']:g}"
    cpu = each["cpu_ms_per_s"]
    server = step["server"]
    return (
        f"{step['devices']:,} idle devices: {each['kb']} KB, {greenlets} greenlet(s) and {cpu} ms of core per second "
        f"each; RSS {server['rss'] / 1e6:,.0f} MB, threads {server['threads_before']} before and {server['threads']} "
        f"with them; handshake p99 {figure(step, f'ms.{HANDSHAKE}.p99')} ms, "
        f"hello p99 {figure(step, f'ms.{HELLO}.p99')} ms; {step['failed']} failed"
    )


def add_parser(commands: Any) -> None:
    """The command line of `idle`."""
    parser = commands.add_parser("idle", help="what devices cost that are only connected", description=__doc__)
    parser.add_argument("--devices", default="1000,5000,10000", metavar="N[,N]", help="(default: 1000,5000,10000)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help=f"how long they stay (default: {SECONDS:g})"
    )
    parser.add_argument(
        "--per-second",
        type=float,
        default=PER_SECOND,
        metavar="N",
        help=f"how fast they come (default: {PER_SECOND:g})",
    )
    parser.add_argument(
        "--transport",
        choices=("websocket", "mqtt"),
        default="websocket",
        help="how they are connected: mqtt without a conversation (default: websocket, after hello)",
    )
    run.add_setup(parser)
    run.add_report(parser, "idle")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace, console: Console) -> int:
    """0 when nothing failed."""
    about = machine.describe()
    steps = []
    for count in map(int, options.devices.split(",")):
        steps.append(
            measure(run.setup_of(options), count, console, seconds=options.seconds, per_second=options.per_second)
        )
        console.print(line(steps[-1]), soft_wrap=True)
        for reason, number in steps[-1]["failures"].items():
            console.print(f"[red]{number} x {reason}[/red]")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{run.report_name(options, 'idle')}.json"
    path.write_text(json.dumps({"machine": about, "steps": steps}, indent=1), encoding="utf-8")
    console.print(f"written: {path}", soft_wrap=True)
    return 1 if any(step["failed"] for step in steps) else 0
