"""urllib3's connection pools of this process: one per endpoint and way to reach it, shared by every VendorHttp that
goes there.

Adds one thing to urllib3: a connection knows whether it has ever answered, so that a request which a dead idle
connection swallowed can be told from one that a vendor may have seen."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
import urllib.request
from typing import Any, NoReturn

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError

from xiaozhi.net.tls import client_context

# Idle connections kept per endpoint. How many requests run at once is limited elsewhere; connections beyond this are
# closed after use.
MAX_IDLE = 256


def proxy_for(url: str) -> str:
    """The proxy that the environment names for `url`, "" for none; never one for this machine itself."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return ""
    return urllib.request.getproxies().get(parts.scheme, "")


class _Stale(http.client.RemoteDisconnected):
    """A connection that had answered before was closed by the vendor before a byte of this answer: the request was
    never seen."""


class _KeepsCount(HTTPConnection):
    """Knows whether its socket has ever answered, which is what makes repeating a request safe."""

    _answered = False

    def connect(self) -> None:
        self._answered = False
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().request(*args, **kwargs)
        except (ConnectionResetError, BrokenPipeError) as error:
            self._raise(error)

    def getresponse(self) -> Any:
        try:
            response = super().getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self._raise(error)
        self._answered = True
        return response

    def _raise(self, error: Exception) -> NoReturn:
        if self._answered:
            raise _Stale("the vendor had closed the idle connection") from error
        raise error


class _KeepsCountTls(_KeepsCount, HTTPSConnection):
    pass


class _Plain(urllib3.HTTPConnectionPool):
    ConnectionCls = _KeepsCount


class _Tls(urllib3.HTTPSConnectionPool):
    ConnectionCls = _KeepsCountTls


class _Pools:
    """urllib3's connection pools of this process, shared by every VendorHttp that talks to the same endpoint in the
    same way: through the same proxy, with the same trust."""

    def __init__(self) -> None:
        self._managers: dict[tuple[str, ssl.SSLContext | None], Any] = {}
        self._users: dict[Any, int] = {}

    def lend(self, url: str, proxy: str, verify: bool | str) -> Any:
        """The pool for the endpoint of `url`; to be given back. Raises OSError when `verify` names a file of
        authorities that cannot be used, ValueError and LocationValueError for an address that cannot be one."""
        context = client_context(verify) if url.startswith("https://") or proxy.startswith("https://") else None
        if verify is False:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        key = proxy, context
        manager = self._managers.get(key)
        if manager is None:
            manager = self._managers[key] = _manager(proxy, context)
        pool = manager.connection_from_url(url)
        self._users[pool] = self._users.get(pool, 0) + 1
        return pool

    def give_back(self, pool: Any) -> None:
        """One user less; the last one closes the idle connections."""
        self._users[pool] -= 1
        if self._users[pool]:
            return
        del self._users[pool]
        for shared, manager in self._managers.items():
            for key in manager.pools.keys():  # noqa: SIM118  # a copy; the container itself cannot be iterated
                if manager.pools.get(key) is pool:
                    del manager.pools[key]  # closes its idle connections
                    if not len(manager.pools):
                        del self._managers[shared]
                    return


def _manager(proxy: str, context: ssl.SSLContext | None) -> Any:
    options: dict[str, Any] = {"num_pools": 256, "maxsize": MAX_IDLE, "block": False}
    if context is not None:
        options["ssl_context"] = context
        if proxy.startswith("https://"):
            options["proxy_ssl_context"] = context
    manager: Any = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": _Plain, "https": _Tls}
    return manager


def is_stale(error: ProtocolError) -> bool:
    """True when the request never reached the vendor, because an idle connection was dead."""
    return len(error.args) > 1 and isinstance(error.args[1], _Stale)


pools = _Pools()
