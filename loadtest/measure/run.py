"""Lets devices loose on a server and reports what became of them and of it: `python -m loadtest run --devices 100
--turns 5`.

Without --url the server of this tree and its scripted vendors are started for the run, so that the server is measured
and not a vendor. With --url any server that speaks the protocol is measured; when it runs on this machine its processes
are found by their port."""

from __future__ import annotations

import argparse
import contextlib
import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from loadtest import ROOT
from loadtest.measure import account, fleet, watch
from loadtest.measure.descriptors import raise_descriptor_limit
from loadtest.measure.processes import EXPECTED, TLS, MeasuredServer, Setup, Vendors, set_up
from loadtest.measure.watch import Watch
from loadtest.report import machine, outputs, tables
from loadtest.report.result import Step, figure, of_run
from loadtest.report.usage import Sample
from loadtest.simulator import scenario
from loadtest.simulator.record import FIRST_AUDIO, Record
from loadtest.simulator.scenario import Scenario

REPORTS = Path("tmp") / "loadtest"


def measure(
    plan: Scenario,
    url: str,
    pids: Sequence[int],
    *,
    processes: int = 0,
    metrics_urls: Sequence[str] = (),
    on_progress: Callable[[Record], None] = lambda record: None,
    on_sample: Callable[[Sample], None] = lambda sample: None,
) -> Step:
    """One run of one scenario against one server; with `metrics_urls` the step has an `account` (see `account.py`).
    Raises fleet.FleetError, and OSError when the metrics cannot be read."""
    raise_descriptor_limit()
    told = account.read(metrics_urls)
    with Watch(pids, on_sample=on_sample) as looking:
        before = looking.samples[0]
        record = fleet.run(plan, url, processes=processes, on_progress=on_progress)
    step = of_run(plan, record, looking.samples if pids else (), before if pids else None)
    after = account.read(metrics_urls)
    step["account"] = account.between(told, after, figure(step, f"ms.{FIRST_AUDIO}.mean"))
    step["turns_refused"] = round(after.refused - told.refused)
    return step


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[Scenario, str], Callable[[Record], None]]]:
    """Yields a function (scenario, label) -> what to call with the record from time to time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:

        def follow(plan: Scenario, label: str) -> Callable[[Record], None]:
            by_turns = not plan.seconds and plan.talking > 0
            total = plan.talking * plan.turns if by_turns else plan.devices
            task = progress.add_task(label, total=total, unit="turns" if by_turns else "devices done", state="starting")
            return lambda record: _advance(progress, task, record, by_turns)

        yield follow


def _advance(progress: Progress, task: TaskID, record: Record, by_turns: bool) -> None:
    done = record.counts["turns in all"] if by_turns else record.counts["finished"]
    middle, worst = record.quantile(FIRST_AUDIO, 0.5), record.quantile(FIRST_AUDIO, 0.95)
    state = [f"{record.counts['connections']} connected", f"{record.counts['turns in all']} turns"]
    if middle is not None:
        state.append(f"first audio p50 {middle:.0f} p95 {worst:.0f} ms")
    failed = sum(record.failures.values())
    if failed:
        state.append(f"[red]{failed} failed[/red]")
    progress.update(task, completed=done, state=", ".join(state))


def add_where(parser: argparse.ArgumentParser) -> None:
    """Options that say which server; shared by several commands."""
    parser.add_argument(
        "--url", default="", help="WebSocket address of a running server; without it this tree's server is started"
    )
    parser.add_argument(
        "--pid",
        type=int,
        action="append",
        metavar="PID",
        help="the running server's process; found by its port otherwise",
    )
    add_setup(parser)


def add_setup(parser: argparse.ArgumentParser) -> None:
    """Options for a server that is started here."""
    parser.add_argument(
        "--tree", type=Path, default=ROOT, help="start the server of this directory instead of this one"
    )
    parser.add_argument(
        "--profile", default="", help="start it with this profile and its limits (default: none, every door open)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="start so many workers that share the port (default: 1)"
    )
    parser.add_argument(
        "--servers",
        type=int,
        default=1,
        metavar="N",
        help="start so many servers with ports of their own; devices are dealt out to them (default: 1)",
    )
    parser.add_argument(
        "--config", type=Path, action="append", default=[], metavar="FILE", help="lay this file over its configuration"
    )
    for name, default in (("asr", 100), ("llm", 100), ("tts", 80), ("jitter", 0), ("gap", 0)):
        parser.add_argument(
            f"--{name}-ms", type=float, default=default, help=f"of the scripted vendors (default: {default})"
        )
    parser.add_argument(
        "--error-rate", type=float, default=0.0, help="share of the scripted vendors' requests that fail (default: 0)"
    )
    parser.add_argument(
        "--tts-format",
        default="",
        choices=("", "wav", "opus", "pcm", "mp3"),
        help="sound asked of the scripted vendor (default: the server's choice)",
    )
    parser.add_argument("--reply", default="", help="what the scripted vendor says; {n} becomes a number")
    parser.add_argument(
        "--heard", default="", help="what the scripted vendor understands: sentences with | between them, in turn"
    )
    parser.add_argument(
        "--tls",
        nargs="?",
        const="both",
        default="",
        choices=TLS,
        help="encrypt: the server asks its vendors over https, devices come over wss, or both (--tls alone: both)",
    )


def setup_of(options: argparse.Namespace, **changes: Any) -> Setup:
    """The server to start."""
    vendors = Vendors(
        options.asr_ms,
        options.llm_ms,
        options.tts_ms,
        options.jitter_ms,
        options.gap_ms,
        options.error_rate,
        options.reply,
        options.heard,
    )
    given: dict[str, Any] = {
        "tree": options.tree.resolve(),
        "profile": options.profile,
        "workers": options.workers,
        "servers": options.servers,
        "vendors": vendors,
    }
    given |= {"tts_format": options.tts_format, "tls": options.tls}
    given["mqtt"] = getattr(options, "transport", None) not in (None, "websocket")
    return Setup(**given | {"files": tuple(file.resolve() for file in options.config)} | changes)


@contextlib.contextmanager
def server_at(options: argparse.Namespace) -> Iterator[MeasuredServer]:
    """The server the options ask for, started if need be. Raises StartError."""
    if not options.url:
        with set_up(setup_of(options)) as measured:
            yield measured
        return
    yield MeasuredServer(options.url, options.pid or watch.listeners(options.url), [], Path())


def scenario_of(options: argparse.Namespace, **defaults: Any) -> Scenario:
    """The scenario the options ask for. An answer of our own vendors is recognised by a word of it. Raises
    ValueError."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    values = defaults | {key: value for key, value in given.items() if key in Scenario.__dataclass_fields__}
    if not options.url and not options.reply:
        values.setdefault("expect", EXPECTED)
    plan = Scenario.from_options(values)
    if options.url and plan.transport != "websocket" and not plan.ota:
        raise ValueError(f"--transport {plan.transport} needs --ota: where devices ask for the MQTT address")
    return plan


def add_parser(commands: Any) -> None:
    """The command line of `run`."""
    parser = commands.add_parser("run", help="devices talk to a server; everything is reported", description=__doc__)
    parser.add_argument(
        "--devices",
        default="20",
        metavar="N[,N...]",
        help="how many devices; several numbers are run one after the other",
    )
    scenario.add_arguments(parser)
    add_where(parser)
    add_report(parser, "run")
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        metavar="N",
        help="of the load generator (default: by the number of devices)",
    )
    parser.set_defaults(main=main)


def add_report(parser: argparse.ArgumentParser, name: str) -> None:
    """Where files go."""
    parser.add_argument(
        "--out", type=Path, default=REPORTS, metavar="DIR", help=f"folder for the reports (default: {REPORTS})"
    )
    parser.add_argument("--name", default="", help=f"name of the files (default: {name} and the time)")


def report_name(options: argparse.Namespace, name: str) -> str:
    """NAME as given, or by the time."""
    return options.name or f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def main(options: argparse.Namespace, console: Console) -> int:
    """0 when nothing failed."""
    counts = [int(part) for part in str(options.devices).split(",")]
    plan = scenario_of(argparse.Namespace(**{**vars(options), "devices": counts[0]}))
    steps: list[Step] = []
    about = machine.describe()
    with progress_bar(console) as follow:
        for count in counts:
            step_plan = plan.with_devices(count)
            # A fresh server for every step: memory and threads are then those of this many devices.
            with server_at(options) as measured:
                label = f"{count} devices"
                steps.append(
                    measure(
                        step_plan.at(measured.ota_url),
                        measured.url,
                        measured.pids,
                        processes=options.processes,
                        metrics_urls=measured.metrics_urls,
                        on_progress=follow(step_plan, label),
                    )
                )
    tables.show(console, steps)
    server = {"url": options.url, "tree": str(options.tree), "profile": options.profile, "workers": options.workers}
    data = outputs.report(f"{plan.roles}: {options.devices} devices", plan, steps, machine=about, server=server)
    console.print()
    for path in outputs.write(data, options.out, report_name(options, "run")):
        console.print(f"written: {path}", soft_wrap=True)
    return 1 if any(step["failed"] for step in steps) else 0
