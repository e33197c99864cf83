"""Where the server's CPU goes while devices talk: `python -m loadtest hotspots --devices 50,100,200`.

py-spy looks into the running server some hundred times a second; only threads that work are counted, so shares are
shares of CPU time. A sample belongs to the room of the project's innermost function on its stack (what it had somebody
else do counts as its own doing), and to the file of the very innermost function. Times in C code belong to the Python
function that called it. Threads of the inference pool that are entering or leaving a wait look busy to py-spy far
longer than they are, so they are told apart; what they really cost is in the kernel's count of CPU by thread."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.measure import fleet, run
from loadtest.measure.processes import Setup, set_up
from loadtest.measure.watch import Watch
from loadtest.report import machine
from loadtest.report.result import Step, of_run
from loadtest.simulator import scenario
from loadtest.simulator.scenario import Scenario

SECONDS = 30.0
SAMPLES_PER_S = 250
SHOWN = 25
PRODUCT = "/xiaozhi/"
BETWEEN_JOBS = "acquire_with_timeout (gevent/_threading.py"
"""The innermost function of a thread of gevent's pool that has no job."""


@dataclass(slots=True)
class Profile:
    """Samples by what they were doing."""

    total: int = 0
    """Without those of `waiting`."""
    waiting: int = 0
    """Of pool threads between two jobs."""
    rooms: Counter[str] = field(default_factory=Counter)
    """Of the innermost function of the product; "(none)" when there is none on the stack."""
    own: Counter[str] = field(default_factory=Counter)
    """By innermost function."""
    whole: Counter[str] = field(default_factory=Counter)
    """By every function on the stack, once."""


def sampled(pid: int, seconds: float, *, rate: int = SAMPLES_PER_S) -> list[str]:
    """py-spy's raw lines, "frame;frame count"; none when it is not installed or may not look into that process."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "profile.raw"
        command = [
            str(Path(sys.executable).parent / "py-spy"),
            "record",
            "--pid",
            str(pid),
            "--duration",
            str(max(1, round(seconds))),
        ]
        command += ["--rate", str(rate), "--format", "raw", "--full-filenames", "--output", str(raw)]
        try:
            subprocess.run(command, capture_output=True, timeout=seconds + 60, check=False)
            return raw.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []


def digest(lines: Iterable[str]) -> Profile:
    """Count the samples of py-spy's raw lines; lines that are none are skipped."""
    profile = Profile()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        if not stack or not number.strip().isdigit():
            continue
        count = int(number)
        frames = [_short(frame) for frame in stack.split(";") if frame]
        if not frames:
            continue
        if frames[-1].startswith(BETWEEN_JOBS):
            profile.waiting += count
            continue
        profile.total += count
        profile.own[frames[-1]] += count
        profile.rooms[next((room for frame in reversed(frames) if (room := _room(frame))), "(none)")] += count
        for frame in dict.fromkeys(frames):
            profile.whole[frame] += count
    return profile


def _short(frame: str) -> str:
    """A frame without its line number and the machine's folders: "function (xiaozhi/session/turns/turn.py)"."""
    function, _, place = frame.rpartition(" (")
    if not function:
        return frame
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    for mark, keep in (("/site-packages/", False), ("/lib/python", False), (PRODUCT, True)):
        _, found, rest = path.partition(mark) if keep else path.rpartition(mark)
        if found:
            path = f"xiaozhi/{rest}" if keep else rest
            break
    return f"{function} ({path})"


def _room(frame: str) -> str:
    path = frame.rpartition(" (")[2].rstrip(")")
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "xiaozhi" and len(parts) > 1 else ""


def profiled(plan: Scenario, setup: Setup, console: Console) -> tuple[Step, Profile, dict[str, float]]:
    """A run of a fixed time with a look into the first worker all the while; the last value is CPU seconds by thread.

    Raises StartError, fleet.FleetError."""
    found: list[tuple[list[str], dict[str, float]]] = []
    lookers: list[gevent.Greenlet] = []
    with run.progress_bar(console) as follow, set_up(setup) as measured:

        def look() -> None:
            pid = measured.pids[0]
            before = thread_cpu(pid)
            lines = sampled(pid, plan.seconds)
            found.append((lines, {name: seconds - before.get(name, 0.0) for name, seconds in thread_cpu(pid).items()}))

        with Watch(measured.pids) as watch:
            record = fleet.run(
                plan.at(measured.ota_url),
                measured.url,
                on_progress=follow(plan, f"{plan.devices} devices, sampled"),
                on_all_there=lambda: lookers.append(gevent.spawn(look)),
            )
        gevent.joinall(lookers)
    lines, threads = found[0] if found else ([], {})
    return of_run(plan, record, watch.samples, watch.samples[0]), digest(lines), threads


def thread_cpu(pid: int) -> dict[str, float]:
    """CPU seconds of every thread so far, by the kernel's own count; "hub" is the first one. Empty when the process has
    gone."""
    found = {}
    for task in sorted(Path(f"/proc/{pid}/task").glob("*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):
            name = "hub" if task.name == str(pid) else f"thread {task.name}"
            found[name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def show(console: Console, step: Step, profile: Profile, threads: Mapping[str, float]) -> None:
    """Tables of what took most."""
    server = step["server"]
    console.print(
        f"\n[bold]{step['devices']} devices[/bold]: {server.get('cpu_ms_per_turn', '–')} ms of core per turn "
        "(while sampled), "
        f"{profile.total:,} samples, and {profile.waiting:,} of pool threads between two jobs",
        soft_wrap=True,
    )
    if not profile.total:
        console.print("[red]py-spy saw nothing: is it installed, and may it look into other processes?[/red]")
        return
    each = server.get("cpu_ms_per_turn") or 0.0
    in_all = sum(threads.values())
    if in_all:
        shares = (
            f"{name} {seconds / in_all * 100:.0f} %" for name, seconds in threads.items() if seconds / in_all > 0.005
        )
        console.print(f"CPU by thread, as the kernel counts it: {', '.join(shares)}\n", soft_wrap=True)
    for title, counter in (("room", profile.rooms), ("function itself", profile.own), ("with callees", profile.whole)):
        table = Table(title, show_edge=False, pad_edge=False)
        table.add_column("share", justify="right")
        table.add_column("ms/turn", justify="right")
        for name, count in counter.most_common(SHOWN):
            share = count / profile.total
            table.add_row(escape(name), f"{share * 100:.1f} %", f"{share * each:.2f}")
        console.print(table)
        console.print()


def add_parser(commands: Any) -> None:
    """The command line of `hotspots`."""
    parser = commands.add_parser(
        "hotspots", help="where the server's CPU goes while devices talk (py-spy)", description=__doc__
    )
    parser.add_argument("--devices", default="50,100,200", metavar="N[,N]", help="(default: 50,100,200)")
    scenario.add_arguments(parser)
    run.add_setup(parser)
    run.add_report(parser, "hotspots")
    parser.set_defaults(main=main, url="")


def main(options: argparse.Namespace, console: Console) -> int:
    """0 unless py-spy saw nothing."""
    counts: Sequence[int] = [int(part) for part in options.devices.split(",")]
    about = machine.describe()
    plan = run.scenario_of(argparse.Namespace(**{**vars(options), "devices": counts[0]}), seconds=SECONDS, turns=0)
    runs = []
    for count in counts:
        step, profile, threads = profiled(plan.with_devices(count), run.setup_of(options), console)
        show(console, step, profile, threads)
        tops = {name: dict(getattr(profile, name).most_common(200)) for name in ("rooms", "own", "whole")}
        runs.append({"step": step, "samples": profile.total, "threads": threads, **tops})
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{run.report_name(options, 'hotspots')}.json"
    path.write_text(json.dumps({"machine": about, "runs": runs}, indent=1), encoding="utf-8")
    console.print(f"written: {path}", soft_wrap=True)
    return 0 if all(each["samples"] for each in runs) else 1
