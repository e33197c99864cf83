"""Serves a WSGI application over HTTP or HTTPS with gevent's pywsgi, with limits that pywsgi does not have.

Not the application (`app.py`), not what happens on one connection (`http_connection.py`), and not the device port (it
has a server of its own in `transport/`). Added to pywsgi here: a limit on connections, beyond which a client gets 503
instead of no answer; a deadline for the TLS handshake and one for the application; a stop that lets answers finish;
greenlets spawned by `runtime/tasks.py`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import pywsgi

from xiaozhi.net.tcp import listen
from xiaozhi.net.tls import TlsFiles, accept_tls, server_context
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.web.http_connection import LINGER_SECONDS, HttpConnection, WebCounts, WebLimits, plain_response

log = get_logger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
BACKLOG = 1024
TLS_HANDSHAKE_SECONDS = 10.0


class WebServer:
    """One listening socket and the connections it has accepted.

    `port` 0 takes any free one; see `address`. `reuse_port` lets several worker processes listen on the same port
    (SO_REUSEPORT)."""

    def __init__(
        self,
        app: WsgiApp,
        host: str,
        port: int,
        *,
        tls: TlsFiles | None = None,
        reuse_port: bool = False,
        limits: WebLimits | None = None,
        access_log: bool = False,
    ) -> None:
        self.limits = limits or WebLimits()
        self.counts = WebCounts()
        self.access_log = access_log
        self._app = app
        self._host = host
        self._port = port
        self._tls = tls
        self._reuse_port = reuse_port
        self._tasks = Tasks()
        self._idle: set[gevent.Greenlet] = set()
        self._server: _Server | None = None
        self.closing = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on; after `start`."""
        server = self._server
        if server is None:
            return self._host, self._port
        return server.address[0], server.address[1]

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._tasks)

    def start(self) -> None:
        """Listen and serve in the background. Raises OSError (address in use, ...) and ssl.SSLError (certificate or
        key)."""
        options: dict[str, Any] = {}
        if self._tls is not None:
            options["ssl_context"] = server_context(self._tls)
        listener = listen((self._host, self._port), backlog=BACKLOG, reuse_port=self._reuse_port)
        self._server = _Server(self, listener, self._guarded_app, options)
        self._server.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop listening, drop idle connections, let requests under way finish for `timeout` seconds; True when all
        did. Idempotent."""
        self.closing = True
        server, self._server = self._server, None
        if server is not None:
            self._host, self._port = server.address[0], server.address[1]
            server.close()
        gevent.killall(list(self._idle), block=False)
        finished = self._tasks.join(timeout)
        self._tasks.kill()
        return finished

    def _guarded_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The application under its deadline; an answer that has begun is bounded by `send_seconds` instead."""
        deadline = gevent.Timeout(self.limits.application_seconds)
        try:
            with deadline:
                return self._app(environ, start_response)
        except gevent.Timeout as expired:
            if expired is not deadline:
                raise
            self.counts.too_slow += 1
            log.warning(
                "request took too long", path=environ.get("PATH_INFO", ""), seconds=self.limits.application_seconds
            )
            body = b'{"success":false,"message":"The server did not finish in time."}'
            start_response(
                "504 Gateway Timeout", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            )
            return [body]

    # --- what the connection handlers report ---

    def admit(self) -> bool:
        """Whether one more connection may be served; the one that asks is counted already."""
        return not self.closing and self.connections <= self.limits.connections

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While inside, the current greenlet has no request and may be dropped at once."""
        me = gevent.getcurrent()
        self._idle.add(me)
        try:
            yield
        finally:
            self._idle.discard(me)

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """A greenlet for one connection."""
        self._tasks.spawn("http-connection", function, *args)


class _Server(pywsgi.WSGIServer):
    """pywsgi with our spawning, admission and TLS deadline."""

    def __init__(self, web: WebServer, listener: socket.socket, app: WsgiApp, options: dict[str, Any]) -> None:
        self.web = web
        self._context: Any = options.get("ssl_context")
        # pywsgi would look the machine's name up in the DNS; nothing here uses it.
        environ = {"SERVER_NAME": web.address[0]}
        super().__init__(
            listener,
            app,
            log=None,
            error_log=None,
            handler_class=HttpConnection,
            spawn=web.spawn,
            environ=environ,
            **options,
        )

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        try:
            secure = accept_tls(self._context, client_socket, TLS_HANDSHAKE_SECONDS)
        except OSError as error:
            # Port scanners, and plain HTTP on the TLS port: no fault of this server, and too many for a line each.
            self.web.counts.bad_requests += 1
            log.debug("tls handshake failed", error=str(error)[:120])
            return None
        with secure:
            return self.handle(secure, address)

    def handle(self, sock: Any, address: Any) -> None:
        if not self.web.admit():
            self.web.counts.refused += 1
            _refuse(sock, 503, "Service Unavailable", "The server is busy, please try again.", "Retry-After: 2\r\n")
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(sock, address)


def _refuse(sock: Any, status: int, reason: str, message: str, more: str) -> None:
    try:
        with gevent.Timeout(LINGER_SECONDS, TimeoutError("the client reads too slowly")):
            sock.sendall(plain_response(status, reason, message, more))
            sock.shutdown(socket.SHUT_WR)
            # Closing with unread bytes would reset the connection and take the answer with it.
            sock.recv(16384)
    except OSError:
        log.debug("refused client went away")
