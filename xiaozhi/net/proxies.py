"""Trusted proxies, the one decision of a client's address, and what follows from an address: both ports of the server
ask here.

Everything between the client and the first proxy of ours is written by strangers, so only the end of X-Forwarded-For
counts, which our own proxies have appended. Pure functions of strings; not access control."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

MAX_HOPS: Final = 20
"""Entries of X-Forwarded-For that are looked at, from the right. No real chain of proxies is that long."""
MAX_ADDRESS_CHARS: Final = 64
"""An IPv6 address has at most 45 characters, its zone is the name of a network interface."""

HOME_NETWORKS: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Addresses that are not routed on the internet: RFC 1918, 3927, 4193, 4291. Not the shared addresses of carriers
(RFC 6598), behind which strangers are neighbours."""
IPV6_PREFIX: Final = 64

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """The networks whose X-Forwarded-* and X-Real-IP headers are believed. `address in proxies` works for any
    string."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[object] = ()) -> None:
        """CIDR strings, single addresses, or ipaddress objects. Raises ValueError for anything else."""
        self._networks = tuple(ipaddress.ip_network(str(network), strict=False) for network in networks)

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_ip(self, peer_ip: str, forwarded_for: str = "", real_ip: str = "") -> str:
        """The address of the client, in the form of `plain_ip`: the peer's own, unless the peer is a trusted proxy and
        says for whom it speaks. "" when the peer has no IP address (a Unix socket).

        `forwarded_for`: the X-Forwarded-For header, "" when missing. Read from the right, the first address that is not
        a trusted proxy is the client; what stands before it, or before an entry that is no address, could be written by
        anybody. `real_ip`: X-Real-IP, one address; counts only when there is no X-Forwarded-For."""
        client = plain_ip(peer_ip)
        if client not in self:
            return client
        if not forwarded_for.strip():
            return plain_ip(real_ip.strip()) or client
        for entry in reversed(forwarded_for.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            hop = plain_ip(entry.strip())
            if not hop:
                break
            client = hop
            if hop not in self:
                break
        return client


def is_at_home(address: str) -> bool:
    """True for an address of a private or local network."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in HOME_NETWORKS)


def is_loopback(address: str) -> bool:
    """True for an address of this machine."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def is_loopback_host(host: str) -> bool:
    """True for the host of a URL that always means the machine which asks."""
    return host == "localhost" or is_loopback(host.strip("[]"))


def one_client(address: str) -> str:
    """What limits per address count by: an IPv4 address, or the network of an IPv6 address, of which everybody has
    2^64."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return "" if parsed is None else str(parsed)


def plain_ip(text: str) -> str:
    """An address in its canonical form: IPv4 in IPv6 (::ffff:1.2.3.4) becomes IPv4, an IPv6 zone is dropped. "" when it
    is no address."""
    parsed = _parsed(text)
    return "" if parsed is None else str(parsed)


def _parsed(text: str) -> _Address | None:
    return _parse(text) if len(text) <= MAX_ADDRESS_CHARS else None


@lru_cache(maxsize=1024)
def _parse(text: str) -> _Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    return parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed))
