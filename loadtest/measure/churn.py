"""Does anything stay behind? `python -m loadtest churn`: thousands of connect-hello-close, a thousand short talks, then
a look at what is left.

Greenlets (by the server's own /metrics), threads, file descriptors and connections must be back at the start; memory
must have stopped growing: the second half of each round may not add more than a little to what the first half left."""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.measure import run
from loadtest.measure.processes import SHORT_REPLY, MeasuredServer, Setup, Vendors, set_up
from loadtest.measure.watch import Watch, scrape
from loadtest.report import machine
from loadtest.simulator import speech
from loadtest.simulator.record import Record
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.visits import FAILURES, Visitor, reason_of

WARM_UP = 50
CONNECTS_AT_ONCE = 50
TALKS_AT_ONCE = 20
SETTLE_S = 20.0
"""How long the server may take to be as it was: closing sockets, loops that linger."""
SETTLE_LOOK_S = 0.5
ALLOWED_GROWTH_MB = 8.0
"""Between the middle of a round and its end: allocators breathe, leaks climb."""
ALLOWED = {"threads": 0, "file descriptors": TALKS_AT_ONCE, "greenlets": 2, "connections": 0}
"""More than at the start. Descriptors: the server keeps its connections to vendors for the next turn, at most one per
talk at a time."""
WORDS = ("how are you doing today",)


@dataclass(frozen=True, slots=True)
class Footprint:
    """The server at one moment."""

    label: str
    rss_mb: float
    threads: int
    descriptors: int
    greenlets: float | None
    connections: float | None

    @property
    def countable(self) -> tuple[float | None, ...]:
        """In the order of ALLOWED."""
        return (self.threads, self.descriptors, self.greenlets, self.connections)


def state_of(label: str, watch: Watch, metrics_urls: Sequence[str]) -> Footprint:
    """A look from outside, and one at /metrics."""
    sample, found = watch.look(), scrape(metrics_urls)
    greenlets, connections = found.get("xiaozhi_greenlets"), found.get("xiaozhi_connections")
    return Footprint(label, round(sample.rss / 1e6, 1), sample.threads, sample.descriptors, greenlets, connections)


def settled(label: str, watch: Watch, metrics_urls: Sequence[str], start: Footprint) -> Footprint:
    """The state as soon as it is like `start`, or after SETTLE_S."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        state = state_of(label, watch, metrics_urls)
        if not left_behind(start, state) or time.monotonic() > deadline:
            return state
        gevent.sleep(SETTLE_LOOK_S)


def left_behind(start: Footprint, end: Footprint) -> list[str]:
    """What there is more of than at the start, beyond ALLOWED."""
    left = []
    for (name, allowed), before, after in zip(ALLOWED.items(), start.countable, end.countable, strict=True):
        if before is not None and after is not None and after - before > allowed:
            left.append(f"{after - before:g} {name}")
    return left


def connect_once(visitor: Visitor, turn: int) -> None:
    """Connect, hello, close."""
    visitor.connect().close()


def talk_once(visitor: Visitor, turn: int) -> None:
    """Connect, one short question, its answer, close."""
    device = visitor.connect()
    try:
        visitor.note(device, device.ask(visitor.words(turn), "auto", visitor.scenario.patience))
    finally:
        device.close()


def cycles(
    count: int,
    at_once: int,
    once: Callable[[Visitor, int], None],
    measured: MeasuredServer,
    record: Record,
    on_done: Callable[[], None],
    *,
    first: int = 0,
) -> None:
    """Let `count` devices do it, `at_once` at a time."""
    plan = Scenario(words=WORDS, expect="umber", sources=4, first_device=first)

    def one(number: int) -> None:
        try:
            once(Visitor(measured.url, plan, number, record), number)
        except FAILURES as error:
            record.failed(reason_of(error))
        on_done()

    pool = Pool(at_once)
    for number in range(count):
        pool.spawn(one, number)
    pool.join()


def measure(setup: Setup, connects: int, talks: int, console: Console) -> tuple[list[Footprint], Record, list[str]]:
    """(states, record, complaints). Raises StartError."""
    record, states, complaints = Record(), [], []
    speech.speak_all(WORDS)
    rounds = (
        ("connect-hello-close", connects, CONNECTS_AT_ONCE, connect_once),
        ("short talks", talks, TALKS_AT_ONCE, talk_once),
    )
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=40), MofNCompleteColumn(), TimeElapsedColumn())
    with set_up(setup) as measured, Progress(*columns, console=console) as progress:
        watch = Watch(measured.pids)
        for _, _, at_once, once in rounds:  # whatever is made on first use is there after this
            cycles(WARM_UP, at_once, once, measured, record, lambda: None)
        gevent.sleep(1.0)
        start = state_of("start", watch, measured.metrics_urls)
        states.append(start)
        for name, count, at_once, once in rounds:
            if not count:
                continue
            task = progress.add_task(name, total=count)
            halves = []
            for half in range(2):
                first = WARM_UP + (half * count) // 2
                advance = functools.partial(progress.advance, task)
                cycles(count // 2, at_once, once, measured, record, advance, first=first)
                halves.append(settled(f"{name}, {(half + 1) * count // 2:,}", watch, measured.metrics_urls, start))
            states += halves
            complaints += [f"after {halves[1].label}: {what} left behind" for what in left_behind(start, halves[1])]
            growth = halves[1].rss_mb - halves[0].rss_mb
            if growth > ALLOWED_GROWTH_MB:
                complaints.append(f"memory grew by {growth:.1f} MB in the second half of {name}")
    complaints += [f"{count} x {reason}" for reason, count in record.failures.items()]
    return states, record, complaints


def show(console: Console, states: Sequence[Footprint], complaints: Sequence[str]) -> None:
    """The states, one line each, and what is wrong."""
    table = Table("after", show_edge=False, pad_edge=False)
    for title in ("RSS MB", "threads", "descriptors", "greenlets", "connections"):
        table.add_column(title, justify="right")
    for state in states:
        numbers = (state.threads, state.descriptors, state.greenlets, state.connections)
        table.add_row(
            state.label, f"{state.rss_mb:,.1f}", *("–" if number is None else f"{number:,.0f}" for number in numbers)
        )
    console.print(table)
    for complaint in complaints:
        console.print(f"[red]{complaint}[/red]")
    if not complaints:
        console.print("[green]Everything is back where it was.[/green]")


def add_parser(commands: Any) -> None:
    """The command line of `churn`."""
    parser = commands.add_parser(
        "churn", help="thousands of visits; is everything back where it was?", description=__doc__
    )
    parser.add_argument(
        "--connects", type=int, default=5_000, metavar="N", help="connect-hello-close cycles (default: 5000)"
    )
    parser.add_argument("--talks", type=int, default=1_000, metavar="N", help="short talks (default: 1000)")
    run.add_setup(parser)
    run.add_report(parser, "churn")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace, console: Console) -> int:
    """0 when nothing failed and nothing was left behind."""
    about = machine.describe()
    vendors = Vendors(
        options.asr_ms,
        options.llm_ms,
        options.tts_ms,
        options.jitter_ms,
        options.gap_ms,
        options.error_rate,
        options.reply or SHORT_REPLY,
    )
    # Dialogues are kept for devices that come back; here nobody comes back, and what is kept would look like a leak.
    overlay = {"conversation": {"resume_seconds": 0}}
    states, record, complaints = measure(
        run.setup_of(options, vendors=vendors, overlay=overlay), options.connects, options.talks, console
    )
    show(console, states, complaints)
    options.out.mkdir(parents=True, exist_ok=True)
    path: Path = options.out / f"{run.report_name(options, 'churn')}.json"
    data = {
        "machine": about,
        "states": [asdict(state) for state in states],
        "complaints": complaints,
        "counts": dict(record.counts),
    }
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    console.print(f"written: {path}", soft_wrap=True)
    return 1 if complaints else 0
