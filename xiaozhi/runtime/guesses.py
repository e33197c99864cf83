"""Wrong secrets, by who shows them: a few are free, then none of that sender's is looked at for a while.

Not the comparison (`protocol/token.py`). The counting is that of `rates.py`: nothing here waits.

Secrets that people choose are not even compared while their guesser has to wait. Tokens are 256 bits of HMAC, which
nobody guesses: a right one is let in at any time, so that nobody can lock out a neighbour by wrong ones."""

from __future__ import annotations

from collections import Counter
from typing import Final

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute

from xiaozhi.errors import LockedOut
from xiaozhi.runtime.rates import Rates

FREE: Final = 10
"""Wrong ones in a minute that cost nothing: typing errors, and an old token that several tabs or tries repeat."""
FREE_IN_AN_HOUR: Final = 20
"""The same for somebody who goes on: at most 480 a day."""
LIMITS: Final[tuple[RateLimitItem, ...]] = (RateLimitItemPerMinute(FREE), RateLimitItemPerHour(FREE_IN_AN_HOUR))
DOORS: Final = ("admin", "console", "server_message", "device_token", "vision_token")


class Guesses:
    """`who` is what limits per address count by (`net.proxies.one_client`). `door`: one of `DOORS`."""

    def __init__(self, rates: Rates | None = None) -> None:
        self._rates = rates or Rates()
        self.wrong: Counter[str] = Counter()
        """Wrong secrets so far, by door."""
        self.locked_out: Counter[str] = Counter()
        """Tries refused because their sender had to wait, by door."""

    def refuse_guesser(self, door: str, who: str) -> None:
        """Raises LockedOut for somebody who still has to wait."""
        left = max(self._rates.wait(limit, door, who) for limit in LIMITS)
        if left > 0:
            self.locked_out[door] += 1
            raise LockedOut(left)

    def add(self, door: str, who: str) -> None:
        """It was a wrong one."""
        self.wrong[door] += 1
        for limit in LIMITS:
            self._rates.count(limit, door, who)

    def forgive(self, door: str, who: str) -> None:
        """It was the right one."""
        for limit in LIMITS:
            self._rates.forget(limit, door, who)

    def clear(self) -> None:
        """Forget everybody."""
        self._rates.clear()
