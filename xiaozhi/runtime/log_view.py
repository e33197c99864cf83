"""Looking at log lines: those to come, for whoever listens, and the last ones of a file.

Nothing is formatted, kept or read while nobody looks. Lines are as on disk, redaction included."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
MAX_SCANNED: Final = 8 * 1024 * 1024
"""Bytes of files that one question looks through."""
MAX_LINE: Final = 64 * 1024
_BLOCK: Final = 128 * 1024
_IDS: Final = ("trace", "session")


class LogTap(logging.Handler):
    """Gives lines (JSON) to a listener while it wants them; the comparison is all that others cost."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: Callable[[], bool] = lambda: False
        self.take: Callable[[str], None] = lambda line: None

    def handle(self, record: logging.LogRecord) -> bool:
        """One line, in the hub's thread; without a lock, which belongs to handlers that write."""
        if self.wanted():
            self.take(self.format(record))
        return True


@dataclass(frozen=True, slots=True)
class LineFilter:
    """`level`: the least severe. `device`: part of its id. `id`: of a trace or a session. `text`: anywhere in
    the line. `before`: lines older than this time, as lines give it. "" for any."""

    level: str = ""
    device: str = ""
    id: str = ""
    text: str = ""
    before: str = ""

    def takes(self, line: Mapping[str, Any]) -> bool:
        """Whether a parsed line is one of those; `text` has been looked for in its letters."""
        if self.level in LEVELS:
            level = str(line.get("level", "info"))
            if level in LEVELS and LEVELS.index(level) < LEVELS.index(self.level):
                return False
        if self.device and self.device.casefold() not in str(line.get("device", "")).casefold():
            return False
        if self.id and not any(str(line.get(key, "")) == self.id for key in _IDS):
            return False
        return not self.before or str(line.get("timestamp", "")) < self.before


def last_lines(path: Path, wanted: LineFilter, count: int) -> tuple[list[dict[str, Any]], bool]:
    """(the last `count` lines that `wanted` takes, oldest first; whether there may be more) of a log file and those
    that it was rotated into. Blocks for the disk; raises OSError for a file that is there and cannot be read."""
    found: list[dict[str, Any]] = []
    text = wanted.text.casefold()
    for raw in _backwards(path):
        if text and text not in raw.decode("utf-8", "replace").casefold():
            continue
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue  # the end of a line that was cut by a full disk
        if not isinstance(line, dict) or not wanted.takes(line):
            continue
        if len(found) == count:
            return found[::-1], True
        found.append(line)
    return found[::-1], False


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file and of its older ones, the last first, within `MAX_SCANNED` bytes."""
    left = MAX_SCANNED
    number = 0
    while left > 0:
        part = path if not number else path.with_name(f"{path.name}.{number}")
        try:
            file = part.open("rb")
        except FileNotFoundError:
            return
        number += 1
        with file:
            at = file.seek(0, 2)
            rest = b""
            while at > 0 and left > 0:
                size = min(_BLOCK, at)
                at -= size
                left -= size
                file.seek(at)
                first, *lines = (file.read(size) + rest).split(b"\n")
                yield from (line for line in reversed(lines) if line.strip() and len(line) <= MAX_LINE)
                rest = first if len(first) <= MAX_LINE else b""
            if at == 0 and rest.strip():
                yield rest
