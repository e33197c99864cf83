"""Measures the parts and prints a table with aims and verdicts: `python -m loadtest.bench`, or `make bench ONLY=turns`.

Every module beside this one that has `rows()` takes part; a row is (name, value, unit, aim), where an aim is "" or a
comparison such as "< 600". Each module runs in a process of its own, so that what one has loaded does not weigh on the
next. Nothing here is a test: a missed aim is shown, not punished."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import argparse
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest import ROOT, bench
from loadtest.measure.run import REPORTS
from loadtest.report import machine

Row = tuple[str, float | None, str, str]

ORDER = (
    *("ears", "echo", "endpointing", "vendors", "streams", "offline", "offline_commands", "open_speech", "voices"),
    *("offline_bars", "offline_memory", "tools", "connections", "turns", "history", "ops"),
)
_AIM = re.compile(r"\s*(<=|>=|<|>|≤|≥)\s*([\d.]+)")


def names() -> list[str]:
    """Modules with rows, in the order a turn passes them; unknown ones last."""
    found = [module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_")]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def chosen(only: str) -> list[str]:
    """`only`: modules, or module.function, separated by commas; "" is all. Raises ValueError."""
    wanted = [part.strip() for part in only.split(",") if part.strip()]
    for part in wanted:
        if part.partition(".")[0] not in names():
            raise ValueError(f"no such bench: {part}; there are {', '.join(names())}")
    return wanted or names()


def met(value: float | None, aim: str) -> bool | None:
    """Whether the aim is met; None when there is no aim or nothing was measured."""
    found = _AIM.match(aim)
    if found is None or value is None:
        return None
    limit = float(found[2])
    match found[1]:
        case "<":
            return value < limit
        case ">":
            return value > limit
        case "<=" | "≤":
            return value <= limit
        case _:
            return value >= limit


def shown(value: float | None) -> str:
    """Four digits at most, unless they all stand before the point."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.4g}"


def measure(name: str) -> list[Row]:
    """The rows of a module (or of one function of it), measured in a child. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        done = subprocess.run(
            [sys.executable, "-m", "loadtest.bench", "--rows-to", str(path), "--only", name], cwd=ROOT, check=False
        )
        if done.returncode or not path.exists():
            raise RuntimeError(f"{name} ended with code {done.returncode}; see above")
        return [(str(row[0]), row[1], str(row[2]), str(row[3])) for row in json.loads(path.read_text(encoding="utf-8"))]


def _measure_here(name: str) -> list[Row]:
    module_name, _, function = name.partition(".")
    module = importlib.import_module(f"loadtest.bench.{module_name}")
    return [tuple(row) for row in getattr(module, function or "rows")()]


def table_of(name: str, found: Sequence[Row]) -> Table:
    """One bench as a table."""
    table = Table(title=name, title_justify="left", show_edge=False, pad_edge=False, expand=False)
    table.add_column("what", overflow="fold")
    for title in ("measured", "unit", "aim", ""):
        table.add_column(title, justify="right" if title == "measured" else "left", no_wrap=True)
    for what, value, unit, aim in found:
        good = met(value, aim)
        verdict = "" if good is None else "[green]met[/green]" if good else "[red]missed[/red]"
        table.add_row(escape(what), shown(value), unit, escape(aim), verdict)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """0 unless a bench broke down."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument(
        "--only",
        default=os.environ.get("ONLY", ""),
        metavar="NAME[,NAME]",
        help=f"of {', '.join(names())} (default: all)",
    )
    parser.add_argument(
        "--json", type=Path, default=REPORTS / "bench.json", metavar="FILE", help=f"(default: {REPORTS / 'bench.json'})"
    )
    parser.add_argument("--rows-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        wanted = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    if options.rows_to is not None:
        options.rows_to.write_text(
            json.dumps([row for name in wanted for row in _measure_here(name)]), encoding="utf-8"
        )
        return 0
    about = machine.describe()
    console.print(machine.in_words(about), soft_wrap=True)
    results: list[dict[str, Any]] = []
    broken = 0
    for name in wanted:
        began = time.monotonic()
        try:
            found = measure(name)
        except RuntimeError as error:
            console.print(f"[red]{escape(str(error))}[/red]")
            broken += 1
            continue
        seconds = time.monotonic() - began
        console.print()
        console.print(table_of(f"{name} ({seconds:.0f} s)", found))
        results += [
            {"bench": name, "name": row[0], "value": row[1], "unit": row[2], "aim": row[3], "met": met(row[1], row[3])}
            for row in found
        ]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": about, "rows": results}, indent=1), encoding="utf-8")
    missed = [row["name"] for row in results if row["met"] is False]
    console.print(f"\n{len(results)} rows, {len(missed)} aims missed; written: {options.json}", soft_wrap=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
