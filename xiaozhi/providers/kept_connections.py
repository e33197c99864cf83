"""Connections to a vendor that may be used again, kept for the next utterance or answer: opening one costs a TCP, a TLS
and a WebSocket handshake, some 100 ms. A connection serves one session at a time.

Not for HTTP, whose connections `net/http_pools.py` keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from xiaozhi.errors import VendorUnavailable
from xiaozhi.runtime.tasks import Tasks


class Keepable(Protocol):
    """What a connection has to offer to be kept."""

    @property
    def is_idle(self) -> bool:
        """Open, and nothing has arrived since its last session."""

    def farewell(self) -> None:
        """Say goodbye as the vendor wants it, and close. Raises nothing, does not wait for an answer."""

    def close(self) -> None:
        """Close now. Idempotent, from any greenlet."""


C = TypeVar("C", bound=Keepable)
S = TypeVar("S")


class KeptConnections(Generic[C]):
    """Lends connections; keeps at most `keep` idle ones for `idle_seconds`. `dial` makes a new one and may raise
    VendorError. `tasks` belongs to the provider."""

    def __init__(self, dial: Callable[[], C], *, keep: int, idle_seconds: float, tasks: Tasks) -> None:
        self._dial = dial
        self._keep = keep
        self._idle_seconds = idle_seconds
        self._tasks = tasks
        self._idle: list[tuple[float, C]] = []
        """(since when it is idle, connection), the one that rests longest first."""
        self._pruning = False
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that rest."""
        return len(self._idle)

    def begin(self, session: Callable[[C], S]) -> S:
        """A session on a kept connection, else on a new one. A kept one may be dead all the same: it is replaced once,
        so `session` sends nothing that may not be said twice. It closes the connection when it raises VendorError."""
        connection, used = self._take()
        try:
            return session(connection)
        except VendorUnavailable:
            if not used:
                raise
            return session(self._dial())

    @contextmanager
    def kept_after(self, connection: C) -> Iterator[None]:
        """For the rest of a session: keeps its connection at the end, closes it on the way of an exception."""
        try:
            yield
        except BaseException:
            connection.close()
            raise
        self._give(connection)

    def _take(self) -> tuple[C, bool]:
        """(a connection, True when it has been used before): the one that rested least, else a new one."""
        self._prune()
        while self._idle:
            _, connection = self._idle.pop()
            if connection.is_idle:
                return connection, True
            connection.close()
        return self._dial(), False

    def _give(self, connection: C) -> None:
        """A connection whose session has ended properly: keep it, or say goodbye."""
        if self._closed or len(self._idle) >= self._keep:
            connection.farewell()
            return
        self._idle.append((time.monotonic(), connection))
        if not self._pruning:
            self._pruning = True
            self._tasks.spawn_later(self._idle_seconds, "idle-connections", self._prune_later)

    def close(self) -> None:
        """Hang up on all that is idle."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].farewell()

    def _prune(self) -> None:
        oldest = time.monotonic() - self._idle_seconds
        while self._idle and self._idle[0][0] <= oldest:
            self._idle.pop(0)[1].farewell()

    def _prune_later(self) -> None:
        self._prune()
        self._pruning = bool(self._idle)
        if self._pruning:
            wait = self._idle[0][0] + self._idle_seconds - time.monotonic()
            self._tasks.spawn_later(max(0.01, wait), "idle-connections", self._prune_later)
