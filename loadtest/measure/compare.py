"""Two servers, the same scenario, in alternation: `python -m loadtest compare A B`.

Absolute figures drift on a machine that others use, too; the ratio of two runs made right after one another drifts much
less. A and B are each a WebSocket address (any server that speaks the protocol), a directory (another tree of this
server, with its own .venv where it has one) or a YAML file (this tree with that file laid over its configuration).
Order: A B, B A, A B, ...; every pair gives one ratio per figure."""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.measure import run
from loadtest.measure.pages import open_pages
from loadtest.measure.processes import EXPECTED, MeasuredServer, Setup, StartError, server_running, vendors_running
from loadtest.measure.watch import listeners
from loadtest.report import machine
from loadtest.report.result import Step, figure
from loadtest.report.tables import in_words
from loadtest.simulator import scenario
from loadtest.simulator.record import FIRST_AUDIO
from loadtest.simulator.scenario import Scenario

FIGURES = (
    ("first audio p50, ms", f"ms.{FIRST_AUDIO}.p50"),
    ("first audio p95, ms", f"ms.{FIRST_AUDIO}.p95"),
    ("frame gap beyond the frame p99.9, ms", "gaps.beyond_p999"),
    ("CPU per turn, ms of core", "server.cpu_ms_per_turn"),
    ("context switches per s", "server.voluntary_per_s"),
    ("RSS, bytes", "server.rss"),
    ("threads", "server.threads"),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """B divided by A for one figure."""

    title: str
    a: float
    """Median of A's runs; likewise b."""
    b: float
    pairs: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the pairs."""
        return statistics.median(self.pairs)

    @property
    def clear(self) -> bool:
        """Whether all pairs point the same way: less than that is no difference."""
        return all(pair < 1 for pair in self.pairs) or all(pair > 1 for pair in self.pairs)


def ratios(pairs: Sequence[tuple[Step, Step]]) -> list[Ratio]:
    """What can be compared: figures that both sides have in every pair, and that are not zero."""
    found = []
    for title, path in FIGURES:
        values = [(figure(a, path), figure(b, path)) for a, b in pairs]
        good = [(a, b) for a, b in values if a and b is not None]
        if good and len(good) == len(pairs):
            sides = [statistics.median(side) for side in zip(*good, strict=True)]
            found.append(Ratio(title, sides[0], sides[1], tuple(round(b / a, 4) for a, b in good)))
    return found


@contextlib.contextmanager
def opened(side: str, base: Setup, vendor_url: str) -> Iterator[MeasuredServer]:
    """A side of the comparison, started if it is not an address. Raises StartError."""
    if side.startswith(("ws://", "wss://")):
        yield MeasuredServer(side, listeners(side), [], Path())
        return
    path = Path(side).resolve()
    if path.is_dir():
        setup = replace(base, tree=path)
    elif path.is_file():
        setup = replace(base, files=(*base.files, path))
    else:
        raise StartError(f"{side}: neither an address (ws://...), nor a directory, nor a configuration file")
    with server_running(setup, vendor_url) as measured:
        yield measured


def alternate(
    sides: Sequence[MeasuredServer], plan: Scenario, rounds: int, console: Console
) -> list[tuple[Step, Step]]:
    """A B, B A, A B ..."""
    pairs: list[tuple[Step, Step]] = []
    with run.progress_bar(console) as follow:
        for number in range(rounds):
            found: dict[int, Step] = {}
            for index in (0, 1) if number % 2 == 0 else (1, 0):
                measured = sides[index]
                found[index] = run.measure(
                    plan.at(measured.ota_url),
                    measured.url,
                    measured.pids,
                    metrics_urls=measured.metrics_urls,
                    on_progress=follow(plan, f"{plan.devices} devices, round {number + 1}, {'AB'[index]}"),
                )
            pairs.append((found[0], found[1]))
    return pairs


def show(
    console: Console,
    names: Sequence[str],
    found: Sequence[Ratio],
    pairs: Sequence[tuple[Step, Step]],
    title: str = "",
) -> None:
    """The ratios, pair by pair."""
    console.print(f"\n{escape(title)}\nA: {escape(names[0])}\nB: {escape(names[1])}\n", soft_wrap=True)
    table = Table("figure", show_edge=False, pad_edge=False)
    for title in ("A", "B", "B/A", *(f"pair {number + 1}" for number in range(len(pairs)))):
        table.add_column(title, justify="right")
    for ratio in found:
        median = f"{ratio.median:.3f}" if ratio.clear else f"[dim]{ratio.median:.3f} ~[/dim]"
        table.add_row(
            ratio.title, f"{ratio.a:,.1f}", f"{ratio.b:,.1f}", median, *(f"{pair:.3f}" for pair in ratio.pairs)
        )
    console.print(table)
    console.print("~: the pairs do not agree on which is larger")
    for index, name in enumerate("AB"):
        for pair in pairs:
            if account := pair[index]["account"]:
                console.print(f"{name}, means: {in_words(account)}", soft_wrap=True)
        failed = sum(pair[index]["failed"] for pair in pairs)
        if failed:
            reasons = {reason for pair in pairs for reason in pair[index]["failures"]}
            console.print(f"[red]{name}: {failed} failures: {escape(', '.join(sorted(reasons)))}[/red]")


def add_parser(commands: Any) -> None:
    """The command line of `compare`."""
    parser = commands.add_parser("compare", help="two servers in alternation, ratios pair by pair", description=__doc__)
    parser.add_argument("a", metavar="A", help="address, directory or configuration file; likewise B")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument(
        "--devices",
        default="50",
        metavar="N[,N...]",
        help="how many devices; several numbers are compared one after the other (default: 50)",
    )
    parser.add_argument(
        "--pages", type=int, default=0, metavar="N", help="open pages of the console that look at B (default: 0)"
    )
    scenario.add_arguments(parser)
    run.add_setup(parser)
    run.add_report(parser, "compare")
    parser.set_defaults(main=main, url="")


def main(options: argparse.Namespace, console: Console) -> int:
    """0 when nothing failed on either side."""
    ours = not any(side.startswith(("ws://", "wss://")) for side in (options.a, options.b))
    counts = [int(part) for part in str(options.devices).split(",")]
    first = argparse.Namespace(**{**vars(options), "devices": counts[0]})
    plan = run.scenario_of(first, **({"expect": EXPECTED} if ours else {"expect": ""}))
    base = run.setup_of(options)
    about = machine.describe()
    with (
        vendors_running(base.vendors, tls=base.vendors_over_tls) as vendor_url,
        opened(options.a, base, vendor_url) as a,
        opened(options.b, base, vendor_url) as b,
        contextlib.ExitStack() as looking,
    ):
        if options.pages and not b.http_urls:
            raise StartError("--pages: B has to be started here, by its directory or its configuration")
        for origin in b.http_urls:
            looking.enter_context(open_pages(origin, options.pages))
        runs = [alternate((a, b), plan.with_devices(count), options.rounds, console) for count in counts]
    compared = []
    for count, pairs in zip(counts, runs, strict=True):
        found = ratios(pairs)
        show(console, (options.a, options.b), found, pairs, f"{count} devices")
        listed = [
            {"title": each.title, "a": each.a, "b": each.b, "pairs": each.pairs, "median": each.median}
            for each in found
        ]
        compared.append({"devices": count, "ratios": listed, "pairs": pairs})
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{run.report_name(options, 'compare')}.json"
    sides = {"a": options.a, "b": options.b}
    path.write_text(json.dumps({"machine": about, "sides": sides, "runs": compared}, indent=1), encoding="utf-8")
    console.print(f"\nwritten: {path}", soft_wrap=True)
    return 1 if any(step["failed"] for pairs in runs for pair in pairs for step in pair) else 0
