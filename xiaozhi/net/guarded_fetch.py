"""Fetches web pages whose address somebody else chose: a news feed, a model, a redirect. Such an address must not reach
this machine, its network or a cloud's metadata service (server-side request forgery).

Every host is looked up here, every address it has is checked, and the connection goes to the address that was checked,
so a name cannot mean something else a moment later (DNS rebinding). Redirects are followed one by one and checked like
the first address. Hosts that the operator named in the configuration may lie in a private network; link-local and
metadata addresses are refused even then. No proxy is used: a proxy would look names up by itself.

Not for vendors (`http.py`): no pooled connections, no retries, no streaming. Source: OWASP's cheat sheet on SSRF,
RFC 6890 (special-purpose addresses)."""

from __future__ import annotations

import ipaddress
import socket
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.http_errors import error_for_status
from xiaozhi.net.tls import client_context
from xiaozhi.runtime.deadlines import at_most

MAX_REDIRECTS: Final = 5
MAX_ADDRESSES: Final = 8
"""Addresses of a host that are tried."""
_PIECE: Final = 65_536
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AGENT: Final = "Mozilla/5.0 (compatible; xiaozhi-server)"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Iterable[str]]
"""(host, port) -> its addresses. Blocking; raises OSError."""

# Where clouds tell a machine its secrets; Alibaba's and Amazon's IPv6 address are not link-local.
_METADATA: Final = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")))
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page. `url`: where it was found, after redirects."""

    url: str
    content_type: str
    """The media type in lower case without parameters, "" when missing."""
    charset: str
    """As the server says, "" when it does not."""
    body: bytes


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class GuardedFetch:
    """`get` pages. Deadlines in seconds: `connect` per address, `total` for everything, redirects included.
    `named_hosts`: those that the operator wrote into the configuration. `verify`: see `VendorHttp`."""

    def __init__(
        self,
        name: str,
        *,
        named_hosts: Iterable[str] = (),
        connect: float = 3.0,
        total: float = 10.0,
        limit: int = 2 * 1024 * 1024,
        verify: bool | str = True,
        resolve: Resolve = look_up,
    ) -> None:
        self._name = name
        self._named = frozenset(host.lower() for host in named_hosts if host)
        self._connect = connect
        self._total = total
        self._limit = limit
        self._verify = verify
        self._resolve = resolve

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Fetched:
        """The page at `url`, unpacked, at most `limit` bytes. Raises VendorRejected for an address that must not be
        fetched, VendorTimeout, VendorGarbage for a page that is too long, and other VendorErrors."""
        # `headers` may hold secrets: they go to the first host only.
        late = VendorTimeout(self._name, f"no page within {self._total:g} s")
        with at_most(self._total, late):
            first = _host(url)
            for _ in range(MAX_REDIRECTS + 1):
                own = headers if _host(url) == first else None
                found = self._get(url, own or {})
                if isinstance(found, Fetched):
                    return found
                url = urllib.parse.urljoin(url, found)
        raise VendorRejected(self._name, f"more than {MAX_REDIRECTS} redirects")

    def _get(self, url: str, headers: Mapping[str, str]) -> Fetched | str:
        """The page, or where it has gone."""
        parts = self._parts(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        error: VendorError | None = None
        for address in self._checked(host, port):
            pool = self._pool(parts.scheme, host, port, address)
            try:
                return self._exchange(pool, parts, headers)
            except (ConnectTimeoutError, NewConnectionError):
                error = VendorUnavailable(self._name, f"no connection to {host}")
            except HTTPError as found:
                raise self._translated(found, host) from found
            finally:
                pool.close()
        raise error or VendorUnavailable(self._name, f"{host} has no address")

    def _parts(self, url: str) -> urllib.parse.SplitResult:
        try:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0:
                return parts
        except ValueError:
            pass
        raise VendorRejected(self._name, "not the address of a web page")

    def _checked(self, host: str, port: int) -> list[str]:
        """The addresses of `host`, all of which may be fetched from. Raises VendorError."""
        try:
            addresses = [host] if _address(host) is not None else list(self._resolve(host, port))
        except (OSError, UnicodeError):
            raise VendorUnavailable(self._name, f"the host {host[:100]} is not known") from None
        named = host.lower() in self._named
        for address in addresses:
            found = _address(address)
            if found is None or not may_fetch(found, named=named):
                raise VendorRejected(self._name, f"{host[:100]} is an address that is not fetched from")
        return list(dict.fromkeys(addresses))[:MAX_ADDRESSES]

    def _pool(self, scheme: str, host: str, port: int, address: str) -> Any:
        timeout = urllib3.Timeout(connect=self._connect, read=self._total)
        if scheme == "http":
            return urllib3.HTTPConnectionPool(address, port, timeout=timeout, retries=False, maxsize=1)
        return urllib3.HTTPSConnectionPool(
            address,
            port,
            timeout=timeout,
            retries=False,
            maxsize=1,
            ssl_context=client_context(self._verify),
            server_hostname=host,  # which is checked; urllib3's assert_hostname would change the shared context
        )

    def _exchange(self, pool: Any, parts: urllib.parse.SplitResult, headers: Mapping[str, str]) -> Fetched | str:
        sent = {"User-Agent": _AGENT, "Accept-Encoding": "gzip", **headers, "Host": _host_header(parts)}
        target = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        if parts.query:
            target += "?" + urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
        reply = pool.request("GET", target, headers=sent, redirect=False, preload_content=False)
        try:
            if reply.status in _REDIRECTS and reply.headers.get("Location"):
                return str(reply.headers["Location"])
            if not 200 <= reply.status < 300:
                raise error_for_status(self._name, reply.status, reply.headers, "")
            kind, _, parameters = str(reply.headers.get("Content-Type", "")).partition(";")
            return Fetched(
                urllib.parse.urlunsplit(parts), kind.strip().lower(), _charset(parameters), self._body(reply)
            )
        finally:
            reply.close()

    def _body(self, reply: Any) -> bytes:
        body = bytearray()
        try:
            for piece in reply.stream(_PIECE, decode_content=True):
                body += piece
                if len(body) > self._limit:
                    raise VendorGarbage(self._name, f"a page of more than {self._limit} bytes")
        except zlib.error as error:
            raise VendorGarbage(self._name, f"broken gzip: {error}") from None
        return bytes(body)

    def _translated(self, error: HTTPError, host: str) -> VendorError:
        if isinstance(error, ReadTimeoutError):
            return VendorTimeout(self._name, f"{host} does not answer")
        if isinstance(error, SSLError):
            return VendorUnavailable(self._name, f"no TLS connection to {host}: {error}"[:200])
        if isinstance(error, DecodeError):
            return VendorGarbage(self._name, f"{host}: {error}"[:200])
        return VendorUnavailable(self._name, f"{host}: {error}"[:200])


def may_fetch(address: Address, *, named: bool) -> bool:
    """Whether a page may be fetched from `address`. `named`: the operator named its host, which then may be private."""
    inner = _embedded(address)
    if inner is not None:
        return may_fetch(inner, named=named)
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return named or address.is_global


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _host(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _host_header(parts: urllib.parse.SplitResult) -> str:
    if parts.netloc.isascii():
        return parts.netloc
    host = (parts.hostname or "").encode("idna").decode("ascii")
    return f"{host}:{parts.port}" if parts.port else host


def _charset(parameters: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'").lower()
    return ""
