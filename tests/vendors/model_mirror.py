"""A place that publishes models, from its side: answers ranges as RFC 9110 says, redirects to another path as the large
ones do, and can break off, crawl, carry other bytes, know no ranges, or refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import gevent
from gevent.server import StreamServer

_RANGE = re.compile(rb"(?im)^range: bytes=(\d+)-\r$")
_PIECE = 4_096


@dataclass(slots=True)
class ModelMirror:
    """`files`: path -> content. `asked`: (path, first byte) of every request for content."""

    files: dict[str, bytes]
    url: str = ""
    breaks_after: list[int] = field(default_factory=list)
    """How many bytes each of the next answers sends before it breaks off."""
    status: int = 0
    """Answer everything with it; 0: as it should be."""
    knows_ranges: bool = True
    pause_s: float = 0.0
    """Between two pieces of 4 KB."""
    redirects: bool = True
    asked: list[tuple[str, int]] = field(default_factory=list)

    def answer(self, stream: object, address: object) -> None:
        """One connection, one request."""
        socket: gevent.socket.socket = stream  # type: ignore[assignment,name-defined]
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = socket.recv(65_536)
                if not piece:
                    return
                head += piece
            self._reply(socket, head)
        except OSError:
            pass  # whoever asked has left
        finally:
            socket.close()

    def _reply(self, socket: gevent.socket.socket, head: bytes) -> None:  # type: ignore[name-defined]
        path = head.split(b" ", 2)[1].decode()
        if self.status:
            socket.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
            return
        if self.redirects and not path.startswith("/cdn/"):
            there = f"/cdn{path}".encode()
            socket.sendall(
                b"HTTP/1.1 302 Found\r\nLocation: " + there + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        content = self.files.get(path.removeprefix("/cdn"))
        if content is None:
            socket.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        assert b"\r\naccept-encoding: identity\r\n" in head.lower(), "packed content cannot be resumed"
        ranged = _RANGE.search(head) if self.knows_ranges else None
        start = int(ranged[1]) if ranged else 0
        self.asked.append((path.removeprefix("/cdn"), start))
        if ranged and start >= len(content):
            lines = b"HTTP/1.1 416 No\r\nContent-Range: bytes */%d\r\nContent-Length: 0\r\n" % len(content)
            socket.sendall(lines + b"Connection: close\r\n\r\n")
            return
        body = content[start:]
        if ranged:
            last = len(content) - 1
            lines = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes %d-%d/%d\r\n" % (start, last, len(content))
        else:
            lines = b"HTTP/1.1 200 OK\r\n"
        socket.sendall(lines + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
        for place in range(0, len(body), _PIECE):
            if self.breaks_after and place >= self.breaks_after[0]:
                self.breaks_after.pop(0)
                return
            socket.sendall(body[place : place + _PIECE])
            gevent.sleep(self.pause_s)  # sleep: how slow this mirror is


@contextmanager
def model_mirror(files: dict[str, bytes]) -> Iterator[ModelMirror]:
    """One on this machine; `files`: path with a leading slash -> content."""
    mirror = ModelMirror(files)
    server = StreamServer(("127.0.0.1", 0), mirror.answer)
    server.start()
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield mirror
    finally:
        server.stop(timeout=1)
