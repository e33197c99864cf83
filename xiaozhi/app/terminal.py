"""Standard input of a server that was started in a terminal: Enter shows one line of status.

The event loop watches the terminal, so it costs one greenlet and no thread. Where standard input is no terminal (a
service, a container, a pipe, /dev/null) nothing is watched at all. What is typed is read, so that none of it reaches
the shell when the server ends; in the background the terminal belongs to somebody else and is left alone."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Callable

import gevent
from gevent.socket import wait_read

from xiaozhi.runtime import tasks

READ_BYTES = 4096
BACKGROUND_SECONDS = 1.0
"""How often a server in the background looks whether its terminal, with something typed into it, has come back."""
STOP_SECONDS = 1.0


class Terminal:
    """`start` watches, `stop` drains and ends it. `status`: the line to show; it must be quick."""

    def __init__(self, status: Callable[[], str], *, descriptor: int | None = None) -> None:
        self._status = status
        self._descriptor = _standard_input() if descriptor is None else descriptor
        self._reader: gevent.Greenlet | None = None

    @property
    def watching(self) -> bool:
        """Whether there is a terminal that has not been closed."""
        return self._reader is not None and not self._reader.dead

    def start(self) -> None:
        """Watch standard input, if it is a terminal."""
        if self._descriptor >= 0 and os.isatty(self._descriptor):
            self._reader = tasks.spawn("terminal", self._read)

    def stop(self) -> None:
        """Watch it no more, and drop what was typed and not read. Idempotent."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        reader.kill(timeout=STOP_SECONDS)
        try:
            if self._is_ours():
                termios.tcflush(self._descriptor, termios.TCIFLUSH)
        except (OSError, termios.error):
            return  # the terminal is gone

    def _read(self) -> None:
        try:
            while True:
                wait_read(self._descriptor)
                if not self._is_ours():
                    gevent.sleep(BACKGROUND_SECONDS)
                    continue
                # Ready, so it does not block: a terminal hands over whole lines.
                typed = os.read(self._descriptor, READ_BYTES)
                if not typed:
                    return  # Ctrl-D
                print(self._status(), flush=True)
        except OSError:
            return  # the terminal was closed

    def _is_ours(self) -> bool:
        """False in the background, where reading would stop the process (SIGTTIN)."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:  # it does not control this process, so it stops nobody
            return True


def _standard_input() -> int:
    try:
        return sys.stdin.fileno() if sys.stdin is not None else -1
    except (OSError, ValueError):  # closed, or replaced by something that is no file
        return -1
