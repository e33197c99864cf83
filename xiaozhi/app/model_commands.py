"""`server.py models ...`: the models that run on this machine, on the terminal. They need no configuration: a missing
model makes one faulty."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console as Screen
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from xiaozhi.app.banner import width
from xiaozhi.models.catalogue import DEFAULT, FOLDER, MODELS, named
from xiaozhi.models.downloading import Unreachable
from xiaozhi.models.entries import KnownModel
from xiaozhi.models.fetching import FetchedModel, FetchFailed, damaged, fetch, is_here
from xiaozhi.models.packages import Report

USAGE = (
    "models list",
    "models fetch NAME [--from FILE] [--into FOLDER]",
    f"models fetch {DEFAULT} [--into FOLDER]",
    "models verify [NAME]",
)
_WORTH_TELLING = 10_000_000
"""Bytes of a file."""
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def is_model_command(words: Sequence[str]) -> bool:
    """Whether these words of a command line are one of `USAGE`."""
    return (
        list(words) == ["models", "list"]
        or is_fetch(words)
        or (list(words[:2]) == ["models", "verify"] and len(words) <= 3)
    )


def is_fetch(words: Sequence[str]) -> bool:
    """Whether they are the one that takes --from and --into."""
    return len(words) == 3 and list(words[:2]) == ["models", "fetch"]


def run(words: Sequence[str], source: str | None, into: str | None) -> int:
    """Carry out one of `USAGE`; the exit code. `source`, `into`: of --from and --into."""
    if words[1] == "list":
        _list()
        return 0
    if words[1:] == ["verify"]:
        return _verify(MODELS, only_here=True)
    models = named(words[2])
    if not models:
        names = ", ".join(each.name for each in MODELS)
        print(f"There is no model {words[2]!r} in the list; there are: {names}", file=sys.stderr)
        return EXIT_FAILED
    if words[1] == "verify":
        return _verify(models, only_here=False)
    if words[2] == DEFAULT:
        if source:
            print("--from is for one model", file=sys.stderr)
            return EXIT_FAILED
        return _fetch_missing(models, Path(into) if into else FOLDER)
    return _fetch(models[0], Path(source) if source else None, Path(into) if into else FOLDER / models[0].folder)


def _fetch_missing(models: Sequence[KnownModel], parent: Path) -> int:
    """What is here already is left alone; a model that cannot be had does not keep the others away."""
    missing = [model for model in models if not is_here(model, parent / model.folder)]
    if missing:
        size = sum(model.size for model in missing) / 1e6
        print(f"Fetching {len(missing)} models, {size:.0f} MB, that hear and speak Chinese and English.", flush=True)
    unreachable: Unreachable = set()
    worst = 0
    for model in missing:
        code = _fetch(model, None, parent / model.folder, unreachable)
        if code == EXIT_INTERRUPTED:
            return code
        worst = max(worst, code)
    return worst


def _verify(models: Sequence[KnownModel], *, only_here: bool) -> int:
    """Compare the files in the models folder with their checksums."""
    worst = 0
    for model in models:
        folder = FOLDER / model.folder
        if not model.checksums or (only_here and not folder.is_dir()):
            continue
        wrong = damaged(model, folder)
        told = f"missing or damaged: {', '.join(wrong)}; server.py models fetch {model.name}" if wrong else "whole"
        print(f"{model.name}: {told}")
        worst = max(worst, EXIT_FAILED if wrong else 0)
    return worst


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


def _fetch(model: KnownModel, source: Path | None, folder: Path, unreachable: Unreachable | None = None) -> int:
    print(f"{model.name}: {model.size / 1e6:.0f} MB, licence: {model.licence}")
    with _shown_progress() as report:
        try:
            done = fetch(model, folder, report, source=source, unreachable=unreachable)
        except (FetchFailed, OSError) as error:
            print(error, file=sys.stderr)
            return EXIT_FAILED
        except KeyboardInterrupt:
            print("Interrupted; the same command goes on where it stopped.", file=sys.stderr)
            return EXIT_INTERRUPTED
    _tell(model, done)
    return 0


@contextmanager
def _shown_progress() -> Iterator[Report]:
    """A bar for each file on a terminal; a line for every tenth where the output goes into a file or another
    programme."""
    if not sys.stderr.isatty():
        yield _TenthLines().report
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Screen(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def report(file: str, have: int, total: int) -> None:
            task = tasks.get(file)
            if task is None:
                task = tasks[file] = bar.add_task(file)
            bar.update(task, completed=have, total=total or None)

        yield report


class _TenthLines:
    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def report(self, file: str, have: int, total: int) -> None:
        """Only of files that take a while."""
        tenth = 10 * have // total if total > _WORTH_TELLING else 0
        if tenth > self._told.get(file, 0):
            self._told[file] = tenth
            print(f"{file}: {10 * tenth} % of {total / 1e6:.0f} MB", file=sys.stderr, flush=True)


def _tell(model: KnownModel, done: FetchedModel) -> None:
    print(f"{model.name} is in {done.folder}. Its library: make setup WITH={model.needs}")
    for name, sha256 in done.unproven.items():
        print(f"No checksum of {name} was published; the one of this download is SHA-256 {sha256}")
