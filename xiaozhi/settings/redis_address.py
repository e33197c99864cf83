"""Where a Redis is, as the configuration writes it.

    redis://[user:password@]host[:port][/database]         one server; rediss:// with TLS, unix:///path for a socket
    redis+sentinel://[user:password@]host[:port],host.../service[/database]         found through Sentinels
    redis+cluster://[user:password@]host[:port],host...    a cluster
    rediss+sentinel://, rediss+cluster://                  the same with TLS

Behind `?` may stand what OPTIONS names: `rediss://host?ssl_ca_certs=/etc/ca.pem`. Redis 6 or newer, or Valkey."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
PORT: Final = 6379
SENTINEL_PORT: Final = 26379
OPTIONS: Final = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "sentinel_username",
    "sentinel_password",
)
"""Files in PEM; `ssl_check_hostname=false` for certificates that name another host; what Sentinels of their own ask."""
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\],/]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """An address taken apart. Made by `read_address`."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    service: str
    """Of Sentinels; "" otherwise."""
    database: int
    path: str
    """Of a socket; "" otherwise."""
    options: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """For people: without the password."""
        if self.path:
            return f"unix://{self.path}"
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        service = f"/{self.service}" if self.service else ""
        return f"{self.scheme}://{hosts}{service}{f'/{self.database}' if self.database else ''}"


def read_address(url: str) -> RedisAddress:
    """Take an address apart. Raises ValueError with what is wrong, in words that do not quote a password."""
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{known}://' for known in SCHEMES)}")
    # urlsplit would take the port of the last host for the port of all.
    parts = urlsplit(f"//{rest}")
    options = tuple(parse_qsl(parts.query))
    for key, _ in options:
        if key not in OPTIONS and (scheme, key) != ("unix", "db"):
            raise ValueError(f"has the option {key!r}; known are {', '.join(OPTIONS)}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    path = unquote(parts.path)
    if scheme == "unix":
        if not path.strip("/"):
            raise ValueError("must name a socket: unix:///run/redis/redis.sock")
        database = _number(dict(options).get("db", "0"))
        return RedisAddress(scheme, (), unquote(user), unquote(password), "", database, path, _without(options, "db"))
    port = SENTINEL_PORT if scheme.endswith("+sentinel") else PORT
    found = tuple(_host(written, port) for written in hosts.split(","))
    if len(found) > 1 and "+" not in scheme:
        raise ValueError("names several hosts; that is redis+sentinel:// or redis+cluster://")
    names = [name for name in path.split("/") if name]
    service = ""
    if scheme.endswith("+sentinel"):
        if not names:
            raise ValueError("must name the service behind the hosts: redis+sentinel://host:26379/mymaster")
        service = names.pop(0)
    if len(names) > 1 or (names and scheme.endswith("+cluster")):
        raise ValueError(f"has a path that means nothing: /{'/'.join(names)}")
    database = _number(names[0]) if names else 0
    return RedisAddress(scheme, found, unquote(user), unquote(password), service, database, "", options)


def _host(written: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(written.strip())
    if found is None or int(found[2] or port) > 65535:
        raise ValueError("must name its hosts as host or host:port, with commas between them")
    return found[1].strip("[]"), int(found[2] or port)


def _number(written: str) -> int:
    if not written.isdigit() or len(written) > 4:
        raise ValueError("must name its database by a number")
    return int(written)


def _without(options: tuple[tuple[str, str], ...], key: str) -> tuple[tuple[str, str], ...]:
    return tuple(option for option in options if option[0] != key)
