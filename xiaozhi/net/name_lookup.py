"""Name look-ups that do not wait for each other.

The system looks names up in C, on a few native threads; a name whose servers do not answer keeps a thread for ten
seconds and more. Left alone, a few of them (an optional source that is gone, asked for each device) delay the names of
all vendors. So:

- a name is looked up once at a time, whoever waits for it;
- names that were slow get half of the threads, until they are quick again;
- a slow failure is remembered for a while; a quick one is not, because it may pass;
- addresses are no names, and cost no thread.

Not a cache of answers: connections are pooled, so names are rarely asked for."""

from __future__ import annotations

import _socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

from cachetools import LRUCache, TTLCache
from gevent import Greenlet
from gevent.lock import BoundedSemaphore
from gevent.resolver.thread import Resolver

from xiaozhi.runtime import tasks

SLOW_S: Final = 1.0
"""A look-up that takes longer makes its name a slow one."""
FAILURE_KEPT_S: Final = 15.0
LONGEST_S: Final = 60.0
"""No wait is longer; whoever asks has a deadline of their own as a rule."""
_REMEMBERED: Final = 256

LookUp = Callable[..., list[Any]]
"""Like `socket.getaddrinfo`; blocks its thread."""
Question = tuple[Any, Any, int, int, int, int]


class NameResolver(Resolver):  # type: ignore[misc]
    """gevent's resolver with the bounds above. `threads`: how many the hub's pool has."""

    def __init__(
        self,
        hub: Any,
        threads: int,
        *,
        look_up: LookUp = _socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(hub)
        self._look_up = look_up
        self._clock = clock
        self._under_way: dict[Question, Greenlet] = {}
        self._slow: LRUCache[Any, None] = LRUCache(_REMEMBERED)
        self._for_slow = BoundedSemaphore(max(1, threads // 2))
        self._failed: TTLCache[Question, OSError] = TTLCache(_REMEMBERED, FAILURE_KEPT_S, timer=clock)

    def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """See `socket.getaddrinfo`."""
        try:
            return self._look_up(host, port, family, type, proto, flags | _socket.AI_NUMERICHOST)
        except _socket.gaierror as error:
            if error.errno != _socket.EAI_NONAME or flags & _socket.AI_NUMERICHOST:
                raise
        question = (host, port, family, type, proto, flags)
        failed = self._failed.get(question)
        if failed is not None:
            raise failed.__class__(*failed.args)
        lookup = self._under_way.get(question)
        if lookup is None:
            lookup = self._under_way[question] = tasks.spawn("name-lookup", self._ask, question)
        lookup.join(timeout=LONGEST_S)
        found = lookup.value if lookup.dead else None
        if isinstance(found, list):
            return found
        if isinstance(found, OSError):
            raise found.__class__(*found.args)
        raise _socket.gaierror(_socket.EAI_AGAIN, "the name look-up takes too long")

    def _ask(self, question: Question) -> list[Any] | OSError:
        host = question[0]
        began = self._clock()
        try:
            with self._for_slow if host in self._slow else nullcontext():
                began = self._clock()
                found: list[Any] = self.pool.apply(self._look_up, question)
        except OSError as error:
            if self._note(host, began):
                self._failed[question] = error
            return error
        finally:
            self._under_way.pop(question, None)
        self._note(host, began)
        return found

    def _note(self, host: Any, began: float) -> bool:
        """Whether this look-up was slow."""
        slow = self._clock() - began > SLOW_S
        if slow:
            self._slow[host] = None
        else:
            self._slow.pop(host, None)
        return slow
