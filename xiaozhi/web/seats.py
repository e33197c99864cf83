"""Limits on connections to the HTTP port: in all, and from one address. A few more, the reserve, may only ask about
health.

At a limit, a connection on which no whole request has come yet is closed for the new one: so clients that send nothing,
or send slowly, keep nobody out. Where there is none to close, the new connection gets a seat of the reserve, for one
request about health: a supervisor that was refused would restart a server that is only busy.

Decisions only; `wsgi.py` does what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Seat:
    """One connection's place. `holder`: what its address counts as; "" for one that speaks for many."""

    holder: str
    reserved: bool = False
    """Beyond all limits: may ask for health, once."""
    served: bool = False
    """A request has come on it."""
    given_back: bool = False


class Seats:
    """The seats of one port; limits are told at each question, as they may change."""

    def __init__(self) -> None:
        self.public = 0
        """Seats taken, without those of the reserve."""
        self.reserved = 0
        self.displaced = 0
        """Connections without a request that had to make room so far."""
        self._of: Counter[str] = Counter()
        self._waiting: dict[Seat, Callable[[], None]] = {}

    def enter(self, holder: str, *, seats: int, each: int, reserve: int) -> Seat | None:
        """A seat for a newcomer; None when there is no room at all. `each`: seats of one holder."""
        greedy = bool(holder) and self._of[holder] >= each
        full = self.public >= seats
        if (greedy or full) and not self._displace(
            lambda seat: not seat.reserved and (not greedy or seat.holder == holder)
        ):
            if self.reserved >= reserve and not self._displace(lambda seat: seat.reserved):
                return None
            self.reserved += 1
            return Seat(holder, reserved=True)
        self.public += 1
        if holder:
            self._of[holder] += 1
        return Seat(holder)

    def leave(self, seat: Seat) -> None:
        """Give a seat back. Idempotent."""
        self.works(seat)
        if seat.given_back:
            return
        seat.given_back = True
        if seat.reserved:
            self.reserved -= 1
            return
        self.public -= 1
        if seat.holder:
            self._of[seat.holder] -= 1
            if not self._of[seat.holder]:
                del self._of[seat.holder]

    def waits(self, seat: Seat, drop: Callable[[], None]) -> None:
        """The connection has no whole request, and may be dropped until it has; `drop` must not wait."""
        self._waiting[seat] = drop

    def works(self, seat: Seat) -> None:
        """It has one, or nothing is to be waited for any more. Idempotent."""
        self._waiting.pop(seat, None)

    def drop_waiting(self) -> None:
        """Drop every connection that has no request."""
        for drop in list(self._waiting.values()):
            drop()

    def _displace(self, may_go: Callable[[Seat], bool]) -> bool:
        """Drop the connection that has waited longest, before all others one that never asked for anything."""
        candidates = [seat for seat in self._waiting if may_go(seat)]
        if not candidates:
            return False
        seat = next((seat for seat in candidates if not seat.served), candidates[0])
        drop = self._waiting[seat]
        self.leave(seat)
        self.displaced += 1
        drop()
        return True
