"""Wrong secrets, by who shows them: a few are free, then each costs its sender a longer and longer wait.

Not the comparison (`protocol/token.py`) and not a rate limit: libraries for those count requests in windows, and a
window lets a patient guesser go on for ever at the same speed. Decisions only: nothing here waits, and the clock is
given. The table is bounded: beyond `MAX_KNOWN` the one that has been quiet longest is forgotten.

Secrets that people choose are not even compared while their guesser has to wait. Tokens are 256 bits of HMAC, which
nobody guesses: a right one is let in at any time, so that nobody can lock out a neighbour by wrong ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from xiaozhi.errors import LockedOut

FREE: Final = 10
"""Wrong ones that cost nothing: typing errors, and an old token that several tabs or tries repeat."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 300.0
FORGOTTEN_AFTER_S: Final = 3600.0
MAX_KNOWN: Final = 8192
DOORS: Final = ("admin", "console", "server_message", "device_token", "vision_token")


@dataclass(slots=True)
class _Record:
    wrong: int = 0
    at: float = 0.0
    locked_until: float = 0.0


class Guesses:
    """`who` is what limits per address count by (`net.proxies.one_client`). `door`: one of `DOORS`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: LRUCache[tuple[str, str], _Record] = LRUCache(MAX_KNOWN)
        self.wrong: Counter[str] = Counter()
        """Wrong secrets so far, by door."""
        self.locked_out: Counter[str] = Counter()
        """Tries refused because their sender had to wait, by door."""

    def refuse_guesser(self, door: str, who: str) -> None:
        """Raises LockedOut for somebody who still has to wait."""
        record = self._records.get((door, who))
        left = record.locked_until - self._clock() if record is not None else 0.0
        if left > 0:
            self.locked_out[door] += 1
            raise LockedOut(left)

    def add(self, door: str, who: str) -> None:
        """It was a wrong one."""
        now = self._clock()
        self.wrong[door] += 1
        record = self._records.setdefault((door, who), _Record())
        if now - max(record.at, record.locked_until) > FORGOTTEN_AFTER_S:
            record.wrong = 0
        record.wrong += 1
        record.at = now
        if record.wrong > FREE:
            record.locked_until = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(record.wrong - FREE - 1, 30))

    def forgive(self, door: str, who: str) -> None:
        """It was the right one."""
        self._records.pop((door, who), None)

    def clear(self) -> None:
        """Forget everybody."""
        self._records.clear()
