"""A WebSocket vendor for tests, on wsproto: another implementation of the protocol than the client's, so that both
cannot share a mistake.

Subclasses override `converse(peer)` with what the real service would do; a violation of its protocol is recorded in
`faults` and ends the connection, as the real one would."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.queue import Full, Queue
from gevent.server import StreamServer
from gevent.socket import wait_read
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from tests.waiting import PATIENCE_S


class PeerGone(Exception):
    """The client closed, properly or not."""


class Fault(Exception):
    """The client broke the vendor's protocol."""


class Peer:
    """One accepted connection."""

    def __init__(self, sock: Any, ws: WSConnection, request: Request) -> None:
        self._sock = sock
        self._ws = ws
        self._messages: deque[str | bytes] = deque()
        self._partial: list[Any] = []
        self.path = request.target
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.extra_headers
        }
        self.subprotocols = list(request.subprotocols)
        self.closed_properly = False

    def receive(self, timeout: float = PATIENCE_S) -> str | bytes:
        """The next message. Raises PeerGone, gevent.Timeout."""
        with gevent.Timeout(timeout):
            while not self._messages:
                self._read()
        return self._messages.popleft()

    def poll(self, seconds: float) -> str | bytes | None:
        """The next message if it comes within `seconds`, else None. Raises PeerGone."""
        try:
            return self.receive(seconds)
        except gevent.Timeout:
            return None

    def send(self, message: str | bytes) -> None:
        """Send one message."""
        self._send(Message(data=message))

    def ping(self) -> None:
        """Send a ping."""
        self._send(Ping(b"are you there"))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame."""
        self._send(CloseConnection(code, reason))

    def send_raw(self, data: bytes) -> None:
        """Bytes that wsproto would not send."""
        self._sock.sendall(data)

    def drop(self) -> None:
        """Close the TCP connection without a word."""
        self._sock.shutdown(socket.SHUT_RDWR)

    def wait_gone(self) -> None:
        """Read on until the client leaves. Raises PeerGone."""
        while True:
            self.receive(3600)
            self._messages.clear()

    def _send(self, event: Any) -> None:
        try:
            self._sock.sendall(self._ws.send(event))
        except OSError as error:
            raise PeerGone from error

    def _read(self) -> None:
        wait_read(self._sock.fileno())
        try:
            data = self._sock.recv(65_536)
        except OSError as error:
            raise PeerGone from error
        if not data:
            raise PeerGone
        self._ws.receive_data(data)
        for event in self._ws.events():
            if isinstance(event, (TextMessage, BytesMessage)):
                self._partial.append(event.data)
                if event.message_finished:
                    whole = self._partial[0][:0].join(self._partial)
                    self._messages.append(whole if isinstance(whole, str) else bytes(whole))
                    self._partial = []
            elif isinstance(event, Ping):
                self._send(event.response())
            elif isinstance(event, CloseConnection):
                self.closed_properly = True
                self._send(event.response())
                raise PeerGone


class WsVendor:
    """Listens on a loopback port. `reject`: statuses with which the next upgrades are refused."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        options = {"ssl_context": tls} if tls else {}
        self._server = StreamServer(("127.0.0.1", 0), self._serve, spawn=Pool(1000), **options)
        self._scheme = "wss" if tls else "ws"
        self.reject: deque[int] = deque()
        self.fault = ""
        """Of the sessions from now on; what there is, the vendor says."""
        self.once: deque[str] = deque()
        """Faults of the next sessions, one each."""
        self.stall_upgrade = False
        self.connections = 0
        self.open = 0
        self.faults: list[str] = []
        self.gone: Queue[Peer] = Queue(1000)
        """Connections whose client left."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        """ws://127.0.0.1:port"""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Any:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and every connection."""
        self._server.stop(timeout=0)

    def fail(self, fault: str) -> None:
        """The next session meets this fault: "refused" (for ever), a status of the upgrade, "disconnect", which vendors
        call drop, or one of the vendor's own."""
        if fault == "refused":
            self.stop()
        elif fault.isdigit():
            self.reject.append(int(fault))
        else:
            self.once.append("drop" if fault == "disconnect" else fault)

    @contextmanager
    def next_fault(self, lasting: str = "") -> Iterator[None]:
        """Within the block `fault` is the next of `once`, if there is one; afterwards none, unless it is `lasting`."""
        if not self.once:
            yield
            return
        self.fault = self.once.popleft()
        try:
            yield
        finally:
            if self.fault != lasting:
                self.fault = ""

    def wait_gone(self, timeout: float = PATIENCE_S) -> Peer:
        """The next connection whose client left. Raises gevent.queue.Empty."""
        return self.gone.get(timeout=timeout)

    def authorize(self, peer: Peer) -> int:
        """The status an upgrade is refused with, 0 to accept."""
        return self.reject.popleft() if self.reject else 0

    def refusal_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of a refused upgrade beside its length."""
        return [(b"retry-after", b"3")]

    def choose(self, peer: Peer) -> str | None:
        """The subprotocol to answer with."""
        return peer.subprotocols[0] if peer.subprotocols else None

    def converse(self, peer: Peer) -> None:
        """Talk to a client until one side has enough. Echoes unless overridden."""
        while True:
            peer.send(peer.receive(3600))

    def _serve(self, sock: Any, address: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        self.open += 1
        peer: Peer | None = None
        try:
            peer = self._upgrade(sock)
            if peer is not None:
                self.converse(peer)
                peer.close()
        except PeerGone:
            if peer is not None:
                try:
                    self.gone.put_nowait(peer)
                except Full:
                    pass
        except Fault as fault:
            self.faults.append(str(fault))
        except OSError:
            pass
        finally:
            self.open -= 1
            sock.close()

    def _upgrade(self, sock: Any) -> Peer | None:
        ws = WSConnection(ConnectionType.SERVER)
        while True:
            data = sock.recv(65_536)
            if not data:
                return None
            ws.receive_data(data)
            for event in ws.events():
                if not isinstance(event, Request):
                    continue
                if self.stall_upgrade:
                    sock.recv(1)
                    return None
                peer = Peer(sock, ws, event)
                status = self.authorize(peer)
                if status:
                    body = b'{"message": "refused with key abc12345678"}'
                    headers = [(b"content-length", b"%d" % len(body)), *self.refusal_headers()]
                    sock.sendall(ws.send(RejectConnection(status_code=status, headers=headers, has_body=True)))
                    sock.sendall(ws.send(RejectData(data=body)))
                    return None
                sock.sendall(
                    ws.send(AcceptConnection(subprotocol=self.choose(peer), extra_headers=[(b"x-tt-logid", b"log-1")]))
                )
                return peer
