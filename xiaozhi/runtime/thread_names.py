"""Names for native threads, so that `top -H`, py-spy and `/proc/<pid>/task/*/comm` tell what each one is for.

Linux keeps 15 bytes of a name (prctl(2), PR_SET_NAME). Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any, Final, Protocol

from gevent import monkey

_PR_SET_NAME: Final = 15
_LONGEST: Final = 15
_PATIENCE_S: Final = 1.0
_LOOK_S: Final = 0.0005

# The native one: the patched one would make a hub in each thread.
_sleep = monkey.get_original("time", "sleep")


class NativePool(Protocol):
    """What is needed of gevent's ThreadPool."""

    size: int

    def spawn(self, function: Any, *args: Any) -> Any: ...


def name_this_thread(name: str) -> None:
    """Name the calling native thread; longer names are cut."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:_LONGEST], 0, 0, 0)


def name_pool(pool: NativePool, name: str) -> None:
    """Name all idle threads of a pool that has them already: "name", or "name-0", "name-1", ... Blocks a millisecond
    per thread."""
    count = pool.size
    arrived: list[int] = []

    def take_name(number: int) -> None:
        name_this_thread(name if count == 1 else f"{name}-{number}")
        arrived.append(number)
        # Wait for the others: a thread that came back at once would be given a second name.
        until = time.monotonic() + _PATIENCE_S
        while len(arrived) < count and time.monotonic() < until:
            _sleep(_LOOK_S)

    for done in [pool.spawn(take_name, number) for number in range(count)]:
        done.wait(timeout=2 * _PATIENCE_S)
