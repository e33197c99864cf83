"""A client of a Redis, and its failures in our own words. The package takes a third of a second to import, so that is
done only where there is a Redis to talk to, and only here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from xiaozhi.errors import StorageError, StorageTimeout, StorageUnavailable
from xiaozhi.settings.redis_address import RedisAddress

if TYPE_CHECKING:
    from redis import Redis

_PASSING: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS")
"""First words of refusals that say something about the server and not about the command."""
MAX_CONNECTIONS: Final = 32
"""Of one process; whoever finds all of them busy waits within his deadline."""


def connect(address: RedisAddress, timeout: float) -> Redis:
    """A client. That of a cluster connects now, the others when they are first used. `timeout`: seconds for connecting
    and for each answer. Raises redis.RedisError."""
    import redis
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode, RedisCluster
    from redis.retry import Retry
    from redis.sentinel import Sentinel

    timeouts: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    options: dict[str, Any] = {
        **timeouts,
        "username": address.user or None,
        "password": address.password or None,
        "socket_keepalive": True,
        # Who retries is the caller: it has a deadline.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": MAX_CONNECTIONS,
    }
    given: dict[str, Any] = dict(address.options)
    sentinels = {key.removeprefix("sentinel_"): given.pop(key) for key in list(given) if key.startswith("sentinel_")}
    if "ssl_check_hostname" in given:
        given["ssl_check_hostname"] = given["ssl_check_hostname"].lower() not in ("false", "no", "0")
    if address.scheme.startswith("rediss"):
        given["ssl"] = True
    if address.path:
        return redis.Redis(unix_socket_path=address.path, db=address.database, **options)
    if address.service:
        # The package has no types for these.
        watch: Any = Sentinel(list(address.hosts), sentinel_kwargs=timeouts | given | sentinels, **options, **given)  # type: ignore[no-untyped-call]
        found: redis.Redis = watch.master_for(address.service, db=address.database)
        return found
    if address.scheme.endswith("+cluster"):
        nodes = [ClusterNode(host, port) for host, port in address.hosts]  # type: ignore[no-untyped-call]
        # Speaks the same commands; not a subclass.
        return RedisCluster(startup_nodes=nodes, **options, **given)  # type: ignore[return-value]
    [(host, port)] = address.hosts
    return redis.Redis(host=host, port=port, db=address.database, **options, **given)


@contextmanager
def translated() -> Iterator[None]:
    """Raises StorageTimeout, StorageUnavailable or StorageError instead of what the package raises inside."""
    from redis import exceptions

    passing = (
        exceptions.BusyLoadingError,
        exceptions.ClusterDownError,
        exceptions.MasterDownError,
        exceptions.OutOfMemoryError,
        exceptions.ReadOnlyError,
        exceptions.TryAgainError,
    )
    try:
        yield
    except exceptions.TimeoutError as error:
        raise StorageTimeout(_said(error)) from None
    except (exceptions.ConnectionError, *passing, OSError) as error:
        raise StorageUnavailable(_said(error)) from None
    except exceptions.RedisError as error:
        if str(error).startswith(_PASSING):
            raise StorageUnavailable(_said(error)) from None
        raise StorageError(f"the shared store refuses: {_said(error)}") from None


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
