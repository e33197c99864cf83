"""Serves a WSGI application over HTTP or HTTPS with gevent's pywsgi, with limits that pywsgi does not have.

Not the application (`app.py`), not what happens on one connection (`http_connection.py`), and not the device port (it
has a server of its own in `transport/`). Added to pywsgi here: limits on connections (`seats.py`), beyond which a
client gets 503 instead of no answer; a deadline for the TLS handshake and one for the application; a stop that lets
answers finish; greenlets spawned by `runtime/tasks.py`."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import pywsgi

from xiaozhi.net.origin import NO_PROXIES
from xiaozhi.net.proxies import TrustedProxies, one_client
from xiaozhi.net.tcp import listen
from xiaozhi.net.tls import TlsFiles, accept_tls, server_context
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.web.http_connection import LINGER_SECONDS, HttpConnection, WebCounts, WebLimits, refuse
from xiaozhi.web.seats import Seat, Seats

log = get_logger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
BACKLOG = 1024
TLS_HANDSHAKE_SECONDS = 10.0
SEND_BUFFER_BYTES = 128 * 1024
"""Kernel buffer of a connection. Linux would take megabytes of an answer that nobody reads."""
REFUSALS = 64
"""Connections beyond all limits that are told so; more are only closed."""


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
        trusted: TrustedProxies = NO_PROXIES,
    ) -> None:
        self.limits = limits or WebLimits()
        self.counts = WebCounts()
        self.access_log = access_log
        self._app = app
        self._host = host
        self._port = port
        self._tls = tls
        self._reuse_port = reuse_port
        self._trusted = trusted
        self._tasks = Tasks()
        self.seats = Seats()
        self._requests: Counter[str] = Counter()
        """Requests under way that came through trusted proxies, by client."""
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
        self.seats.drop_waiting()
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

    def enter(self, ip: str) -> Seat | None:
        """A seat for a connection from this address; None when there is none."""
        if self.closing:
            return None
        limits = self.limits
        holder = "" if ip in self._trusted else one_client(ip)
        return self.seats.enter(holder, seats=limits.connections, each=limits.per_address, reserve=limits.reserve)

    def waits(self, seat: Seat) -> None:
        """The current greenlet has no request and may be dropped at once."""
        me = gevent.getcurrent()
        self.seats.waits(seat, lambda: me.kill(block=False))

    @contextmanager
    def request_place(self, environ: dict[str, Any]) -> Iterator[bool]:
        """While inside, the request counts as one of its client; False when it has too many. Only for those that come
        through a trusted proxy: the connections of others are counted."""
        peer = environ.get("REMOTE_ADDR", "")
        if peer not in self._trusted:
            yield True
            return
        forwarded, real = environ.get("HTTP_X_FORWARDED_FOR", ""), environ.get("HTTP_X_REAL_IP", "")
        client = one_client(self._trusted.client_ip(peer, forwarded, real))
        if client in self._trusted or self._requests[client] < self.limits.per_address:
            self._requests[client] += 1
            try:
                yield True
            finally:
                self._requests[client] -= 1
                if not self._requests[client]:
                    del self._requests[client]
        else:
            yield False

    def spawn(
        self, run: Callable[..., None], handle: object, close: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        """The server's way to serve an accepted socket. Runs in the hub: must not wait."""
        if self.connections >= self.limits.connections + self.limits.reserve + REFUSALS:
            self.counts.refused += 1
            close(*args)
            return
        self._tasks.spawn("http-connection", run, handle, close, args)


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
            spawn=web.spawn,
            environ=environ,
            **options,
        )

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        with self._seat(client_socket, address, tls=True) as seat:
            if seat is not None:
                self._handle_tls(seat, client_socket, address)

    def handle(self, sock: Any, address: Any) -> None:
        with self._seat(sock, address) as seat:
            if seat is not None:
                self._handle_http(seat, sock, address)

    @contextmanager
    def _seat(self, sock: Any, address: Any, tls: bool = False) -> Iterator[Seat | None]:
        """The seat of a connection; None when it was told that there is none."""
        seat = self.web.enter(str(address[0]))
        if seat is None:
            self.web.counts.refused += 1
            if not tls:
                refuse(sock, LINGER_SECONDS)
            yield None
            return
        try:
            yield seat
        finally:
            self.web.seats.leave(seat)

    def _handle_tls(self, seat: Seat, client_socket: Any, address: Any) -> None:
        try:
            self.web.waits(seat)
            secure = accept_tls(self._context, client_socket, TLS_HANDSHAKE_SECONDS)
        except OSError as error:
            # Port scanners, and plain HTTP on the TLS port: no fault of this server, and too many for a line each.
            self.web.counts.bad_requests += 1
            log.debug("tls handshake failed", error=str(error)[:120])
            return
        with secure:
            self._handle_http(seat, secure, address)

    def _handle_http(self, seat: Seat, sock: Any, address: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        HttpConnection(sock, address, self, seat).handle()
