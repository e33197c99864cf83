"""`server.py models ...`: the models that run on this machine, on the terminal. They need no configuration: a missing
model makes one faulty."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console as Screen
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from xiaozhi.app.banner import width
from xiaozhi.models.catalogue import FOLDER, MODELS, KnownModel, known_model
from xiaozhi.models.fetching import FetchedModel, FetchFailed, fetch, is_here

USAGE = ("models list", "models fetch NAME [--from FILE] [--into FOLDER]")
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def is_model_command(words: Sequence[str]) -> bool:
    """Whether these words of a command line are one of `USAGE`."""
    return list(words) == ["models", "list"] or is_fetch(words)


def is_fetch(words: Sequence[str]) -> bool:
    """Whether they are the one that takes --from and --into."""
    return len(words) == 3 and list(words[:2]) == ["models", "fetch"]


def run(words: Sequence[str], source: str | None, into: str | None) -> int:
    """Carry out one of `USAGE`; the exit code. `source`, `into`: of --from and --into."""
    if words[1] == "list":
        _list()
        return 0
    model = known_model(words[2])
    if model is None:
        names = ", ".join(each.name for each in MODELS)
        print(f"There is no model {words[2]!r} in the list; there are: {names}", file=sys.stderr)
        return EXIT_FAILED
    return _fetch(model, Path(source) if source else None, Path(into) if into else FOLDER / model.folder)


def _list() -> None:
    rows = [("NAME", "FOR", "LANGUAGES", "MB", "LICENCE", "SET-UP", "FOLDER")]
    rows += [
        (
            model.name,
            model.what,
            model.languages,
            f"{model.size / 1e6:.0f}",
            model.licence,
            f"make setup WITH={model.needs}",
            f"{FOLDER / model.folder}{' (here)' if is_here(model, FOLDER / model.folder) else ''}",
        )
        for model in MODELS
    ]
    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell + " " * (most - width(cell)) for cell, most in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _fetch(model: KnownModel, source: Path | None, folder: Path) -> int:
    print(f"{model.name}: {model.size / 1e6:.0f} MB, licence: {model.licence}")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Screen(stderr=True)) as bar:
        tasks: dict[str, int] = {}

        def report(file: str, have: int, total: int) -> None:
            task = tasks.get(file)
            if task is None:
                task = tasks[file] = bar.add_task(file)
            bar.update(task, completed=have, total=total or None)  # type: ignore[arg-type]

        try:
            done = fetch(model, folder, report, source=source)
        except (FetchFailed, OSError) as error:
            bar.stop()
            print(error, file=sys.stderr)
            return EXIT_FAILED
        except KeyboardInterrupt:
            bar.stop()
            print("Interrupted; the same command goes on where it stopped.", file=sys.stderr)
            return EXIT_INTERRUPTED
    _tell(model, done)
    return 0


def _tell(model: KnownModel, done: FetchedModel) -> None:
    print(f"{model.name} is in {done.folder}. Its library: make setup WITH={model.needs}")
    for name, sha256 in done.unproven.items():
        print(f"No checksum of {name} was published; the one of this download is SHA-256 {sha256}")
