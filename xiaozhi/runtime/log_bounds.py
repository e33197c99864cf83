"""What keeps others from doing harm through our log: nothing in a line can act on a terminal or pass for another line,
and nobody makes lines without end.

Not redaction (`redaction.py`: what must not be said at all). Device ids, reasons, names of boards and vendors' errors
come from outside; every field is taken to."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog
from cachetools import LRUCache

from xiaozhi.runtime.limits import TokenBucket

SOURCE_LINES: Final = 20
"""Lines of one kind about one device (or address) that may come at once."""
SOURCE_LINES_PER_SECOND: Final = 0.5
KIND_LINES: Final = 1_000
"""Lines of one kind that may come at once: all devices may leave in the same moment."""
KIND_LINES_PER_SECOND: Final = 50.0
MAX_SOURCES: Final = 4_096
"""Sources that are remembered; the least recent get a fresh allowance."""
_MAX_NAME_CHARS: Final = 80
_MULTILINE: Final = ("exception", "stack")
_SOURCES: Final = ("peer", "device")


def printable(text: str) -> str:
    """`text` with everything escaped that is not to be seen: control characters, C1, line and paragraph separators,
    marks of direction, halves of surrogate pairs."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])


def printable_lines(text: str) -> str:
    """The same for a text of several lines, each of them marked: none passes for a line of the log."""
    return "\n".join([f"| {printable(line.expandtabs())}" for line in text.split("\n")])


def printable_json(line: str) -> str:
    """One line of JSON with the same characters escaped as JSON does."""
    if line.isprintable():
        return line
    return "".join([char if char.isprintable() else _json_escape(char) for char in line])


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join([f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)])


def printable_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor, the last before lines for people are rendered."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable_lines(value) if key in _MULTILINE else printable(value)
        elif value is not None and not isinstance(value, bool | int | float):
            event[key] = printable(str(value))
    return event


class _Lines(TokenBucket):
    __slots__ = ("suppressed",)

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        super().__init__(per_second, burst, now)
        self.suppressed = 0


class LineRates:
    """A structlog processor that drops lines which come too fast, by event and by whom they are about. The next line
    that is written says how many were not (`suppressed`). Lines of level DEBUG were asked for, and all written."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of_kind: LRUCache[str, _Lines] = LRUCache(MAX_SOURCES)
        self._of_source: LRUCache[tuple[str, str], _Lines] = LRUCache(MAX_SOURCES)

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """See the class. Raises DropEvent."""
        if method == "debug":
            return event
        now = self._clock()
        kind = str(event.get("event"))[:_MAX_NAME_CHARS]
        source = next((str(event[field])[:_MAX_NAME_CHARS] for field in _SOURCES if event.get(field)), "")
        lines = self._of_kind.get(kind)
        if lines is None:
            lines = self._of_kind[kind] = _Lines(KIND_LINES_PER_SECOND, KIND_LINES, now)
        if source:
            own = self._of_source.get((kind, source))
            if own is None:
                own = self._of_source[kind, source] = _Lines(SOURCE_LINES_PER_SECOND, SOURCE_LINES, now)
            if not own.take(now):
                lines.suppressed += 1
                raise structlog.DropEvent
        if not lines.take(now):
            lines.suppressed += 1
            raise structlog.DropEvent
        if lines.suppressed:
            event["suppressed"], lines.suppressed = lines.suppressed, 0
        return event
