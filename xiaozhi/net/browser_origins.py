"""Which web pages may talk to this server, by the `Origin` header that a browser sends with what a page's script asks.

A page from anywhere runs in the owner's home, behind the router: it could open a device's WebSocket, or fetch its
token, and no password stands in its way. Devices send no Origin and are not concerned. Allowed without being listed are
pages of the host that is asked (any port: our HTTP port and our WebSocket are two origins) and of the visitor's own
machine. Not a proof of anything about other programs, which may send what they like. Pure functions of strings.

Source: RFC 6454 section 7, RFC 6455 section 10.2."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

ANY = "*"


class BrowserOrigins:
    """The pages that may. `allowed`: further origins ("https://pages.example.com:8443"; "null" for pages without one,
    such as local files), or "*" for all."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        listed = frozenset(origin.strip().rstrip("/").lower() for origin in allowed)
        self._any = ANY in listed
        self._listed = listed

    def allows(self, origin: str, *hosts: str) -> bool:
        """Whether a page of this origin may ask, or there is none (""). `hosts`: what stands in the Host header, and in
        that of a trusted proxy."""
        origin = origin.strip().lower()
        if not origin or self._any or origin in self._listed:
            return True
        page = _host(origin)
        return bool(page) and (
            _is_loopback(page) or any(page == _host(f"//{host.partition(',')[0].strip().lower()}") for host in hosts)
        )


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761: browsers never ask a name server for these
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
