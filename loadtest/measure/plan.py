"""What many devices need, on paper and by simulation: `python -m loadtest plan --devices 1000000`.

Nothing is run. A busy hour is simulated second by second (visits begin at random, each lasts as long as its turns do),
and its busiest seconds are multiplied with what one device, one turn and one visit cost where they were measured
(docs/capacity.md, docs/performance.md). `--write FILE` puts the table between the marks of a page, so that the page and
the figures cannot part."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

BEGIN: Final = "<!-- plan: begin (written by `.venv/bin/python -m loadtest plan --write docs/capacity.md`) -->"
END: Final = "<!-- plan: end -->"
DEVICES: Final = (1_000, 10_000, 100_000, 1_000_000)
SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True)
class Habits:
    """How people use their devices."""

    visits_per_day: float = 15.0
    turns_per_visit: float = 3.0
    busy_hour: float = 0.12
    """Share of a day's visits in its busiest hour."""
    turn_s: float = 13.0
    """From one question to the next: as in the load test."""
    linger_s: float = 60.0
    """How long a device stays connected when nobody speaks any more: most say goodbye or are woken again sooner than
    close_connection_no_voice_time."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured on the machine of docs/capacity.md, with its scripted vendors."""

    cpu_ms_per_turn: float = 21.0
    talking_kb: float = 298.0
    """Memory of one connection in a conversation."""
    standing_kb: float = 18.6
    """Memory of one idle connection."""
    process_mb: float = 150.0
    per_process: int = 400
    """Devices in conversation for one process: at 600 the 95th percentile of the first sound is 840 ms."""
    busy: float = 0.7
    """Share of the cores that may be in use at the busiest second."""
    redis_per_turn: float = 2.0
    """The dialogue is written once, in a pipeline; an answer is looked up where they are shared."""
    redis_per_visit: float = 5.0
    """Claim and release, the look for a dialogue, counts at the door."""
    redis_per_process_and_s: float = 1.5
    """Signs of life and looks."""
    redis_ops_per_core: float = 60_000.0
    """Small commands that one core of Redis answers, with room."""
    kbit_estimate: float = 97.0
    """For a device in conversation, as the documents estimated that this project began with."""
    kbit_up: float = 24.0
    kbit_down: float = 56.0
    speaks_s: float = 3.0
    is_spoken_to_s: float = 6.0
    """Of one turn, as in the load test."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One that servers run on; the names are those of config/profiles."""

    name: str
    cores: int
    memory_gb: float


MACHINES: Final = (Machine("low", 2, 4), Machine("mid", 4, 8), Machine("high", 8, 16), Machine("cloud", 32, 64))


@dataclass(frozen=True, slots=True)
class Need:
    """What so many devices need at their busiest second."""

    devices: int
    connected: int
    in_turn: int
    turns_per_s: float
    visits_per_s: float
    cores: float
    processes: int
    memory_gb: float
    redis_per_s: float
    mbit_estimated: float
    mbit_measured: float
    machines: dict[str, int]


def plan(
    devices: int, habits: Habits = Habits(), costs: Costs = Costs(), *, standing: bool = False, seed: int = 1
) -> Need:
    """`standing`: each device is connected all day (MQTT) and not only during a conversation."""
    visits_per_s = devices * habits.visits_per_day * habits.busy_hour / SECONDS
    talk_s = habits.turns_per_visit * habits.turn_s
    begun = np.random.default_rng(seed).poisson(visits_per_s, SECONDS * 2)
    connected = _at_once(begun, talk_s + habits.linger_s)
    talking = _at_once(begun, talk_s)
    # A turn's CPU is used over its length, so the busiest second is that of most devices in conversation.
    turns_per_s = talking / habits.turn_s
    cores = turns_per_s * costs.cpu_ms_per_turn / 1000 / costs.busy
    processes = max(1, math.ceil(talking / costs.per_process))
    idle = devices - connected if standing else 0
    memory_gb = (connected * costs.talking_kb + idle * costs.standing_kb) / 1e6 + processes * costs.process_mb / 1e3
    peak_visits = float(begun.max())
    redis = (
        turns_per_s * costs.redis_per_turn
        + peak_visits * costs.redis_per_visit
        + processes * costs.redis_per_process_and_s
    )
    per_turn_kbit = costs.speaks_s * costs.kbit_up + costs.is_spoken_to_s * costs.kbit_down
    return Need(
        devices=devices,
        connected=devices if standing else connected,
        in_turn=talking,
        turns_per_s=turns_per_s,
        visits_per_s=peak_visits,
        cores=cores,
        processes=processes,
        memory_gb=memory_gb,
        redis_per_s=redis,
        mbit_estimated=talking * costs.kbit_estimate / 1e3,
        mbit_measured=turns_per_s * per_turn_kbit / 1e3,
        machines={
            machine.name: max(1, math.ceil(max(cores / machine.cores, memory_gb / (machine.memory_gb * costs.busy))))
            for machine in MACHINES
        },
    )


def _at_once(begun: Any, mean_s: float) -> int:
    """Visits under way at the busiest second of an hour, when each lasts about `mean_s` (exponentially)."""
    left = math.exp(-1 / mean_s)
    under_way, most, warm = 0.0, 0.0, len(begun) - SECONDS
    for second, arrivals in enumerate(begun):
        under_way = under_way * left + float(arrivals)
        if second >= warm:
            most = max(most, under_way)
    # How many of them are under way is random as well; three standard deviations are hardly ever exceeded.
    return math.ceil(most + 3 * math.sqrt(most))


COLUMNS: Final = (
    "devices",
    "connected at once",
    "of these in a conversation",
    "turns/s",
    "visits/s",
    "cores",
    "processes",
    "memory GB",
    "Redis operations/s",
    "Mbit/s at 97 kbit/s each",
    "Mbit/s as measured",
    "machines low / mid / high / cloud",
)


def cells(need: Need) -> list[str]:
    """A row of the table."""
    return [
        f"{need.devices:,}",
        f"{need.connected:,}",
        f"{need.in_turn:,}",
        f"{need.turns_per_s:,.0f}",
        f"{need.visits_per_s:,.0f}",
        f"{need.cores:,.1f}",
        f"{need.processes:,}",
        f"{need.memory_gb:,.1f}",
        f"{need.redis_per_s:,.0f}",
        f"{need.mbit_estimated:,.0f}",
        f"{need.mbit_measured:,.0f}",
        " / ".join(f"{count:,}" for count in need.machines.values()),
    ]


def markdown(needs: dict[str, list[Need]]) -> str:
    """Tables for a page, one for each way to be connected."""
    parts = []
    for title, rows in needs.items():
        lines = [f"**{title}**", "", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
        parts.append("\n".join([*lines, *(f"| {' | '.join(cells(need))} |" for need in rows)]))
    return "\n\n".join(parts)


def shipped() -> str:
    """What stands in docs/capacity.md."""
    return markdown(
        {
            "Devices that connect for a conversation (WebSocket)": [plan(count) for count in DEVICES],
            "Devices that are connected all day (MQTT)": [plan(count, standing=True) for count in DEVICES],
        }
    )


def write(page: Path) -> None:
    """Put the tables between the marks of a page. Raises ValueError when it has none."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has not the two marks between which the tables go")
    between = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    page.write_text(between.sub(lambda _: f"{BEGIN}\n\n{shipped()}\n\n{END}", text), encoding="utf-8")


def add_parser(commands: Any) -> None:
    """The command and its options."""
    habits = Habits()
    parser = commands.add_parser("plan", help="what many devices need, on paper", description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=list(DEVICES), help="how many there are")
    parser.add_argument("--visits", type=float, default=habits.visits_per_day, help="conversations of a device a day")
    parser.add_argument("--turns", type=float, default=habits.turns_per_visit, help="questions in a conversation")
    parser.add_argument(
        "--busy-hour", type=float, default=habits.busy_hour, help="share of a day's visits in its busiest hour"
    )
    parser.add_argument("--cpu-ms", type=float, default=Costs().cpu_ms_per_turn, help="processor time of a turn, ms")
    parser.add_argument("--standing", action="store_true", help="devices are connected all day (MQTT)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables with the usual figures into a page")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace, console: Console) -> int:
    """Print the table, or write it."""
    if options.write is not None:
        write(options.write)
        return 0
    habits = Habits(options.visits, options.turns, options.busy_hour)
    costs = Costs(cpu_ms_per_turn=options.cpu_ms)
    table = Table(show_edge=False, pad_edge=False)
    needs = [plan(count, habits, costs, standing=options.standing) for count in options.devices]
    table.add_column("")
    for _ in needs:
        table.add_column(justify="right")
    for column, *row in zip(COLUMNS, *(cells(need) for need in needs), strict=True):
        table.add_row(column, *row)
    console.print(table)
    return 0
