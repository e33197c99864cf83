"""A scriptable HTTP vendor on a loopback port: answers as told, fails as told, and remembers what it saw.

A bare HTTP/1.1 server on gevent sockets rather than a WSGI one, for two reasons: a script may break the protocol itself
(half a chunk, a reset, a status line of garbage), and it must cost the machine little while 500 devices are simulated
next to it. Not for the outside world: it trusts its clients and listens on 127.0.0.1."""

from __future__ import annotations

import random
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import orjson
from gevent.pool import Pool
from gevent.queue import Full, Queue
from gevent.server import StreamServer
from gevent.socket import wait_read

MAX_HEADER_LINES = 100
MAX_BODY_BYTES = 64 * 1024 * 1024
PATIENCE_S = 60.0
"""How long is waited for what has to come; only a failure takes so long."""
KEPT = 2_000
"""Requests and disconnects remembered."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Script:
    """How one request is answered. Times in seconds.

    `delay` and `jitter`: before the first byte. `gap`: between two pieces of a streamed body. `status` other than 200
    answers with an error object. `stall`: "before" (nothing is ever sent) or "after" (headers and two pieces, then
    silence). `disconnect`: close after that many pieces of the body, 0 meaning after the headers, -1 before anything.
    `garbage`: "json" (cut in half), "html", "binary", "status" (no HTTP at all), "chunk" (broken chunk size), "empty".
    `answer`: what the vendor's own kind of answer is made of."""

    delay: float = 0.0
    jitter: float = 0.0
    gap: float = 0.0
    status: int = 200
    error: str = ""
    retry_after: str = ""
    stall: str = ""
    disconnect: int | None = None
    garbage: str = ""
    answer: Any = None


@dataclass(frozen=True, slots=True)
class VendorRequest:
    """What a client sent. Header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Serial number of the TCP connection it came on."""

    def json(self) -> Any:
        """The body parsed."""
        return orjson.loads(self.body)


@dataclass(slots=True)
class VendorAnswer:
    """What a vendor says: a whole body, or pieces that are sent as chunks."""

    body: bytes | Iterable[bytes] = b""
    content_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class VendorRefusal(Exception):
    """A strict vendor found fault with the request."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        self.status = status
        self.kind = kind
        super().__init__(message)


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


class HttpVendor:
    """Serves `answer(request)`; subclasses and tests override it. `with HttpVendor(answer) as vendor: vendor.url`.

    `keep_alive` False: one request per connection, so that a test that counts sockets finds none that merely wait in a
    pool. `tls`: PEM files of a certificate and its key, to be asked over https."""

    def __init__(
        self,
        answer: Callable[[VendorRequest], VendorAnswer] | None = None,
        *,
        port: int = 0,
        seed: int | None = None,
        keep_alive: bool = True,
        tls: tuple[str, str] | None = None,
    ) -> None:
        self._answer = answer
        self._keep_alive = keep_alive
        self._scheme = "https" if tls is not None else "http"
        secure = {"ssl_context": _shown(*tls)} if tls is not None else {}
        self._server = StreamServer(("127.0.0.1", port), self._serve, backlog=1024, spawn=Pool(100_000), **secure)
        self._random = random.Random(seed)
        self._scripts: dict[str, deque[Script]] = {}
        self._standing: dict[str, Script] = {}
        self.requests: deque[VendorRequest] = deque(maxlen=KEPT)
        self.counts: dict[str, int] = {}
        """Requests by kind."""
        self.connections = 0
        """TCP connections accepted so far."""
        self.open = 0
        """TCP connections open now."""
        self.active = 0
        """Requests being answered now."""
        self.gone: Queue[VendorRequest] = Queue(KEPT)
        """Requests whose client left before the answer was complete."""
        self.refusals: list[str] = []
        """Why requests were found faulty; a test that wants a well-behaved client asserts that this is empty."""

    # --- what tests and load tests use ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """http://127.0.0.1:port, or https."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Listen."""
        self._server.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        self._server.stop(timeout=0)

    def run_forever(self) -> None:
        """Serve until interrupted."""
        self._server.serve_forever()

    def __enter__(self) -> HttpVendor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def script(self, kind: str, *scripts: Script) -> None:
        """The next requests of `kind` follow these scripts, one each, before the standing one applies again."""
        self._scripts.setdefault(kind, deque()).extend(scripts)

    def stand(self, kind: str, script: Script) -> None:
        """Every request of `kind` without a script of its own follows this one."""
        self._standing[kind] = script

    def forget_scripts(self) -> None:
        """Nothing is scripted any more, and no script stands."""
        self._scripts.clear()
        self._standing.clear()

    def wait_gone(self, timeout: float = PATIENCE_S) -> VendorRequest:
        """The next request whose client left early. Raises gevent.queue.Empty."""
        return self.gone.get(timeout=timeout)

    # --- what subclasses override -----------------------------------------------------------------------------------

    def kind(self, request: VendorRequest) -> str:
        """The name under which a request is scripted and counted; its path unless overridden."""
        return request.path

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        """The good answer. Raises VendorRefusal."""
        if self._answer is None:
            raise VendorRefusal(404, f"nothing at {request.path}")
        return self._answer(request)

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        """The body of an error answer."""
        return orjson.dumps({"error": {"message": message, "type": kind, "code": status}})

    # --- one connection ---------------------------------------------------------------------------------------------

    def _serve(self, sock: Any, address: Any) -> None:
        self.connections += 1
        self.open += 1
        serial = self.connections
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = sock.makefile("rb", 65_536)
        try:
            while (request := _read_request(reader, serial)) is not None:
                if not self._respond(sock, request):
                    break
        except OSError:
            pass  # the client reset an idle connection
        finally:
            self.open -= 1
            reader.close()
            sock.close()

    def _respond(self, sock: Any, request: VendorRequest) -> bool:
        kind = self.kind(request)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.requests.append(request)
        waiting = self._scripts.get(kind)
        script = waiting.popleft() if waiting else self._standing.get(kind, _PLAIN)
        self.active += 1
        try:
            return self.follow(_Line(sock), request, script)
        except (ClientGone, ConnectionError, BrokenPipeError):
            try:
                self.gone.put_nowait(request)
            except Full:
                pass  # remembered enough
            return False
        finally:
            self.active -= 1

    def follow(self, line: _Line, request: VendorRequest, script: Script) -> bool:
        """Answer one request as its script says; whether the connection may be used again."""
        line.wait(script.delay + (self._random.uniform(0, script.jitter) if script.jitter else 0.0))
        if script.stall == "before":
            line.wait(3600)
        if script.disconnect == -1:
            return False
        if script.garbage:
            return _garbage(line, script.garbage, self._keep_alive)
        try:
            if script.status != 200:
                raise VendorRefusal(script.status, script.error or f"scripted {script.status}", "scripted")
            answer = self.answer(request, script)
        except VendorRefusal as refused:
            if refused.kind != "scripted":
                self.refusals.append(str(refused))
            headers = {"Retry-After": script.retry_after} if script.retry_after else {}
            answer = VendorAnswer(
                self.error_body(refused.status, str(refused), refused.kind), status=refused.status, headers=headers
            )
        if not self._keep_alive:
            answer.headers["Connection"] = "close"
        body = answer.body
        if isinstance(body, bytes) and (script.disconnect is not None or script.stall == "after" or script.gap):
            body = _slices(body)
        if isinstance(body, bytes):
            line.send(_head(answer, f"Content-Length: {len(body)}\r\n") + body)
            return self._keep_alive
        line.send(_head(answer, "Transfer-Encoding: chunked\r\n"))
        for sent, piece in enumerate(body):
            if script.disconnect == sent:
                return False
            if sent == 2 and script.stall == "after":
                line.wait(3600)
            if sent and script.gap:
                line.wait(script.gap)
            line.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        line.send(b"0\r\n\r\n")
        return self._keep_alive


class _Line:
    """One connection while a request is being answered; notices a client that leaves."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if isinstance(self._sock, ssl.SSLSocket):
            gevent.sleep(seconds)  # what is readable may be TLS's own; a client that leaves is noticed by `send`
            return
        try:
            wait_read(self._sock.fileno(), timeout=seconds, timeout_exc=gevent.Timeout())
        except gevent.Timeout:
            return
        # Readable while it should be waiting for us: gone, or pipelining, which none of our clients does.
        if self._sock.recv(1, socket.MSG_PEEK) == b"":
            raise ClientGone
        gevent.sleep(seconds)


def _shown(certfile: str, keyfile: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile, keyfile)
    return context


def _read_request(reader: Any, serial: int) -> VendorRequest | None:
    first = reader.readline(65_536)
    if not first:
        return None
    method, path, _ = first.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADER_LINES):
        line = reader.readline(65_536)
        if line in (b"\r\n", b""):
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    size = int(headers.get("content-length", "0"))
    body = reader.read(min(size, MAX_BODY_BYTES)) if size else b""
    return VendorRequest(method, path, headers, body, serial) if len(body) == size else None


def _head(answer: VendorAnswer, length: str) -> bytes:
    extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    reason = REASONS.get(answer.status, "Status")
    return f"HTTP/1.1 {answer.status} {reason}\r\nContent-Type: {answer.content_type}\r\n{length}{extra}\r\n".encode(
        "latin-1"
    )


def _slices(body: bytes) -> Iterator[bytes]:
    size = max(1, min(8_192, len(body) // 4))
    return (body[start : start + size] for start in range(0, len(body), size))


def _garbage(line: _Line, what: str, keep_alive: bool) -> bool:
    bodies = {
        "json": (b'{"choices": [{"delta": {"cont', "application/json"),
        "html": (b"<html><body><h1>Welcome to nginx!</h1></body></html>", "text/html"),
        "binary": (bytes(range(256)) * 8, "application/octet-stream"),
        "empty": (b"", "application/octet-stream"),
        "sse": (b"data: {not json}\n\n", "text/event-stream"),
    }
    if what == "status":
        line.send(b"\x00\x01garbage instead of HTTP\r\n\r\n")
        return False
    if what == "chunk":
        line.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"zz\r\nnonsense\r\n"
        )
        return False
    body, content_type = bodies[what]
    headers = {} if keep_alive else {"Connection": "close"}
    line.send(
        _head(VendorAnswer(content_type=content_type, headers=headers), f"Content-Length: {len(body)}\r\n") + body
    )
    return keep_alive


_PLAIN = Script()
