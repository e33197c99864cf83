"""Writes log lines on a native thread: a disk that stalls, or a pipe that nobody reads, must not stop the hub.

A line is formatted where it is logged, then waits for the thread, which writes all that wait in one go. The thread is
there from the start. When `MAX_WAITING` lines wait, further ones are dropped and counted; once there is room again, a
line says how many.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import orjson
from gevent.event import Event

from xiaozhi.runtime.inference import InferencePool

MAX_WAITING: Final = 10_000
"""Lines. At 300 bytes each: 3 MB."""
ROTATE_AGAIN_S: Final = 60.0
"""After a rotation that failed."""
FLUSH_S: Final = 2.0
"""How long a flush waits for the thread."""


class _NoLock:
    """The sinks below belong to one thread, and a patched lock in it would make a second hub."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return True

    def release(self) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class RotatingFile(logging.handlers.RotatingFileHandler):
    """A file of at most `max_bytes` (0: never rotated) with `backups` older ones beside it.

    Opened here and now: who may not write there should learn it from the start. Where it cannot be rotated, lines go
    on into the file as it is, and it is tried again later. Raises OSError."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self.failures = 0
        """Lines that could not be written, such as on a full disk."""
        self._not_before = 0.0
        super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")

    def createLock(self) -> None:
        self.lock: Any = _NoLock()

    def shouldRollover(self, record: logging.LogRecord) -> int:
        return 0 if time.monotonic() < self._not_before else super().shouldRollover(record)

    def doRollover(self) -> None:
        try:
            super().doRollover()
        except OSError as error:
            if not self._not_before:
                sys.stderr.write(f"{self.baseFilename} cannot be rotated and grows on: {error}\n")
            self._not_before = time.monotonic() + ROTATE_AGAIN_S
        finally:
            if self.stream is None:
                self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failures:
            sys.stderr.write(f"log lines cannot be written to {self.baseFilename}: {sys.exc_info()[1]}\n")
        self.failures += 1


class Stream(logging.StreamHandler[TextIO]):
    """A stream of the process, such as standard error when it is a pipe."""

    failures = 0

    def createLock(self) -> None:
        self.lock: Any = _NoLock()

    def handleError(self, record: logging.LogRecord) -> None:
        self.failures += 1  # there is nobody to tell


Sink = RotatingFile | Stream


class LogThread:
    """The native thread that writes; there from the start until `close`. One for all sinks: a sink that stalls makes
    the others wait, and lines are dropped at last, but the hub never waits."""

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self.dropped = 0
        """Lines for which there was no room."""
        self._max_waiting = max_waiting
        self._lines: deque[tuple[Sink, str]] = deque()
        self._untold = 0
        self._thread = InferencePool(1, 1, reserved=0, name="log-writer")
        self._thread.start()
        self._idle = Event()
        self._idle.set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Lines that wait for the thread."""
        return len(self._lines)

    def write(self, sink: Sink, line: str) -> None:
        """Have one line written; never waits."""
        if self._closed:
            return
        if len(self._lines) >= self._max_waiting:
            self.dropped += 1
            self._untold += 1
            return
        self._lines.append((sink, line))
        if self._idle.is_set():
            self._write_next()

    def flush(self, seconds: float = FLUSH_S) -> bool:
        """Wait until everything has been written, at most `seconds`; True when it has."""
        return bool(self._idle.wait(timeout=seconds))

    def close(self, seconds: float = FLUSH_S) -> bool:
        """Write what waits, end the thread; False when it is still at work after `seconds`. Idempotent."""
        self._closed = True
        self.flush(seconds)
        return self._thread.close(seconds)

    def _write_next(self) -> None:
        lines = list(self._lines)
        self._lines.clear()
        if self._untold:
            told = {"event": "log lines dropped", "level": "warning", "count": self._untold}
            lines += [(sink, orjson.dumps(told).decode()) for sink in dict(lines)]
            self._untold = 0
        self._idle.clear()
        self._thread.submit(_write, lines, kind="log", deliver=self._written)

    def _written(self, result: object, error: Exception | None) -> None:
        # In the hub.
        if self._lines:
            self._write_next()
        else:
            self._idle.set()


class LogWriter(logging.Handler):
    """Formats a line where it is logged and has `thread` write it to `sink`, a handler without a formatter."""

    def __init__(self, sink: Sink, thread: LogThread) -> None:
        super().__init__()
        self._sink = sink
        self._thread = thread

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line; never waits."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  logging's own rule: a line that cannot be formatted harms nobody
            self.handleError(record)
            return
        self._thread.write(self._sink, line)

    def flush(self) -> None:
        """Wait until everything has been written, at most `FLUSH_S`."""
        self._thread.flush()

    def close(self) -> None:
        """Close the sink, unless the thread is still at it. Idempotent."""
        if self._thread.flush():
            self._sink.close()
        super().close()


def _write(lines: Sequence[tuple[Sink, str]]) -> None:
    """On the thread."""
    for sink, line in lines:
        sink.handle(logging.makeLogRecord({"msg": line}))
