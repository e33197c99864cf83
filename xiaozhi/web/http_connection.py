"""One HTTP connection: pywsgi's handler with limits that it does not have.

Not the server (`wsgi.py` accepts and admits) and not the application. pywsgi 26.9 waits without a deadline and reads
whatever is sent; added here are a deadline for the head of a request and for its body; a deadline for each write and a
rate for all of an answer, and a pause for others within a long one; a limit on the bytes of all headers together
(pywsgi: 100 lines of 64 KiB); a limit on how much of a refused body is still read. Heads that two servers could read
in two ways are refused (RFC 9112, sections 5.1 and 6.3): a proxy in front may be the other one. What a client sent is
never logged: a request line may hold a secret."""

from __future__ import annotations

import re
import socket
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import gevent
from gevent import pywsgi
from werkzeug.exceptions import RequestTimeout

from xiaozhi.runtime.logs import get_logger
from xiaozhi.web.seats import Seat, Seats

log = get_logger(__name__)

# How much is still read of a body that the application did not read, so that the client receives the answer instead of
# a reset (RFC 9112, section 9.6).
LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 2.0
HEALTH = ("/healthz", "/readyz")
"""What is answered on a seat of the reserve."""
PAUSE_BYTES = 8 * 1024
"""After so much of an answer others have a turn: a write does not wait as long as the kernel takes it, and a firmware
file held the hub for half a second."""
_LENGTH = re.compile(rb"[0-9]{1,15}")
# What decides where a request ends, and who asks for what.
_ONCE = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"origin", b"authorization", b"device-id", b"client-id"}
)
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Bounds of the HTTP server, in seconds and bytes."""

    connections: int = 500
    per_address: int = 128
    """Connections of one address, and requests of one address that come through trusted proxies."""
    reserve: int = 16
    """Connections beyond these limits that may still ask for health."""
    reserve_seconds: float = 2.0
    """For their request."""
    header_bytes: int = 16 * 1024
    idle_seconds: float = 30.0
    """For the first line of a request on an open connection."""
    first_seconds: float = 10.0
    """The same for its first request."""
    head_seconds: float = 10.0
    """For the rest of the head, once its first line has come."""
    body_seconds: float = 30.0
    """For the whole body, from when the application asks for it."""
    application_seconds: float = 60.0
    """For the application to begin its answer, body included."""
    send_seconds: float = 30.0
    """For each piece of the answer."""
    bytes_per_second: float = 4096.0
    """At least so fast an answer has to be taken on average, `send_seconds` apart. A device that downloads firmware by
    a bad Wi-Fi takes ten times as much."""


@dataclass(slots=True)
class WebCounts:
    """Requests served and refused; read by metrics."""

    requests: int = 0
    refused: int = 0
    bad_requests: int = 0
    too_slow: int = 0


class ConnectionOwner(Protocol):
    """What a connection needs of its server."""

    limits: WebLimits
    counts: WebCounts
    access_log: bool
    closing: bool

    seats: Seats

    def waits(self, seat: Seat) -> None:
        """The current greenlet has no request and may be dropped at once."""

    def request_place(self, environ: dict[str, Any]) -> AbstractContextManager[bool]:
        """While inside, the request counts as one of its client; False when it has too many."""


class HeadersTooLarge(ValueError):
    """More header bytes than allowed."""


class Ambiguous(ValueError):
    """A head that another server may read otherwise."""


class HeadReader:
    """Reads header lines, counts their bytes and refuses what could be read in two ways."""

    def __init__(self, rfile: Any, limit: int) -> None:
        self._rfile = rfile
        self._left = limit
        self._seen: set[bytes] = set()

    def readline(self, limit: int = -1) -> bytes:
        most = self._left + 1 if limit < 0 else min(limit, self._left + 1)
        line: bytes = self._rfile.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise HeadersTooLarge("header section is too large")
        self._check(line)
        return line

    def _check(self, line: bytes) -> None:
        if line in (b"\r\n", b"\n", b""):
            return
        name, colon, value = line.partition(b":")
        value = value.strip()
        if not colon or not _FIELD_NAME.fullmatch(name) or b"\r" in value or b"\0" in value:
            raise Ambiguous("no header line")
        name = name.lower()
        if name in _ONCE:
            if name in self._seen:
                raise Ambiguous("said twice")
            self._seen.add(name)
            if name == b"content-length" and not _LENGTH.fullmatch(value):
                raise Ambiguous("no length")
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                raise Ambiguous("no transfer coding known here")
            if self._seen >= {b"content-length", b"transfer-encoding"}:
                raise Ambiguous("two lengths")


class RequestBody(pywsgi.Input):
    """A request body with one deadline for all reads together; a rest that the application did not read is read only up
    to a limit."""

    __slots__ = ("_handler", "_seconds", "_until")

    def __init__(self, handler: HttpConnection, body: Any, seconds: float) -> None:
        super().__init__(body.rfile, body.content_length, socket=body.socket, chunked_input=body.chunked_input)
        self._handler = handler
        self._seconds = seconds
        self._until: float | None = None

    def _do_read(self, length: Any = None, use_readline: bool = False) -> bytes:
        with self._deadline():
            return super()._do_read(length, use_readline)  # type: ignore[no-any-return]

    def _chunked_read(self, length: Any = None, use_readline: bool = False) -> bytes:
        with self._deadline():
            return super()._chunked_read(length, use_readline)  # type: ignore[no-any-return]

    def _deadline(self) -> gevent.Timeout:
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        return gevent.Timeout(max(0.001, self._until - now), RequestTimeout("The request body did not arrive in time."))

    def _discard(self) -> None:
        unread = self.chunked_input and self.chunk_length != 0
        if not unread and self.position >= (self.content_length or 0):
            return
        ungranted = self.socket is not None  # "Expect: 100-continue" was not answered: the client sends no body now
        too_late = self._until is not None and time.monotonic() >= self._until
        if ungranted or too_late or self._handler.stopping:
            self._handler.close_connection = True
            return
        self.send_100_continue_enabled = False  # type: ignore[misc]  # a slot of the base class
        self._until = time.monotonic() + LINGER_SECONDS
        taken = 0
        try:
            while taken < LINGER_BYTES:
                piece = self.read(16384)
                if not piece:
                    return
                taken += len(piece)
        except (RequestTimeout, OSError) as error:
            log.debug("rest of a body not read", error=type(error).__name__)
        # The rest of the body still comes: where the next request on this connection would begin is unknown.
        self._handler.close_connection = True


class HttpConnection(pywsgi.WSGIHandler):
    """One connection and the requests that come on it, one after the other."""

    server: Any
    wsgi_input: Any
    close_connection: bool

    def __init__(self, sock: Any, address: Any, server: Any, seat: Seat) -> None:
        super().__init__(sock, address, server)
        self._seat = seat
        self._sent = self._unpaused = 0
        self._sending_s = 0.0

    @property
    def _owner(self) -> ConnectionOwner:
        return self.server.web  # type: ignore[no-any-return]

    @property
    def stopping(self) -> bool:
        """The server stops: no rest of a body is waited for."""
        return self._owner.closing

    def handle_one_request(self) -> Any:
        web = self._owner
        limits = web.limits
        # Pipelined requests are read and answered without any wait in between: let other greenlets run first.
        gevent.sleep(0)
        seconds = limits.idle_seconds
        if not self._seat.served:
            seconds = min(seconds, limits.reserve_seconds if self._seat.reserved else limits.first_seconds)
        self._head_deadline = gevent.Timeout(seconds)
        self._head_deadline.start()
        web.waits(self._seat)
        try:
            return super().handle_one_request()
        except gevent.Timeout as expired:
            if expired is not self._head_deadline:
                raise
            if not self.requestline:
                return None
            web.counts.too_slow += 1
            return "408", plain_response(408, "Request Timeout", "The request did not arrive in time.")
        finally:
            web.seats.works(self._seat)
            self._head_deadline.close()

    def read_requestline(self) -> Any:
        self.requestline = ""
        line = super().read_requestline()
        self.requestline = line
        self._seat.served = True
        # The line has come: from now on the deadline of the head counts.
        limits = self._owner.limits
        self._head_deadline.close()
        self._head_deadline = gevent.Timeout(limits.reserve_seconds if self._seat.reserved else limits.head_seconds)
        self._head_deadline.start()
        return line

    def MessageClass(self, rfile: Any, *args: Any) -> Any:
        return super().MessageClass(HeadReader(rfile, self._owner.limits.header_bytes), *args)

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        self._head_deadline.close()
        web = self._owner
        web.seats.works(self._seat)
        web.counts.requests += 1
        if self.wsgi_input is environ["wsgi.input"]:
            self.wsgi_input = environ["wsgi.input"] = RequestBody(self, self.wsgi_input, web.limits.body_seconds)
        return environ

    def handle_one_response(self) -> None:
        self._sent, self._sending_s = 0, 0.0
        environ: dict[str, Any] = self.environ
        with self._owner.request_place(environ) as admitted:
            if admitted and (not self._seat.reserved or environ["PATH_INFO"] in HEALTH):
                super().handle_one_response()
            else:
                self._busy()

    def _busy(self) -> None:
        self._owner.counts.refused += 1
        self.close_connection = True
        refuse(self.socket, linger=0.0)

    def finalize_headers(self) -> None:
        super().finalize_headers()
        if (self._owner.closing or self._seat.reserved) and not self.close_connection:
            self.close_connection = True
            self.response_headers.append((b"Connection", b"close"))

    def _sendall(self, data: Any) -> None:
        limits = self._owner.limits
        left = limits.send_seconds + self._sent / limits.bytes_per_second - self._sending_s
        began = time.monotonic()
        with gevent.Timeout(max(0.001, min(left, limits.send_seconds)), TimeoutError("the client reads too slowly")):
            super()._sendall(data)
        self._sending_s += time.monotonic() - began
        self._sent += len(data)
        self._unpaused += len(data)
        if self._unpaused >= PAUSE_BYTES:
            self._unpaused = 0
            gevent.sleep(0)

    def _handle_client_error(self, ex: Exception) -> Any:
        self._owner.counts.bad_requests += 1
        # Not the request itself: its line and headers may hold secrets.
        log.debug("bad request", peer=self._peer(), error=type(ex).__name__)
        if isinstance(ex, HeadersTooLarge):
            return "431", plain_response(431, "Request Header Fields Too Large", "The request headers are too large.")
        return "400", plain_response(400, "Bad Request", "This is not a valid HTTP request.")

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        if isinstance(v, OSError):
            self.close_connection = True
            log.debug("client went away", peer=self._peer(), error=type(v).__name__)
            return
        if isinstance(v, gevent.GreenletExit):
            self.close_connection = True
            return
        log.error("http handler failed", exc_info=(t, v, tb))
        self._send_error_response_if_possible(500)

    def log_request(self) -> None:
        if self._owner.access_log:
            environ = self.environ or {}
            log.info(
                "http",
                method=self.command,
                path=environ.get("PATH_INFO", ""),
                status=self.code,
                bytes=self.response_length,
                ms=round((self.time_finish - self.time_start) * 1000),
            )

    def log_error(self, msg: str, *args: Any) -> None:
        log.debug("http error", peer=self._peer())

    def _peer(self) -> str:
        return str(self.client_address[0]) if isinstance(self.client_address, tuple) else ""


def plain_response(status: int, reason: str, message: str, more: str = "") -> bytes:
    """A whole response that closes the connection, for where no application is reached. `more`: header lines, each with
    its CRLF."""
    body = f'{{"success":false,"message":"{message}"}}'
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n{more}\r\n{body}".encode("ascii")


def refuse(sock: Any, linger: float) -> None:
    """Tell a client, whose connection ends with it, that there is no room, and wait at most `linger` seconds for its
    end. Raises nothing."""
    try:
        with gevent.Timeout(max(0.1, linger), TimeoutError("the client reads too slowly")):
            message = "The server is busy, please try again."
            sock.sendall(plain_response(503, "Service Unavailable", message, "Retry-After: 2\r\n"))
            sock.shutdown(socket.SHUT_WR)
            if linger:
                # Closing with unread bytes would reset the connection and take the answer with it.
                sock.recv(16384)
    except OSError:
        log.debug("refused client went away")
