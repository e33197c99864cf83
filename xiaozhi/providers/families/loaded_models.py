"""Models that are loaded once in the process, whoever uses them: all devices, and blocks of the configuration that name
the same model and differ elsewhere.

Not the provider pool, which shares providers of equal blocks: two blocks with other voices of one model are two
providers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from gevent.lock import BoundedSemaphore

T = TypeVar("T")


class _Slot:
    """One model: not loaded, loaded, or being loaded by whoever holds `turn`."""

    __slots__ = ("model", "turn", "users")

    def __init__(self) -> None:
        self.users = 0
        self.model: Any = None
        self.turn = BoundedSemaphore(1)


_slots: dict[Hashable, _Slot] = {}


class ModelLease(Generic[T]):
    """The use of the model that `key` describes completely, until `release`. The last one forgets it; what still works
    with it in a pool thread keeps it alive."""

    def __init__(self, key: Hashable, load: Callable[[], T]) -> None:
        """`load` is called in the caller's greenlet, may block, and must not return None."""
        self._key = key
        self._load = load
        self._slot: _Slot | None = _slots.setdefault(key, _Slot())
        self._slot.users += 1

    @property
    def released(self) -> bool:
        """Whether `release` was called."""
        return self._slot is None

    def get(self) -> T:
        """The model; the first caller loads it, and the others wait for that one. Raises what `load` raises, and
        RuntimeError after `release`."""
        slot = self._slot
        if slot is None:
            raise RuntimeError("the model was given back")
        if slot.model is None:
            with slot.turn:
                if slot.model is None:
                    slot.model = self._load()
        found: T = slot.model
        return found

    def release(self) -> None:
        """Idempotent."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        slot.users -= 1
        if not slot.users and _slots.get(self._key) is slot:
            del _slots[self._key]
