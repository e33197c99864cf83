"""Pages of the console's overview that stay open beside a measurement: each reads the server's live events and throws
them away."""

from __future__ import annotations

import contextlib
import http.client
import urllib.request
from collections.abc import Iterator

import gevent

from loadtest.measure.processes import StartError

LIVE = "/console/api/live?topics=overview"
PATIENCE_S = 30.0
"""Longer than the server is ever silent."""


@contextlib.contextmanager
def open_pages(origin: str, count: int) -> Iterator[list[int]]:
    """`count` open pages of the server at `origin` ("http://127.0.0.1:8003"); yields the events that each has read so
    far. Raises StartError when they are not let in."""
    events = [0] * count
    with contextlib.ExitStack() as streams:
        readers = []
        for number in range(count):
            try:
                stream = streams.enter_context(urllib.request.urlopen(origin + LIVE, timeout=PATIENCE_S))
            except OSError as error:
                raise StartError(f"the console at {origin} shows no overview: {error}") from error
            readers.append(gevent.spawn(_read, stream, events, number))
        try:
            yield events
        finally:
            gevent.killall(readers)


def _read(stream: http.client.HTTPResponse, events: list[int], number: int) -> None:
    with contextlib.suppress(OSError):  # the server has stopped
        for line in stream:
            events[number] += line.startswith(b"event:")
