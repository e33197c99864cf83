"""Archives of models (tar with any compression, zip) to a folder, as strangers' archives are unpacked: nothing outside
the folder, nothing but plain files, within a bound.

Not `extractall`: its checks depend on the Python release, and it knows no bound."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

MAX_FILES = 20_000
MAX_BYTES = 8 * 1024**3
"""Of everything in an archive, unpacked. The largest model of the catalogue is a twentieth of it."""
_PIECE = 1024 * 1024
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
_SIGNS = {b"PK\x03\x04": "zip", b"BZh": "tar", b"\x1f\x8b": "tar", b"\xfd7zXZ": "tar"}


class BadArchive(Exception):
    """The archive is damaged, or holds what no model needs: the message says what."""


def is_archive(path: Path) -> bool:
    """Whether a file is one that `unpack` takes, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(6)
    return any(head.startswith(sign) for sign in _SIGNS) or tarfile.is_tarfile(path)


def unpack(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Write the files of `archive` below `folder`; when all of them lie in one folder, without that one.

    Raises BadArchive, OSError. What was written until then stays."""
    left = max_bytes
    try:
        with archive.open("rb") as file:
            zipped = file.read(4).startswith(b"PK")
        members = _of_zip(archive) if zipped else _of_tar(archive)
        for count, (name, content) in enumerate(members):
            if count >= MAX_FILES:
                raise BadArchive(f"more than {MAX_FILES} files")
            path = _inside(name)
            if not path.name.startswith("._"):  # what macOS adds
                left -= _write(content, folder / path, left)
    except _DAMAGED as error:
        raise BadArchive(f"it cannot be read: {error}") from error
    except FileExistsError as error:
        raise BadArchive("it holds a file twice") from error
    except OSError as error:
        if error.errno is None:  # bz2 says so of damaged data
            raise BadArchive(f"it cannot be read: {error}") from error
        raise
    _lift(folder)


def extract(archive: Path, name: str, target: IO[bytes], *, max_bytes: int = MAX_BYTES) -> None:
    """Append one file of an archive to `target`. Raises BadArchive (also when it has no such file), OSError."""
    try:
        with archive.open("rb") as file:
            zipped = file.read(4).startswith(b"PK")
        for found, content in _of_zip(archive, name) if zipped else _of_tar(archive):
            if found == name:
                _copy(content, target, max_bytes)
                return
    except _DAMAGED as error:
        raise BadArchive(f"it cannot be read: {error}") from error
    raise BadArchive(f"{name} is not in {archive.name}")


def _of_tar(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                raise BadArchive(f"{member.name[:200]!r} is no plain file")
            with content:
                yield member.name, content


def _of_zip(path: Path, only: str = "") -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and only in ("", member.filename):
                with archive.open(member) as content:
                    yield member.filename, content


def _inside(name: str) -> PurePosixPath:
    """A member's path, which must not lead out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or "\0" in name:
        raise BadArchive(f"{name[:200]!r} leads out of its folder")
    return path


def _write(content: IO[bytes], target: Path, most: int) -> int:
    """Bytes written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        return _copy(content, file, most)


def _copy(content: IO[bytes], target: IO[bytes], most: int) -> int:
    written = 0
    while piece := content.read(_PIECE):
        written += len(piece)
        if written > most:
            raise BadArchive("it holds more than a model may")
        target.write(piece)
    return written


def _lift(folder: Path) -> None:
    """An only folder gives way to what is in it."""
    inner = list(folder.iterdir())
    if len(inner) == 1 and inner[0].is_dir():
        only = inner[0].rename(folder / ".only")
        for path in list(only.iterdir()):
            path.rename(folder / path.name)
        only.rmdir()
