"""The device port: accepts, upgrades to WebSocket, and gives every device a greenlet of its own.

gevent's WSGIServer accepts, gevent-websocket's handler checks and answers the upgrade (RFC 6455 section 4); neither is
used once the socket is a WebSocket. Not the HTTP port (`web/`): here a plain GET only says that the server is running.

A new connection is checked in this order, the cheap checks first: size and deadline of the request, path, origin of the
page (403), `Admission.check_handshake`, the injected `admit` (401), `Admission.enter` (503 with Retry-After), the
upgrade. A refused request always gets an answer; none is left waiting in the backlog."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

from xiaozhi.errors import AuthError, ConnectionClosed, LockedOut, Overloaded
from xiaozhi.net.browser_origins import BrowserOrigins
from xiaozhi.net.proxies import TrustedProxies, one_client, plain_ip
from xiaozhi.net.tcp import SocketLimits, configure, listen
from xiaozhi.net.tls import TlsFiles, accept_tls, server_context
from xiaozhi.protocol import close_codes
from xiaozhi.runtime.limits import Admission, Permit, TokenBucket
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.link import Identity
from xiaozhi.transport.connection import Connection, ConnectionServices
from xiaozhi.transport.handshake import (
    PeerGone,
    Refused,
    Request,
    identity_of,
    leads_to,
    page_may,
    parse_head,
    plain_answer,
    read_head,
)
from xiaozhi.transport.websocket import WebSocket

log = get_logger(__name__)

PATH: Final = "/xiaozhi/v1/"
MAX_HANDSHAKES: Final = 2048
NO_DEVICE_ID: Final = (
    "This is the xiaozhi device port, and it works. "
    "A device says who it is by the header or query parameter device-id. "
    "端口正常。设备需要在请求头或查询参数中提供 device-id。"
)
OLD_HTTP: Final = (
    "A WebSocket needs HTTP/1.1, and this request says HTTP/1.0. nginx needs the line: proxy_http_version 1.1; "
    "WebSocket 需要 HTTP/1.1；若使用 nginx 反向代理，请设置 proxy_http_version 1.1;"
)
_UNREAD_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
_REFUSALS_LOGGED_PER_SECOND: Final = 2.0

_UPGRADE_HEADERS: Final = {
    "upgrade": "HTTP_UPGRADE",
    "connection": "HTTP_CONNECTION",
    "sec-websocket-version": "HTTP_SEC_WEBSOCKET_VERSION",
    "sec-websocket-key": "HTTP_SEC_WEBSOCKET_KEY",
}

Admit = Callable[[Identity, str], bool]
"""(device, the Authorization header or parameter) -> whether the device has shown a token of its own. Raises AuthError,
LockedOut or Overloaded."""


@dataclass(frozen=True, slots=True)
class AcceptorOptions:
    """How the port behaves."""

    path: str = PATH
    request_timeout: float = 10.0
    """Seconds for TLS handshake and request head together, at the very most twice that."""
    header_bytes: int = 16_384
    handshakes: int = MAX_HANDSHAKES
    """Connections whose request is still being read. More are refused without reading: each holds a descriptor and a
    greenlet. One address may have half of them, so that it cannot keep all others out by saying nothing."""
    backlog: int = 2048
    reuse_port: bool = False
    """SO_REUSEPORT: several processes share the port."""
    tls: TlsFiles | None = None
    """None: no encryption."""
    trusted: TrustedProxies = field(default_factory=TrustedProxies)
    """Proxies whose X-Forwarded-For is believed, and to whom limits per address do not apply."""
    browsers: BrowserOrigins = field(default_factory=BrowserOrigins)
    """Web pages that may connect."""
    sockets: SocketLimits = field(default_factory=SocketLimits)


class Acceptor:
    """See the module. `start`, then in the end `stop_accepting`, `close`, `join`."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        services: ConnectionServices,
        admit: Admit,
        admission: Admission,
        options: AcceptorOptions | None = None,
    ) -> None:
        """Port 0 lets the system choose; see `port`. Nothing is opened before `start`."""
        self._address = (host, port)
        self._services = services
        self._admit = admit
        self._admission = admission
        self._options = options or AcceptorOptions()
        self._clock = services.clock
        self._path = self._options.path
        self._greenlets = Tasks()
        self._server: _Server | None = None
        self._refusal_lines = TokenBucket(_REFUSALS_LOGGED_PER_SECOND, 10.0, self._clock())
        self.handshakes = 0
        """Connections whose request is being read right now."""
        self._unread: Counter[str] = Counter()
        """The same, by address."""

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.server_port if self._server is not None else self._address[1]

    @property
    def serving(self) -> int:
        """Greenlets at work: one per handshake, one per device."""
        return len(self._greenlets)

    def start(self) -> None:
        """Listen. Raises OSError when the address is taken, ssl.SSLError or OSError when the certificate cannot be
        used."""
        options = self._options
        context = server_context(options.tls) if options.tls is not None else None
        listener = listen(self._address, backlog=options.backlog, reuse_port=options.reuse_port)
        self._server = _Server(self, listener, options.request_timeout, context)
        self._server.start()

    def stop_accepting(self) -> None:
        """Close the port. Connections in the backlog are still served, or refused if admission is shut. Idempotent."""
        server = self._server
        if server is None or server.closed:
            return
        try:
            while (newcomer := server.do_read()) is not None:
                server.do_handle(*newcomer)
        except OSError as error:  # out of descriptors, or a newcomer that has left already
            log.debug("cannot empty the backlog", reason=str(error))
        server.close()

    def close(self, code: int = close_codes.GOING_AWAY, reason: str = "") -> None:
        """Close the port and the connection of every device. Does not wait."""
        self.stop_accepting()
        self._services.connections.close_all(code, reason)

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until all connections have ended; True if they have."""
        return self._greenlets.join(timeout)

    # --- called by the server and its handlers ------------------------------------------------------------------------

    def spawn_handshake(
        self, run: Callable[..., None], handle: object, close: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        """The server's way to serve an accepted socket. Runs in the hub: must not wait."""
        peer, most = str(args[1][0]), self._options.handshakes
        ip = one_client(peer)
        greedy = self._unread[ip] >= max(1, most // 2) and peer not in self._options.trusted
        if greedy or self.handshakes >= most:
            _send_if_possible(args[0], _UNREAD_REFUSAL)
            close(*args)
            return
        self.handshakes += 1
        self._unread[ip] += 1
        self._greenlets.spawn("handshake", self._handshake, ip, run, handle, close, args)

    def _handshake(
        self, ip: str, run: Callable[..., None], handle: object, close: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        try:
            run(handle, close, args)
        finally:
            self.handshakes -= 1
            self._unread[ip] -= 1
            if not self._unread[ip]:
                del self._unread[ip]

    def serve(self, upgrade: _Upgrade) -> None:
        """One request. Raises Refused for every HTTP answer that is not an upgrade, PeerGone if the peer has left."""
        options = self._options
        head, early = read_head(
            upgrade.socket, limit=options.header_bytes, timeout=options.request_timeout, clock=self._clock
        )
        request = parse_head(head)
        if not request.wants_websocket:
            raise plain_answer(request)
        if request.version != "HTTP/1.1":
            raise Refused("400 Bad Request", OLD_HTTP)
        if not leads_to(request.path, self._path):
            raise Refused("404 Not Found", f"Devices connect to {options.path}")
        peer_ip = str(upgrade.client_address[0])
        if not page_may(request, peer_ip, options.browsers, options.trusted):
            raise Refused("403 Forbidden", "Pages of this origin may not connect (server.allowed_origins).")
        identity = identity_of(request, peer_ip, options.trusted, tls=options.tls is not None)
        exempt = plain_ip(peer_ip) in options.trusted and (identity.via_gateway or identity.peer_ip in options.trusted)
        try:
            address = one_client(identity.peer_ip)
            self._admission.check_handshake(address, exempt=exempt)
            if not identity.device_id:
                self._explain(upgrade.websocket_for(request, early, options.sockets))
                return
            if self._admit(identity, request.value("authorization")):
                identity = replace(identity, proved=True)
            permit = self._admission.enter(identity.device_id, address, exempt=exempt)
        except LockedOut as error:
            raise Refused("429 Too Many Requests", str(error), retry_after=error.retry_after) from None
        except AuthError as error:
            raise Refused("401 Unauthorized", str(error) or "A valid token is needed.") from None
        except Overloaded as error:
            raise Refused("503 Service Unavailable", str(error), retry_after=error.retry_after) from None
        try:
            ws = upgrade.websocket_for(request, early, options.sockets)
            self._greenlets.spawn("device", self._serve_device, ws, identity, permit)
        except BaseException:
            permit.release()
            raise

    def refuse(self, refusal: Refused, peer: object) -> bytes:
        """The bytes of an HTTP answer; logs it, if the log can bear it."""
        if not refusal.status.startswith("200") and self._refusal_lines.take(self._clock()):
            log.info("refused", status=refusal.status, reason=refusal.text, peer=peer)
        return refusal.answer()

    def _serve_device(self, ws: WebSocket, identity: Identity, permit: Permit) -> None:
        try:
            Connection(ws, identity, self._services).run()
        finally:
            permit.release()

    def _explain(self, ws: WebSocket) -> None:
        """The request does not say which device this is: send what is missing, and close."""
        try:
            ws.send_text(NO_DEVICE_ID)
            ws.close(close_codes.POLICY_VIOLATION, "device-id is missing")
        except ConnectionClosed:
            log.debug("left before the explanation")
        finally:
            ws.finish()


class _Quiet:
    """gevent-websocket's logger: what it logs per handshake is not needed, and costs more than the handshake."""

    def debug(self, *_: object) -> None:
        """Nothing."""

    info = warning = error = debug


class _Upgrade(WebSocketHandler):  # type: ignore[misc]
    """One accepted socket. Only the checks and the answer of the upgrade are inherited."""

    SUPPORTED_VERSIONS = ("13",)

    def __init__(self, sock: Any, address: Any, server: _Server) -> None:
        # Not the inherited one: it would make a buffered file, which costs 9 KB and waits without a deadline.
        self.socket = sock
        self.client_address = address
        self.server = server
        self.rfile = _NoFile()

    def handle_one_request(self) -> None:
        """One request per connection: it becomes a WebSocket, or gets an HTTP answer, or the peer has left."""
        acceptor = self.server.acceptor
        try:
            acceptor.serve(self)
        except Refused as refusal:
            _send_if_possible(self.socket, acceptor.refuse(refusal, self.client_address))
        except (PeerGone, OSError) as error:
            log.debug("left during the handshake", peer=self.client_address, reason=str(error))
        except Exception:
            log.exception("handshake failed", peer=self.client_address)
            if self.socket is not None:
                _send_if_possible(self.socket, Refused("500 Internal Server Error", "This is our fault.").answer())

    def websocket_for(self, request: Request, early: bytes, limits: SocketLimits) -> WebSocket:
        """Answer the upgrade and take the socket away from the server. Raises Refused 400 or 426, OSError if the peer
        is gone."""
        self.request_version = request.version
        self.environ: Any = {"REQUEST_METHOD": request.method, "PATH_INFO": request.path}
        self.environ |= {
            _UPGRADE_HEADERS[name]: value for name, value in request.headers.items() if name in _UPGRADE_HEADERS
        }
        try:
            refused = self.upgrade_websocket()
        except ValueError:  # a key that is not base64
            refused = True
        if refused or self.websocket is None:
            # What the library would say quotes the request.
            raise Refused(
                self.status.decode() if self.status else "400 Bad Request", "This is no valid request for a WebSocket."
            )
        self.write("")
        self._forget()
        configure(self.socket, limits)
        sock, self.socket = self.socket, None
        self.server.keep_open(sock)
        return WebSocket(sock, limits=limits, early=early)

    def _forget(self) -> None:
        """Take apart the WebSocket object that gevent-websocket made: it is part of reference cycles, and would send a
        close frame when it is freed."""
        self.websocket.closed = True
        self.websocket.environ = self.websocket.stream = None
        self.websocket = None
        self.environ.clear()
        self.environ = None

    def log_request(self) -> None:
        """No access log on this port: what matters is logged by `Acceptor` and `Connection`."""

    # The inherited class leaves this attribute out when it does not upgrade.
    websocket: Any = None


class _NoFile:
    """In place of pywsgi's file of the request; gevent-websocket keeps its `read` and never calls it here."""

    closed = False

    def read(self, size: int) -> bytes:
        """Nothing is ever left to read."""
        return b""


class _Server(WSGIServer):  # type: ignore[misc]
    """gevent's server with deadlines, without a look-up of the machine's name, and able to give a socket away."""

    handler_class = _Upgrade

    def __init__(
        self, acceptor: Acceptor, listener: socket.socket, timeout: float, context: ssl.SSLContext | None
    ) -> None:
        self.acceptor = acceptor
        self.logger = _Quiet()
        self._timeout = timeout
        self._context: Any = context
        self._kept: set[Any] = set()
        tls = {"ssl_context": context} if context is not None else {}
        super().__init__(listener, log=None, error_log=None, spawn=acceptor.spawn_handshake, **tls)

    def update_environ(self) -> None:
        """Not the inherited one: it asks the name service for this machine's name, which is not needed."""

    def keep_open(self, sock: Any) -> None:
        """Do not close this socket when its handler returns: it belongs to a WebSocket now."""
        self._kept.add(sock)

    def do_close(self, sock: Any, *_: Any) -> None:
        """Called when a handler has returned."""
        if sock in self._kept:
            self._kept.discard(sock)
        else:
            sock.close()

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """The inherited one has no deadline for the TLS handshake."""
        try:
            secure = accept_tls(self._context, client_socket, self._timeout)
        except OSError as error:
            log.debug("TLS handshake failed", peer=address, reason=str(error))
            return
        try:
            self.handle(secure, address)
        finally:
            self.do_close(secure)


def _send_if_possible(sock: Any, data: bytes) -> None:
    """Send an answer of a few hundred bytes to a peer that may have left. It is sent only as far as the kernel's buffer
    takes it, so that nothing waits."""
    try:
        sock.settimeout(0.0)
        sock.send(data)
    except OSError as error:
        log.debug("cannot answer", reason=str(error))
