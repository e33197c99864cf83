"""The upgrade request: read with a limit and a deadline, parsed, and turned into the device's `Identity`.

Not a web server: no bodies, no keep-alive, only GET. It replaces pywsgi's parsing of requests on the device port, which
reads up to 100 headers of 64 KiB each without any deadline, and takes two thirds of the time of a handshake. Sources:
RFC 9112 (message syntax), RFC 6455 section 4 (upgrade)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from xiaozhi.errors import ProtocolError
from xiaozhi.net.browser_origins import BrowserOrigins
from xiaozhi.net.origin import origin_of
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.session.link import Identity

MAX_HEADERS: Final = 64
MAX_LINE_BYTES: Final = 8192
MAX_CLIENT_ID_CHARS: Final = 128
RUNNING: Final = "Server is running\n"
_READ_BYTES: Final = 4096
_END: Final = b"\r\n\r\n"
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# What decides who asks for what: a proxy in front might read the other one.
_ONCE: Final = frozenset({"host", "origin", "authorization", "device-id", "client-id"})
_VERSIONS: Final = {"1": 1, "2": 2, "3": 3}


class Refused(Exception):
    """The request gets this HTTP answer instead of an upgrade. `retry_after` in seconds."""

    def __init__(self, status: str, text: str, *, retry_after: float | None = None) -> None:
        self.status = status
        self.text = text
        self.retry_after = retry_after
        super().__init__(f"{status}: {text}")

    def answer(self) -> bytes:
        """As HTTP; the connection ends with it."""
        body = self.text.encode()
        lines = [
            f"HTTP/1.1 {self.status}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if self.retry_after is not None:
            lines.append(f"Retry-After: {max(1, ceil(self.retry_after))}")
        if self.status.startswith("401"):
            lines.append("WWW-Authenticate: Bearer")
        if self.status.startswith(("400", "426")):
            lines.append("Sec-WebSocket-Version: 13")
        return "\r\n".join((*lines, "", "")).encode("latin-1", "replace") + body


class PeerGone(Exception):
    """The peer left, or sent nothing in time, before there was a request."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Header names are lower-case; a repeated header is joined by commas."""

    method: str
    path: str
    query: Mapping[str, str]
    version: str
    headers: Mapping[str, str]

    @property
    def wants_websocket(self) -> bool:
        """True for a request to switch to the WebSocket protocol."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    def get(self, name: str, default: str, /) -> str:
        """A header, its name in any case; see `net/origin.py`."""
        return self.headers.get(name.lower(), default)

    def value(self, name: str) -> str:
        """A header, or the query parameter of the same name: browsers cannot set headers."""
        return (self.headers.get(name) or self.query.get(name) or "").strip()


def read_head(
    sock: Any, *, limit: int, timeout: float, clock: Callable[[], float] = time.monotonic
) -> tuple[bytes, bytes]:
    """(head, bytes that came behind it) of one request.

    At most `limit` bytes, in at most `timeout` seconds altogether, however slowly they come. Raises Refused 408 or 431,
    or PeerGone."""
    deadline = clock() + timeout
    data = b""
    while True:
        left = deadline - clock()
        if left <= 0:
            raise Refused("408 Request Timeout", "The request took too long.") if data else PeerGone
        sock.settimeout(left)
        try:
            chunk = sock.recv(_READ_BYTES)
        except TimeoutError:
            continue
        except OSError as error:
            raise PeerGone from error
        if not chunk:
            raise PeerGone
        searched = max(0, len(data) - len(_END) + 1)
        data += chunk
        end = data.find(_END, searched)
        if 0 <= end <= limit:
            return data[:end], data[end + len(_END) :]
        if len(data) > limit:
            raise Refused("431 Request Header Fields Too Large", f"More than {limit} bytes of headers.")


def parse_head(head: bytes) -> Request:
    """The request in a head. Raises Refused 400, 414, 431 or 505."""
    lines = head.decode("latin-1").split("\r\n")
    if len(lines[0]) > MAX_LINE_BYTES:
        raise Refused("414 URI Too Long", "The request line is too long.")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[1]:
        raise Refused("400 Bad Request", "This is no HTTP request.")
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refused("505 HTTP Version Not Supported", "HTTP/1.1, please.")
    if len(lines) > MAX_HEADERS + 1:
        raise Refused("431 Request Header Fields Too Large", f"More than {MAX_HEADERS} headers.")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or not _TOKEN.issuperset(name) or "\n" in value or "\r" in value or "\0" in value:
            raise Refused("400 Bad Request", "This is no header.")
        name = name.lower()
        value = value.strip()
        if name in headers and name in _ONCE:
            raise Refused("400 Bad Request", f"The header {name} stands there twice.")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path, _, query = target.partition("?")
    try:
        parameters = dict(reversed(parse_qsl(query, max_num_fields=MAX_HEADERS)))  # the first of several counts
    except ValueError as error:
        raise Refused("400 Bad Request", "Too many query parameters.") from error
    return Request(method, unquote(path), parameters, version, headers)


def leads_to(path: str, expected: str) -> bool:
    """Whether a path means `expected` ("/xiaozhi/v1/"), slashes apart: people type addresses, and proxies take parts of
    a path away or put one in front. Nothing else lives on this port, so all of "/", "/xiaozhi", "/v1",
    "//xiaozhi//v1" and "/voice/xiaozhi/v1" are clear enough."""
    asked, wanted = ([part for part in where.split("/") if part] for where in (path, expected))
    if len(asked) > len(wanted):
        return asked[-len(wanted) :] == wanted
    return asked == wanted[: len(asked)] or asked == wanted[len(wanted) - len(asked) :]


def plain_answer(request: Request) -> Refused:
    """The answer to a request that does not ask for a WebSocket: people and load balancers check whether the port
    works."""
    if request.method in ("GET", "HEAD"):
        return Refused("200 OK", RUNNING if request.method == "GET" else "")
    return Refused("405 Method Not Allowed", "GET only.")


def page_may(request: Request, peer_ip: str, browsers: BrowserOrigins, trusted: TrustedProxies) -> bool:
    """Whether the request comes from no web page, or from one that may connect."""
    headers = request.headers
    hosts = [headers.get("host", "")]
    if peer_ip in trusted:
        hosts.append(headers.get("x-forwarded-host", ""))
    return browsers.allows(headers.get("origin", ""), *hosts)


def identity_of(request: Request, peer_ip: str, trusted: TrustedProxies, *, tls: bool = False) -> Identity:
    """Which device asks. `device_id` is empty when the request does not say. `tls`: whether this port speaks TLS.
    Raises Refused 400 for an id that cannot be one."""
    via_gateway = request.query.get("from") == "mqtt_gateway"
    # Without a usable Host header, and behind the gateway, the device's way to this server is not known.
    scheme = "https" if tls else "http"
    origin = origin_of(
        scheme=scheme, peer_ip=peer_ip, headers=request, fallback_host="", fallback_port=0, trusted=trusted
    )
    return Identity(
        device_id=_device_id(request),
        client_id=_client_id(request),
        peer_ip=origin.client_ip,
        protocol_version=_VERSIONS.get(request.value("protocol-version"), 1),
        via_gateway=via_gateway,
        user_agent="".join(filter(str.isprintable, request.get("user-agent", "")[:256])),
        origin=origin if origin.host and not via_gateway else None,
        seems_at_home=origin.seems_at_home,
    )


def _device_id(request: Request) -> str:
    value = request.value("device-id")
    try:
        if value:
            checked_device_id(value)
    except ProtocolError as error:
        raise Refused("400 Bad Request", str(error)) from None
    return value


def _client_id(request: Request) -> str:
    value = request.value("client-id")
    if len(value) > MAX_CLIENT_ID_CHARS or not value.isprintable():
        raise Refused("400 Bad Request", "client-id is not an id.")
    return value
