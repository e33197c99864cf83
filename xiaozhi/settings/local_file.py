"""The owner's file, config/local.yaml: read, replaced whole or not at all, with numbered copies of what it was before.

It holds keys: it and its copies are readable by their owner only. Whoever replaces it says what they have read; if it
is something else by now, nothing is written. Blocks for the disk: call it in a thread.

Not what stands in it (`yaml_edit.py`), nor whether that can be used (`loading.py`)."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xiaozhi.errors import XiaozhiError
from xiaozhi.settings.yaml_reader import MAX_BYTES

NAME: Final = "local.yaml"
KEPT: Final = 10
"""Copies of earlier texts."""
_COPY = re.compile(r"backup-(\d{6})")


class FileChanged(XiaozhiError):
    """Somebody else has changed the file, or is just doing so."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"somebody else has changed {path}; load it again")


class FileUnusable(XiaozhiError):
    """The file cannot be read or replaced; says why."""


@dataclass(frozen=True, slots=True)
class FileText:
    """What stands in the file; "" where there is none. `digest`: what `replace` asks for."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class EarlierText:
    """A copy of what stood there. `at`: when it was replaced, seconds since 1970."""

    number: int
    at: float


class LocalFile:
    """One file, which need not be there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = Path(os.path.realpath(path))  # a link stays a link

    def read(self) -> FileText:
        """What stands there now. Raises FileUnusable."""
        try:
            data = self._real.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise self._unusable(error) from error
        return self._text(data)

    def replace(self, text: str, seen: str) -> str:
        """Put `text` there, if `seen` is the digest of what stands there; an empty one takes the file away. Gives the
        new digest. Raises FileChanged, FileUnusable."""
        try:
            with self._locked():
                before = self.read()
                if before.digest != seen:
                    raise FileChanged(self.path)
                if before.text == text:
                    return seen
                self._keep_copy(before.text)
                if text:
                    self._write(self._real, text)
                else:
                    self._real.unlink(missing_ok=True)
                return self.read().digest
        except OSError as error:
            raise self._unusable(error) from error

    def earlier(self) -> list[EarlierText]:
        """The copies, newest first."""
        found = []
        for path in self._copies():
            try:
                found.append(EarlierText(_number(path), path.stat().st_mtime))
            except FileNotFoundError:  # another worker has just removed the oldest
                continue
        return found

    def earlier_text(self, number: int) -> str:
        """What a copy holds. Raises FileUnusable when it is gone."""
        try:
            return self._copy(number).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FileUnusable(f"there is no copy {number} of {self.path} any more") from error

    def refusal(self) -> str:
        """Why the file cannot be replaced, "" when it can."""
        folder = self._real.parent
        if os.path.ismount(self._real):
            return f"{self.path} is mounted as a single file; mount its folder instead, then it can be replaced"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"{folder} cannot be written by the server"
        if self._real.exists() and not os.access(self._real, os.R_OK):
            return f"{self.path} cannot be read by the server"
        return ""

    def _text(self, data: bytes) -> FileText:
        if len(data) > MAX_BYTES:
            raise FileUnusable(f"{self.path} is larger than {MAX_BYTES} bytes")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FileUnusable(f"{self.path} is not text in UTF-8; save it with that encoding") from error
        return FileText(text, hashlib.sha256(data).hexdigest())

    def _keep_copy(self, text: str) -> None:
        copies = self._copies()
        self._write(self._copy(_number(copies[0]) + 1 if copies else 1), text)
        for path in copies[KEPT - 1 :]:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        """Whole or not at all, readable by its owner only."""
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Against other workers; editors know nothing of it, and have the digest against them. Raises
        FileChanged when somebody else is at it."""
        descriptor = os.open(self._real.with_name(f".{self._real.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise FileChanged(self.path) from None
        finally:
            os.close(descriptor)

    def _copies(self) -> list[Path]:
        """Newest first."""
        found = [path for path in self._real.parent.glob(f"{self._real.name}.backup-*") if _number(path)]
        return sorted(found, key=_number, reverse=True)

    def _copy(self, number: int) -> Path:
        return self._real.with_name(f"{self._real.name}.backup-{number:06d}")

    def _unusable(self, error: OSError) -> FileUnusable:
        return FileUnusable(f"{error.filename or self.path}: {error.strerror or error}")


def _number(path: Path) -> int:
    """The number of a copy; 0 for another file."""
    found = _COPY.fullmatch(path.name.rpartition(".")[2])
    return int(found[1]) if found is not None else 0
