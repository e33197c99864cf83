"""Counts in windows that all workers share, for `runtime/rates.py`: whoever asks too often at one server does so at all
of them.

Asked within the store's deadline. While the store is away, and for what it does not know yet, the counts of this
process hold: they are kept beside the shared ones."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

from limits.storage import Storage

from xiaozhi.errors import StorageError
from xiaozhi.runtime.rates import BoundedCounts
from xiaozhi.storage.shared_store import SharedStore, key

# KEYS: the count. ARGV: how many, seconds of the window.
_COUNT: Final = """
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return count
"""


class SharedCounts(Storage):
    """See the module and `limits.storage.Storage`. `clock`: that of the rates."""

    STORAGE_SCHEME = None

    def __init__(self, store: SharedStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._own = BoundedCounts(clock)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        own = self._own.incr(key, expiry, amount)
        try:
            return max(own, int(self._store.ask(lambda store: store.eval(_COUNT, 1, _name(key), amount, expiry))))
        except StorageError:
            return own

    def get(self, key: str) -> int:
        own = self._own.get(key)
        try:
            return max(own, int(self._store.ask(lambda store: store.get(_name(key))) or 0))
        except StorageError:
            return own

    def get_expiry(self, key: str) -> float:
        try:
            left_ms = int(self._store.ask(lambda store: store.pttl(_name(key))))
        except StorageError:
            left_ms = 0
        return max(self._own.get_expiry(key), self._clock() + max(0, left_ms) / 1000)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        return self._own.reset()

    def clear(self, key: str) -> None:
        self._own.clear(key)
        try:
            self._store.ask(lambda store: store.delete(_name(key)))
        except StorageError:
            return  # it ends with its window


def _name(count: str) -> str:
    # It may hold an address or what somebody calls himself, of any length.
    return key("count", hashlib.sha256(count.encode("utf-8", "surrogatepass")).hexdigest()[:32])
