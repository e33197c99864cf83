"""Brings a model of the catalogue to its folder: from its mirrors, or from files that somebody carried here.

A model appears whole or not at all: its files are gathered in `.fetch` beside its folder and moved there at the end.
What an interrupted download has stays in `.fetch`, for the next try. For a person at a terminal, as `downloading`."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xiaozhi.models.catalogue import KnownModel, ModelFile
from xiaozhi.models.downloading import USUAL, DownloadFailed, Patience, download, sha256_of
from xiaozhi.models.unpacking import BadArchive, is_archive, unpack

WORK_FOLDER = ".fetch"
_ROOM = 64 * 1024 * 1024
"""Bytes that stay free on the disk."""

Report = Callable[[str, int, int], None]
"""(file, bytes that are here, bytes in all or 0)."""


class FetchFailed(Exception):
    """The model could not be brought; the message says why, and what to do."""


@dataclass(slots=True)
class FetchedModel:
    """What was done. `unproven`: name -> SHA-256 of files for which the catalogue has none to compare with."""

    folder: Path
    unproven: dict[str, str] = field(default_factory=dict)


def fetch(
    model: KnownModel,
    folder: Path,
    report: Report,
    *,
    source: Path | None = None,
    patience: Patience = USUAL,
) -> FetchedModel:
    """Bring `model` to `folder`. `source`: a file or folder with what its mirrors publish, in place of the network.

    Raises FetchFailed, OSError."""
    work = folder.parent / WORK_FOLDER
    staged = work / f"{folder.name}.new"
    _make_room(model, folder.parent)
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    done = FetchedModel(folder)
    try:
        given = _given(model, source, work) if source is not None else {}
        for file in model.files:
            _bring(file, given, staged, work, done, report, patience)
        _place(staged, folder)
    except DownloadFailed as failed:
        raise FetchFailed(f"{failed}\n{_advice(model)}") from failed
    except BadArchive as bad:
        raise FetchFailed(f"the archive is no good: {bad}") from bad
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(work / _CARRIED, ignore_errors=True)
        _remove_if_empty(work)
    return done


def is_here(model: KnownModel, folder: Path) -> bool:
    """Whether `folder` has the files of `model`, not whether they are whole."""
    return all((folder / file.name).is_file() or file.unpack for file in model.files) and any(
        path.stat().st_size > 1_000 for path in folder.rglob("*") if path.is_file()
    )


_CARRIED = "carried"


def _given(model: KnownModel, source: Path, work: Path) -> Mapping[str, Path]:
    """The files of `model` that `source` has: name -> path. An archive that is not the model's own is looked into."""
    names = {file.name for file in model.files}
    if source.is_dir():
        found = {path.name: path for path in sorted(source.rglob("*")) if path.name in names and path.is_file()}
    elif not source.is_file():
        raise FetchFailed(f"{source} is not there")
    elif source.name in names:
        found = {source.name: source}
    elif is_archive(source) and any(not file.unpack for file in model.files):
        carried = work / _CARRIED
        shutil.rmtree(carried, ignore_errors=True)
        carried.mkdir()
        unpack(source, carried)
        found = dict(_given(model, carried, work))
    elif len(names) == 1:
        found = dict.fromkeys(names, source)  # it may have been renamed; the checksum knows it
    else:
        found = {}
    missing = sorted(names - found.keys())
    if missing:
        raise FetchFailed(f"{source} has no {', '.join(missing)}.\n{_advice(model)}")
    return found


def _bring(
    file: ModelFile,
    given: Mapping[str, Path],
    staged: Path,
    work: Path,
    done: FetchedModel,
    report: Report,
    patience: Patience,
) -> None:
    path = given.get(file.name)
    part = work / f"{file.sha256[:16] or 'unproven'}-{Path(file.name).name}.part"
    if path is None:
        found = download(file, part, lambda have, total: report(file.name, have, total), patience)
        path = part
    else:
        found = sha256_of(path)
        if file.sha256 and found != file.sha256:
            raise FetchFailed(f"{path} is damaged, or another file: its SHA-256 is {found}, not {file.sha256}")
    if not file.sha256:
        done.unproven[file.name] = found
    target = staged / file.name
    if file.unpack:
        report(f"unpacking {file.name}", 0, 0)
        inner = staged.with_name(f"{staged.name}.archive")
        shutil.rmtree(inner, ignore_errors=True)
        inner.mkdir()
        try:
            unpack(path, inner)
            _place(inner, staged)
        finally:
            shutil.rmtree(inner, ignore_errors=True)
        part.unlink(missing_ok=True)
    elif path is part:
        part.rename(target)
    else:
        shutil.copyfile(path, target)


def _place(source: Path, folder: Path) -> None:
    """Move everything below `source` to `folder`, over what is there; by one rename where nothing is."""
    if not folder.exists():
        source.rename(folder)
        return
    for path in sorted(source.rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def _make_room(model: KnownModel, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sum(file.size * (3 if file.unpack else 1) for file in model.files) + _ROOM
    free = shutil.disk_usage(folder).free
    if free < wanted:
        message = f"{wanted / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free"
        raise OSError(errno.ENOSPC, message, str(folder))


def _remove_if_empty(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _advice(model: KnownModel) -> str:
    lines = [f"  {file.sources[0]}" for file in model.files]
    return "\n".join(
        ["A machine that can reach them may fetch these, and `--from` takes the file, or the folder with them:", *lines]
    )
