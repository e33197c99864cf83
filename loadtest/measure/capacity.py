"""How many devices does this machine carry? `python -m loadtest capacity` climbs until the server is full, and writes
the table.

Full means: the 95th percentile from end of speech to first audio passes 1 s, or a turn fails. Every level is a fresh
server with fresh vendors, all on this machine, the load generator included. Profiles are measured as they ship, limits
and vendor windows included; "open" is the default configuration with every door open, which is what the machine can do.
Idle devices are a climb of their own (`idle.py`)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from loadtest import ROOT
from loadtest.measure import idle, run
from loadtest.measure.processes import Setup, set_up
from loadtest.report import capacity_page, machine, outputs
from loadtest.report.capacity_page import OPEN
from loadtest.report.result import Step, figure
from loadtest.simulator import scenario
from loadtest.simulator.record import FIRST_AUDIO
from loadtest.simulator.scenario import Scenario

LIMIT_MS = 1_000.0
SECONDS = 40.0
RAMP_PER_SECOND = 20.0
TURN_SECONDS = 12.0
"""A question, its answer and the pause after it. Devices appear over at least that long, or they would go on speaking
in chorus."""
LADDER = (25, 50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1_000, 1_250, 1_500, 2_000)


@dataclass(slots=True)
class Climb:
    """One profile with so many workers: the levels tried, and where it ended."""

    profile: str
    workers: int
    places: int
    """Devices its configuration admits; 0: no limit."""
    steps: list[Step] = field(default_factory=list)
    best: Step | None = None
    """The highest level that was good."""
    stopped_by: str = ""
    """Why no more were tried."""


def verdict(step: Step, limit_ms: float = LIMIT_MS) -> str:
    """Why a level is not good; "" when it is."""
    if step["failed"]:
        reason, count = next(iter(step["failures"].items()))
        return f"{step['failed']} failed ({count} x {reason})"
    p95 = figure(step, f"ms.{FIRST_AUDIO}.p95")
    if p95 is None:
        return "no turn was completed"
    return f"p95 {p95:,.0f} ms" if p95 > limit_ms else ""


def climb(
    result: Climb,
    levels: Iterable[int],
    try_level: Callable[[int], Step],
    *,
    limit_ms: float = LIMIT_MS,
    precision: int = 25,
) -> Climb:
    """Take the levels upwards until one is not good, then halve the distance until it is at most `precision`
    devices."""
    places = result.places
    tried = 0
    for level in levels:
        capped = min(level, places) if places else level
        if capped <= tried:
            break
        tried = capped
        why = _try(result, capped, try_level, limit_ms)
        if why:
            _narrow(result, capped, why, try_level, limit_ms, precision)
            return result
        if capped == places:
            result.stopped_by = "its own limit of connections"
            return result
    result.stopped_by = "nothing; no more were tried"
    return result


def _try(result: Climb, level: int, try_level: Callable[[int], Step], limit_ms: float) -> str:
    step = try_level(level)
    result.steps.append(step)
    why = verdict(step, limit_ms)
    if not why:
        result.best = step
    return why


def _narrow(
    result: Climb, bad: int, why: str, try_level: Callable[[int], Step], limit_ms: float, precision: int
) -> None:
    good = result.best["devices"] if result.best is not None else 0
    result.stopped_by = f"{why} at {bad}"
    while bad - good > precision:
        middle = (good + bad) // 2 // 5 * 5
        if not good < middle < bad:
            return
        why = _try(result, middle, try_level, limit_ms)
        if why:
            bad, result.stopped_by = middle, f"{why} at {middle}"
        else:
            good = middle


def levels_for(levels: Sequence[int], places: int) -> list[int]:
    """Where to begin and what to try: a server with a limit of its own is expected to carry half of that, so nothing
    below is tried."""
    from_level = max((level for level in levels if level <= places / 2), default=0)
    return [level for level in levels if level >= from_level]


def places_of(profile: str, workers: int, tree: Path = ROOT) -> int:
    """Devices a profile admits, all workers together; 0 for the open one."""
    if profile == OPEN:
        return 0
    text = (tree / "config" / "profiles" / f"{profile}.yaml").read_text(encoding="utf-8")
    return int(yaml.safe_load(text)["server"]["max_connections"]) * workers


def add_parser(commands: Any) -> None:
    """The command line of `capacity`."""
    parser = commands.add_parser(
        "capacity", help="climb until the server is full; writes docs/capacity.md", description=__doc__
    )
    parser.add_argument("--profiles", default=f"{OPEN},low,mid,high", help=f"(default: {OPEN},low,mid,high)")
    parser.add_argument("--worker-counts", default="1,2", metavar="N[,N]", help="(default: 1,2)")
    parser.add_argument("--levels", default=",".join(map(str, LADDER)), help="numbers of devices to try, ascending")
    parser.add_argument("--start", type=int, default=0, help="leave out levels below this one")
    parser.add_argument("--most", type=int, default=0, help="leave out levels above this one")
    parser.add_argument(
        "--limit-ms", type=float, default=LIMIT_MS, help=f"longest p95 to first audio (default: {LIMIT_MS:g})"
    )
    parser.add_argument(
        "--tries", type=int, default=1, metavar="N", help="a level is bad only when it was so often (default: 1)"
    )
    parser.add_argument(
        "--precision", type=int, default=25, help="narrow the climb down to so many devices (default: 25)"
    )
    parser.add_argument(
        "--idle",
        default="1000,5000,10000",
        metavar="N[,N]",
        help="idle devices to try; '' for none (default: 1000,5000,10000)",
    )
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "capacity.md", help="the page to write the table into"
    )
    scenario.add_arguments(parser)
    run.add_setup(parser)
    run.add_report(parser, "capacity")
    parser.set_defaults(main=main, url="")


def main(options: argparse.Namespace, console: Console) -> int:
    """Always 0: a full server is what was asked for."""
    about = machine.describe()
    plan = run.scenario_of(argparse.Namespace(**{**vars(options), "devices": 1}), seconds=SECONDS, turns=0)
    levels = [int(part) for part in options.levels.split(",")]
    levels = [level for level in levels if level >= options.start and (not options.most or level <= options.most)]
    name = run.report_name(options, "capacity")
    climbs: list[Climb] = []
    idles: list[dict[str, Any]] = []

    def write() -> list[Path]:
        # After every climb, finished or not: an hour's work must not be lost with its last minute.
        return _write(options, name, about, plan, climbs, idles)

    for profile in filter(None, options.profiles.split(",")):
        for workers in map(int, options.worker_counts.split(",")):
            setup = run.setup_of(options, profile="" if profile == OPEN else profile, workers=workers)
            result = Climb(profile, workers, places_of(profile, workers, setup.tree))
            try_level = _level(setup, plan, result, console, options.limit_ms, options.tries)
            climbs.append(result)
            try:
                climb(
                    result,
                    levels_for(levels, result.places),
                    try_level,
                    limit_ms=options.limit_ms,
                    precision=options.precision,
                )
            finally:
                write()
            console.print(f"[bold]{escape(_in_words(result))}[/bold]", soft_wrap=True)
    for count in map(int, filter(None, options.idle.split(","))):
        idles.append(idle.measure(run.setup_of(options), count, console))
        write()
    for path in write():
        console.print(f"written: {path}", soft_wrap=True)
    return 0


def _level(
    setup: Setup, plan: Scenario, result: Climb, console: Console, limit_ms: float, tries: int
) -> Callable[[int], Step]:
    def try_level(devices: int) -> Step:
        step = try_once(devices)
        for _ in range(tries - 1):
            if not verdict(step, limit_ms):
                break
            step = try_once(devices)
        return step

    def try_once(devices: int) -> Step:
        step_plan = Scenario.from_options(
            plan.options(), devices=devices, ramp=max(TURN_SECONDS, devices / RAMP_PER_SECOND)
        )
        label = f"{result.profile}, {result.workers} worker(s), {devices} devices"
        with run.progress_bar(console) as follow, set_up(setup) as measured:
            step = run.measure(
                step_plan.at(measured.ota_url), measured.url, measured.pids, on_progress=follow(step_plan, label)
            )
        why = verdict(step, limit_ms)
        console.print(f"  {devices} devices: {escape(why) or 'good'}; {escape(summary(step))}", soft_wrap=True)
        return step

    return try_level


def summary(step: Step) -> str:
    """The figures of a level in one line."""
    shown = []
    for title, path, unit, scale in (
        ("p50", f"ms.{FIRST_AUDIO}.p50", " ms", 1.0),
        ("p95", f"ms.{FIRST_AUDIO}.p95", " ms", 1.0),
        ("gap p99.9", "gaps.beyond_p999", " ms", 1.0),
        ("cores", "server.cores", "", 1.0),
        ("CPU", "server.cpu_ms_per_turn", " ms/turn", 1.0),
        ("RSS", "server.rss", " MB", 1e-6),
        ("threads", "server.threads", "", 1.0),
        ("machine", "server.machine_busy", " % busy", 100.0),
        ("client", "client.cores", " cores", 1.0),
    ):
        value = figure(step, path)
        if value is not None:
            shown.append(f"{title} {value * scale:,.4g}{unit}")
    return ", ".join(shown)


def _in_words(result: Climb) -> str:
    best = result.best["devices"] if result.best is not None else 0
    return f"{result.profile}, {result.workers} worker(s): {best} talking devices; stopped by {result.stopped_by}"


def _write(
    options: argparse.Namespace,
    name: str,
    about: dict[str, Any],
    plan: Scenario,
    climbs: Sequence[Climb],
    idles: Sequence[dict[str, Any]],
) -> list[Path]:
    """All that is known so far, into the report files and the page; which files those are."""
    data = {
        "machine": about,
        "scenario": plan.options(),
        "climbs": [asdict(each) for each in climbs],
        "idle": list(idles),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}.json"
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    written = [path]
    for each in climbs:
        if each.steps:
            steps = sorted(each.steps, key=lambda step: step["devices"])
            title = f"Capacity: {each.profile}, {each.workers} worker(s)"
            server = {"profile": each.profile, "workers": each.workers}
            report = outputs.report(title, plan, steps, machine=about, server=server)
            written += outputs.write(report, options.out, f"{name}-{each.profile}-{each.workers}")
    capacity_page.update(options.page, data)
    return [*written, options.page]
