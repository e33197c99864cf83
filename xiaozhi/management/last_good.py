"""The last good answers of the console, on this machine, for the time in which it cannot be asked.

They hold secrets (keys of vendors), so the directory is its owner's alone (0700), and so are the files (0600). One file
per device, named by a digest of its id; a file appears whole or not at all. Blocks for the disk, and uses nothing of
gevent: not for the hub."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

DIRECTORY: Final = "console"
SERVER: Final = "server"
"""The key of what is said of the server itself; devices go by their ids."""
_NAME_CHARS: Final = 40


class LastGood:
    """Answers by key: SERVER, or the id of a device. `data_dir`: where everything is that must survive a restart.
    Raises OSError."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / DIRECTORY

    def read(self, key: str) -> dict[str, Any] | None:
        """The last good answer; None when there is none that can be read."""
        try:
            kept = orjson.loads(self._path(key).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        return kept if isinstance(kept, dict) else None

    def write(self, key: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer, in the place of the one before."""
        path = self._path(key)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(answer))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """The console does not know it any more."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        name = key if key == SERVER else hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_CHARS]
        return self._directory / f"{name}.json"
