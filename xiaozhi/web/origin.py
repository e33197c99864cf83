"""Who asks, and under which address they found us: the client's IP and the host to build further addresses with.

Not an access control. What proxies claim (`X-Forwarded-For`, `-Proto`, `-Host`, `X-Real-IP`) counts only when the peer
itself is a trusted proxy; what the client claims in `Host` is checked to be a host name before it is written into an
answer. Pure functions of strings."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 3986, section 3.2.2, without percent-encoding: a name or IPv4 address, or an IPv6 address in brackets; then a
# port.
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_HOPS = 20


class Headers(Protocol):
    """Request headers; names in any case."""

    def get(self, name: str, default: str, /) -> str:
        """The header, or `default`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How a request reached us. `host` is written as in a URL: IPv6 in brackets; `port` None: the scheme's own."""

    scheme: str
    host: str
    port: int | None
    client_ip: str
    proxied: bool = False
    """True when a trusted proxy named the host: then everything we serve is taken to be found there, under that same
    address."""

    @property
    def base_url(self) -> str:
        """ "http://host[:port]", without a slash at the end."""
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port is not None else "")


def trusted_networks(cidrs: Iterable[str]) -> tuple[IpNetwork, ...]:
    """Networks of trusted proxies. Raises ValueError for what is no network."""
    return tuple(ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)


def origin_of(
    *,
    scheme: str,
    peer_ip: str,
    headers: Headers,
    fallback_host: str,
    fallback_port: int,
    trusted: Iterable[IpNetwork] = (),
) -> Origin:
    """The origin of a request that came from `peer_ip` by `scheme`; `fallback_*` stand in for a missing or senseless
    Host header."""
    networks = tuple(trusted)
    if not _is_trusted(peer_ip, networks):
        host, port = _host(headers.get("Host", ""), scheme) or (bracketed(fallback_host), fallback_port)
        return Origin(scheme, host, port, peer_ip)
    claimed = _first(headers.get("X-Forwarded-Proto", "")).lower()
    if claimed in _DEFAULT_PORTS:
        scheme = claimed
    forwarded = _host(_first(headers.get("X-Forwarded-Host", "")), scheme)
    if forwarded is not None:
        return Origin(scheme, *forwarded, _client_ip(peer_ip, headers, networks), proxied=True)
    host, port = _host(headers.get("Host", ""), scheme) or (bracketed(fallback_host), fallback_port)
    return Origin(scheme, host, port, _client_ip(peer_ip, headers, networks))


def bracketed(host: str) -> str:
    """`host` as it is written in a URL: an IPv6 address in brackets, without its zone."""
    if ":" in host and not host.startswith("["):
        return f"[{host.partition('%')[0]}]"
    return host


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


def _client_ip(peer_ip: str, headers: Headers, trusted: tuple[IpNetwork, ...]) -> str:
    # From the right: each proxy appends the peer it saw, so the first one from there that is no proxy of ours is the
    # client.
    hops = [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",") if hop.strip()][-_MAX_HOPS:]
    client = ""
    for hop in reversed(hops):
        if not _is_ip(hop):
            break
        client = hop
        if not _is_trusted(hop, trusted):
            break
    if client:
        return client
    real = headers.get("X-Real-IP", "").strip()
    return real if _is_ip(real) else peer_ip


def _first(header: str) -> str:
    return header.partition(",")[0].strip()


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_trusted(ip: str, trusted: tuple[IpNetwork, ...]) -> bool:
    if not trusted:
        return False
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in trusted)
