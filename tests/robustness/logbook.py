"""Reads the log as an operator would: no stack trace, no secret, nothing of what was said, and not a line per misdeed.

Not a log: a line is looked at and dropped, so that what is measured about memory is the server's.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import gevent
import structlog

from xiaozhi.runtime.logs import redaction

SAID = "plugh"
"""A word in everything that devices of these tests say, and in what they are answered."""
SECRET = "xyzzy"
"""A word in every secret."""
MAX_KEPT = 20


class Logbook(logging.Handler):
    """A structlog processor behind the real redaction, a handler of the standard log, and what gevent tells about dead
    greenlets."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: Counter[str] = Counter()
        """Lines by event."""
        self.traces: list[str] = []
        self.betrayals: list[str] = []
        """Lines with a secret, or with what was said."""

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        self.lines[str(event.get("event"))] += 1
        self._read(repr(event), str(event.get("exception", "")))
        raise structlog.DropEvent

    def emit(self, record: logging.LogRecord) -> None:
        """A line of a library."""
        self.lines[record.name] += 1
        self._read(
            record.getMessage(), "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        )

    def died(self, context: object, *error: Any) -> None:
        """A greenlet, or a callback of the hub, has ended by an error nobody caught."""
        self._read(
            "", f"{context!r}: {''.join(traceback.format_exception(*error)) if error[1] is not None else error[0]}"
        )

    def _read(self, line: str, trace: str) -> None:
        if trace and len(self.traces) < MAX_KEPT:
            self.traces.append(trace)
        if (SAID in line or SECRET in line) and len(self.betrayals) < MAX_KEPT:
            self.betrayals.append(line[:1000])

    def check(self) -> None:
        """Nothing is in the log that must not be there. Raises AssertionError."""
        assert not self.traces, "stack traces in the log:\n" + "\n".join(self.traces)
        assert not self.betrayals, "secrets or speech in the log:\n" + "\n".join(self.betrayals)


@contextmanager
def reading() -> Iterator[Logbook]:
    """Read the log of this process, all levels of our own and warnings of libraries."""
    book = Logbook()
    processors = structlog.get_config()["processors"]
    usual = list(processors)
    hub = gevent.get_hub()
    told = vars(hub).get("print_exception")
    root = logging.getLogger()
    # In place, as loggers that are in use already hold this very list.
    processors[:] = [structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, redaction, book]
    structlog.configure(processors=processors)
    root.addHandler(book)
    unraisable, sys.unraisablehook = (
        sys.unraisablehook,
        lambda seen: book.died(seen.object, seen.exc_type, seen.exc_value, seen.exc_traceback),
    )
    hub.print_exception = book.died
    try:
        yield book
    finally:
        del hub.print_exception
        if told is not None:
            hub.print_exception = told
        sys.unraisablehook = unraisable
        root.removeHandler(book)
        processors[:] = usual
        structlog.configure(processors=processors)
