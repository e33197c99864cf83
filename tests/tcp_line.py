"""A TCP line between two parts of a test that can be cut: a network that loses everything, and tells nobody."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

from tests.waiting import PATIENCE_S


class TcpLine:
    """Use `tcp_line`."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._whole = Event()
        self._whole.set()
        self._server = StreamServer(("127.0.0.1", 0), self._carry, spawn=Pool())
        self._server.start()

    @property
    def port(self) -> int:
        """Where it begins."""
        return int(self._server.server_port)

    def cut(self) -> None:
        """From now on nothing passes, in neither direction, and neither end is told."""
        self._whole.clear()

    def heal(self) -> None:
        """New connections are well. Over those there are nothing passes ever again."""
        self.cut()
        self._whole = Event()
        self._whole.set()

    def close(self) -> None:
        """End everything."""
        self._server.stop(timeout=0)

    def _carry(self, near: socket.socket, _address: object) -> None:
        whole = self._whole
        whole.wait()
        with socket.create_connection(self._target, timeout=PATIENCE_S) as far:
            ways = [gevent.spawn(_copy, near, far, whole), gevent.spawn(_copy, far, near, whole)]
            try:
                gevent.joinall(ways, count=1)
            finally:
                gevent.killall(ways)


def _copy(source: socket.socket, target: socket.socket, whole: Event) -> None:
    source.settimeout(None)
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            whole.wait()
            target.sendall(data)


@contextmanager
def tcp_line(target_port: int) -> Iterator[TcpLine]:
    """A line to a port of this machine; closed in the end."""
    line = TcpLine(target_port)
    try:
        yield line
    finally:
        line.close()
