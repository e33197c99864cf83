"""One HTTP connection: pywsgi's handler with limits that it does not have.

Not the server (`wsgi.py` accepts and admits) and not the application. pywsgi 26.9 waits without a deadline and reads
whatever is sent; added here are a deadline for the head of a request, for its body and for each write; a limit on the
bytes of all headers together (pywsgi: 100 lines of 64 KiB); a limit on how much of a refused body is still read. What a
client sent is never logged: a request line may hold a secret."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import gevent
from gevent import pywsgi
from werkzeug.exceptions import RequestTimeout

from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

# How much is still read of a body that the application did not read, so that the client receives the answer instead of
# a reset (RFC 9112, section 9.6).
LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Bounds of the HTTP server, in seconds and bytes."""

    connections: int = 500
    header_bytes: int = 16 * 1024
    idle_seconds: float = 30.0
    """For the first line of a request on an open connection."""
    head_seconds: float = 10.0
    """For the rest of the head, once its first line has come."""
    body_seconds: float = 30.0
    """For the whole body, from when the application asks for it."""
    application_seconds: float = 60.0
    """For the application to begin its answer, body included."""
    send_seconds: float = 30.0
    """For each piece of the answer."""


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

    def waiting(self) -> AbstractContextManager[None]:
        """While inside, the current greenlet has no request and may be dropped at once."""


class HeadersTooLarge(ValueError):
    """More header bytes than allowed."""


class HeadReader:
    """Reads header lines and counts their bytes."""

    def __init__(self, rfile: Any, limit: int) -> None:
        self._rfile = rfile
        self._left = limit

    def readline(self, limit: int = -1) -> bytes:
        most = self._left + 1 if limit < 0 else min(limit, self._left + 1)
        line: bytes = self._rfile.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise HeadersTooLarge("header section is too large")
        return line


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
        if ungranted or too_late:
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

    @property
    def _owner(self) -> ConnectionOwner:
        return self.server.web  # type: ignore[no-any-return]

    def handle_one_request(self) -> Any:
        web = self._owner
        limits = web.limits
        # Pipelined requests are read and answered without any wait in between: let other greenlets run first.
        gevent.sleep(0)
        self._head_deadline = gevent.Timeout(limits.idle_seconds)
        self._head_deadline.start()
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
            self._head_deadline.close()

    def read_requestline(self) -> Any:
        self.requestline = ""
        with self._owner.waiting():
            line = super().read_requestline()
        self.requestline = line
        # The line has come: from now on the deadline of the head counts.
        self._head_deadline.close()
        self._head_deadline = gevent.Timeout(self._owner.limits.head_seconds)
        self._head_deadline.start()
        return line

    def MessageClass(self, rfile: Any, *args: Any) -> Any:
        return super().MessageClass(HeadReader(rfile, self._owner.limits.header_bytes), *args)

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        self._head_deadline.close()
        web = self._owner
        web.counts.requests += 1
        if self.wsgi_input is environ["wsgi.input"]:
            self.wsgi_input = environ["wsgi.input"] = RequestBody(self, self.wsgi_input, web.limits.body_seconds)
        return environ

    def finalize_headers(self) -> None:
        super().finalize_headers()
        if self._owner.closing and not self.close_connection:
            self.close_connection = True
            self.response_headers.append((b"Connection", b"close"))

    def _sendall(self, data: Any) -> None:
        with gevent.Timeout(self._owner.limits.send_seconds, TimeoutError("the client reads too slowly")):
            super()._sendall(data)

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
