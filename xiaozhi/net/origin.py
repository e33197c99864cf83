"""Where a request comes from and how it reached us: the client's IP, and the scheme, host and port by which this server
can be reached.

Not access control. `X-Forwarded-Proto` and `-Host` count only when the peer itself is a trusted proxy
(`net/proxies.py`, which also decides the client's address); the `Host` that the client sends is checked to be a host
name before it is written into an answer. Pure functions of strings, but for `own_address`."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Protocol

from xiaozhi.net.proxies import MAX_HOPS, TrustedProxies, is_at_home, plain_ip

# RFC 3986, section 3.2.2, without percent-encoding: a name or IPv4 address, or an IPv6 address in brackets; then a
# port.
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
NO_PROXIES = TrustedProxies()
_SPOKEN_FOR = ("X-Forwarded-For", "X-Real-IP", "Forwarded")


class Headers(Protocol):
    """Request headers; names in any case."""

    def get(self, name: str, default: str, /) -> str:
        """The header, or `default`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How a request reached us. `host` is written as in a URL: IPv6 in brackets; `port` None: the default of the
    scheme."""

    scheme: str
    host: str
    port: int | None
    client_ip: str
    proxied: bool = False
    """True when a trusted proxy named the host: then everything this server offers is assumed to be at that address."""
    sure: bool = field(default=True, compare=False)
    """False when `client_ip` may be that of a proxy: one that is not trusted has left its headers, or a trusted one has
    not said for whom it speaks."""
    seems_at_home: bool = field(default=False, compare=False)
    """The client is in a private network. Also for an address that we are not `sure` of when everybody that a proxy
    which is not trusted names is in one: nobody from elsewhere passes through such a proxy unnamed but by a fault of
    its own."""

    @property
    def base_url(self) -> str:
        """ "http://host[:port]", without a slash at the end."""
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port is not None else "")


def origin_of(
    *,
    scheme: str,
    peer_ip: str,
    headers: Headers,
    fallback_host: str,
    fallback_port: int,
    trusted: TrustedProxies = NO_PROXIES,
) -> Origin:
    """The origin of a request that came from `peer_ip` by `scheme`; `fallback_*` stand in for a missing or invalid Host
    header."""
    client_ip = trusted.client_ip(peer_ip, headers.get("X-Forwarded-For", ""), headers.get("X-Real-IP", ""))
    if peer_ip not in trusted:
        sure = not any(headers.get(name, "").strip() for name in _SPOKEN_FOR)
        seems_at_home = is_at_home(client_ip) and (sure or _all_at_home(headers))
    else:
        sure = client_ip != plain_ip(peer_ip)
        seems_at_home = sure and is_at_home(client_ip)
        claimed = _first(headers.get("X-Forwarded-Proto", "")).lower()
        if claimed in _DEFAULT_PORTS:
            scheme = claimed
        forwarded = _host(_first(headers.get("X-Forwarded-Host", "")), scheme)
        if forwarded is not None:
            return Origin(scheme, *forwarded, client_ip, proxied=True, sure=sure, seems_at_home=seems_at_home)
    host, port = _host(headers.get("Host", ""), scheme) or (bracketed(fallback_host), fallback_port)
    return Origin(scheme, host, port, client_ip, sure=sure, seems_at_home=seems_at_home)


def bracketed(host: str) -> str:
    """`host` as it is written in a URL: an IPv6 address in brackets, without its zone."""
    if ":" in host and not host.startswith("["):
        return f"[{host.partition('%')[0]}]"
    return host


def own_address() -> str:
    """The address of this machine that others on its network most likely reach. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): picks a route, no packet leaves
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _all_at_home(headers: Headers) -> bool:
    """Whether all whom a proxy names are in private networks."""
    if headers.get("Forwarded", "").strip():
        return False
    named = [*headers.get("X-Forwarded-For", "").split(",", MAX_HOPS), headers.get("X-Real-IP", "")]
    return all(is_at_home(address) for entry in named if (address := entry.strip()))


def _host(header: str, scheme: str) -> tuple[str, int | None] | None:
    match = _HOST.fullmatch(header.strip())
    if match is None:
        return None
    name, digits = match["name"], match["port"]
    if name.startswith("["):
        try:
            ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return None
    port = int(digits) if digits else None
    if port is not None and not 0 < port < 65536:
        return None
    return name, None if port == _DEFAULT_PORTS[scheme] else port


def _first(header: str) -> str:
    return header.partition(",")[0].strip()
