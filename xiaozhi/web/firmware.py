"""The firmware files that devices may be offered: `<model>_<version>.bin` in one directory, newest by number.

Not an upload and not a store of versions: whoever runs the server puts files there. A version is compared the way the
firmware does it (numbers between dots, main/ota.cc of 78/xiaozhi-esp32), and one that the firmware's number parser
could not read is never offered: it would crash there.

A file may be offered to some devices only (`Release`): a share of them, the same ones for as long as the file is there,
of which a larger share is a superset; and by name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".bin"
# Each part must begin with a number, and the number must fit 32 bits. All matched whole (fullmatch): "$" would let a
# newline pass.
_PART = r"[0-9]{1,9}(?:[A-Za-z-][A-Za-z0-9-]{0,20})?"
_VERSION = re.compile(rf"{_PART}(?:\.{_PART}){{0,7}}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.bin")
_LEADING_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Firmware:
    """One file on offer."""

    version: str
    file_name: str
    force: bool = False
    """The device is to install it though it is not newer."""


@dataclass(frozen=True, slots=True)
class Release:
    """Who is offered a file. `devices`: ids in their normal form."""

    percent: int = 100
    devices: frozenset[str] = frozenset()
    force: bool = False

    def reaches(self, device: str, file_name: str) -> bool:
        """Whether this device is offered the file."""
        if self.percent >= 100 or device in self.devices:
            return True
        digest = hashlib.sha256(f"{file_name}|{device}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 100 < self.percent


TO_ALL = Release()


def parse_version(text: str) -> tuple[int, ...] | None:
    """ "1.2.10" -> (1, 2, 10), letters after the numbers left out; None when it is no version that devices can
    compare."""
    if not _VERSION.fullmatch(text):
        return None
    return tuple(int(match.group()) for part in text.split(".") if (match := _LEADING_NUMBER.match(part)))


def is_newer(candidate: tuple[int, ...], current: tuple[int, ...]) -> bool:
    """Whether a device that runs `current` would take `candidate` for newer; missing parts count as 0."""
    width = max(len(candidate), len(current))
    return candidate + (0,) * (width - len(candidate)) > current + (0,) * (width - len(current))


def _equal(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return not is_newer(one, other) and not is_newer(other, one)


class FirmwareShelf:
    """The directory, listed again whenever its modification time changes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stamp: int | None = None
        self._names: tuple[str, ...] = ()

    def newest(
        self, model: str, current: str, device: str = "", release: Callable[[str], Release] = lambda name: TO_ALL
    ) -> Firmware | None:
        """The newest file for exactly this model that the device is offered, if it is newer than `current`; None
        otherwise, also when `current` is no version. A file that is forced goes before all others, and is offered to
        whoever does not run it. `release`: to whom a file is offered, by its name."""
        running = parse_version(current)
        if running is None or not model:
            return None
        forced: tuple[tuple[int, ...], Firmware] | None = None
        best: Firmware | None = None
        best_version = running
        prefix = f"{model}_"
        for name in self._listed():
            if not name.startswith(prefix):
                continue
            # The rest must be a version and nothing else: `board_2_1.0.bin` is for `board_2`, not for `board`.
            text = name[len(prefix) : -len(SUFFIX)]
            version = parse_version(text)
            if version is None:
                continue
            to_whom = release(name)
            if not to_whom.reaches(device, name):
                continue
            if to_whom.force and (forced is None or is_newer(version, forced[0])):
                forced = version, Firmware(text, name, force=True)
            if is_newer(version, best_version):
                best, best_version = Firmware(text, name), version
        if forced is not None:
            # Whoever runs it has what is wanted, and "force" once more would install it for ever.
            return None if _equal(forced[0], running) else forced[1]
        return best

    def path(self, file_name: str) -> Path | None:
        """The file of this name, if it is a regular file of this directory and called like firmware; None otherwise."""
        if not _FILE.fullmatch(file_name):
            return None
        root = self._directory.resolve()
        path = root / file_name
        # A link out of the directory is no firmware of ours.
        if path.resolve().parent != root or not path.is_file():
            return None
        return path

    def _listed(self) -> tuple[str, ...]:
        try:
            stamp = os.stat(self._directory).st_mtime_ns
        except OSError:
            self._stamp, self._names = None, ()
            return ()
        if stamp != self._stamp:
            self._names = tuple(sorted(name for name in os.listdir(self._directory) if _FILE.fullmatch(name)))
            self._stamp = stamp
        return self._names
