"""Admission: who may still come in, and how fast anybody may talk. Decisions only: nothing here waits, and the clock is
given.

Not authentication (who somebody is) and not the connection registry (who is here). Every table is bounded: counts by
what is admitted, rates by an LRU cache.

The order: `check_handshake` (rates, before any work is done for the newcomer), then authentication, then `enter`
(places). What `enter` returns must be released when the connection is gone, so that a place that was promised is a
place that exists, however long an upgrade takes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cachetools import LRUCache

from xiaozhi.errors import Overloaded

MAX_ADDRESSES: Final = 8192
"""Addresses whose handshake rate is remembered. More at once means the least recent get a fresh allowance, not more
memory."""
DEVICE_OVERLAP: Final = 4
"""Connections a device may hold beyond its limit for the moment it takes the replaced ones to end."""
FORGIVE_SECONDS: Final = 10.0
"""After this long without excess, a flood is forgotten."""
FLOOD_SECONDS: Final = 5.0
"""How many seconds' worth of messages may be dropped before the sender has to go."""
_BUSY_RETRY: Final = 5.0  # s; a place is given back when somebody leaves, which nobody can foretell


class TokenBucket:
    """`rate` tokens per second, at most `burst` saved up. Full at the start; an infinite burst never runs dry."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """`now` and all later times: seconds on any clock that does not run backwards."""
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token; False if there is none."""
        tokens = self._tokens + (now - self._at) * self._rate
        self._at = now
        if tokens > self._burst:
            tokens = self._burst
        if tokens < 1.0:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1.0
        return True

    def wait(self) -> float:
        """Seconds from the last `take` until there will be a token."""
        return max(0.0, (1.0 - self._tokens) / self._rate)


class Flow(Enum):
    """What is to be done with a message."""

    PASS = "pass"
    DROP = "drop"
    CLOSE = "close"


class FloodGuard(TokenBucket):
    """The rate of one kind of message on one connection: excess is dropped, and whoever keeps it up is sent away."""

    __slots__ = ("_excess", "_last_excess", "dropped")

    def __init__(self, per_second: float, now: float, *, burst_seconds: float = 2.0) -> None:
        """`per_second` 0: no limit. `burst_seconds`: how much may come at once after a pause of the network."""
        super().__init__(per_second, max(1.0, per_second * burst_seconds) if per_second else math.inf, now)
        self._excess = 0
        self._last_excess = now
        self.dropped = 0
        """Messages refused so far."""

    def excess(self, now: float) -> Flow:
        """What to do with a message for which `take` was False: DROP, or CLOSE once a flood has gone on for too
        long."""
        if now - self._last_excess > FORGIVE_SECONDS:
            self._excess = 0
        self._last_excess = now
        self._excess += 1
        self.dropped += 1
        return Flow.CLOSE if self._excess > self._rate * FLOOD_SECONDS else Flow.DROP


@dataclass(frozen=True, slots=True)
class MessageRates:
    """What one device may send per second; 0: no limit."""

    texts_per_second: float = 50.0
    frames_per_second: float = 500.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Places and rates; 0 is no limit, except for `max_connections` and `per_device`."""

    max_connections: int = 500
    per_device: int = 1
    """One more is let in, and the connection registry closes the oldest."""
    per_ip: int = 0
    spared: frozenset[str] = frozenset()
    """Addresses to which `per_ip` does not apply."""
    handshakes_per_second: float = 1000.0
    """Everybody together. As many as there are places may come at once: after a restart all devices do."""
    ip_handshakes_per_second: float = 50.0
    """One address; the same burst, as a building may be behind it."""


class Places:
    """`total` places, of which one holder may have `each`, whoever that is; the holder "" only counts in the total."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._held: Counter[str] = Counter()
        self.taken = 0

    def take(self, holder: str) -> bool:
        """Take one, if there is one for this holder. `give_back` returns it."""
        if self.taken >= self._total or (holder and self._held[holder] >= self._each):
            return False
        self.taken += 1
        self._held[holder] += 1
        return True

    def give_back(self, holder: str) -> None:
        """Return one place that was taken."""
        self.taken -= 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]


class Permit:
    """A place that was taken. `release` it once the connection is gone; idempotent."""

    __slots__ = ("_admission", "_device", "_ip")

    def __init__(self, admission: Admission, device: str, ip: str) -> None:
        self._admission: Admission | None = admission
        self._device = device
        self._ip = ip

    def release(self) -> None:
        """Give the place back."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._leave(self._device, self._ip)


class Admission:
    """The door. One object per server; see the module."""

    def __init__(self, limits: AdmissionLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._devices: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._shut: Overloaded | None = None
        self.total = 0
        """Places taken."""
        self.refused: Counter[str] = Counter()
        """Refusals by cause: "closed", "rate", "address rate", "places", "device places", "address places"."""
        self.adopt(limits)

    @property
    def remembered(self) -> tuple[int, int, int]:
        """(devices that are in, addresses that are in, addresses whose handshakes are counted)."""
        return len(self._devices), len(self._addresses), len(self._address_rates)

    def adopt(self, limits: AdmissionLimits) -> None:
        """Other limits from now on; those who are in stay in."""
        self.limits = limits
        now = self._clock()
        self._rate = self._bucket(limits.handshakes_per_second, now)
        self._address_rates: LRUCache[str, TokenBucket] = LRUCache(MAX_ADDRESSES)

    def shut(self, what: str, *, retry_after: float = _BUSY_RETRY) -> None:
        """Refuse everybody from now on: overload, or the server is stopping."""
        self._shut = Overloaded(what, retry_after=retry_after)

    def open(self) -> None:
        """Let people in again."""
        self._shut = None

    def check_handshake(self, ip: str, *, exempt: bool = False) -> None:
        """A handshake begins. Raises Overloaded when they come too fast. `exempt`: the address speaks for many
        devices."""
        if self._shut is not None:
            raise self._refuse("closed", self._shut.what, self._shut.retry_after)
        now = self._clock()
        if not self._rate.take(now):
            raise self._refuse("rate", "handshake rate", self._rate.wait())
        if exempt:
            return
        bucket = self._address_rates.get(ip)
        if bucket is None:
            bucket = self._address_rates[ip] = self._bucket(self.limits.ip_handshakes_per_second, now)
        if not bucket.take(now):
            raise self._refuse("address rate", "handshake rate of this address", bucket.wait())

    def enter(self, device: str, ip: str, *, exempt: bool = False) -> Permit:
        """Take a place. Raises Overloaded. `exempt`: the address speaks for many devices, and its places are not
        counted.

        A device that is in already needs no free place: its old connection, probably dead, is about to be replaced.
        """
        limits = self.limits
        held = self._devices.get(device, 0)
        if self.total >= limits.max_connections and not held:
            raise self._refuse("places", "server", _BUSY_RETRY)
        if held >= limits.per_device + DEVICE_OVERLAP:
            raise self._refuse("device places", "list of connections of this device", _BUSY_RETRY)
        counted = limits.per_ip and not exempt and ip not in limits.spared
        if counted and not held and self._addresses[ip] >= limits.per_ip:
            raise self._refuse("address places", "list of connections of this address", _BUSY_RETRY)
        self.total += 1
        self._devices[device] += 1
        if not exempt:
            self._addresses[ip] += 1
        return Permit(self, device, "" if exempt else ip)

    def _leave(self, device: str, ip: str) -> None:
        self.total -= 1
        for table, key in ((self._devices, device), (self._addresses, ip)):
            if key:
                table[key] -= 1
                if not table[key]:
                    del table[key]

    def _refuse(self, cause: str, what: str, retry_after: float) -> Overloaded:
        self.refused[cause] += 1
        return Overloaded(what, retry_after=retry_after)

    def _bucket(self, rate: float, now: float) -> TokenBucket:
        return TokenBucket(rate, max(rate, self.limits.max_connections) if rate else math.inf, now)
