"""Live data for the system prompt: what context providers say, where the device is, and the weather there. Fetched in
the background and kept per device.

Not a cache of answers and not the prompt. The data of a device is fetched when it says hello, while its user still
speaks; only the first question of a device waits for it, at most `FIRST_WAIT_S`. From then on a question is answered
with what is there, and data older than `FRESH_S` is fetched anew for the next one. A source that is slow or broken
costs its own part and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent
from cachetools import TTLCache
from gevent import Greenlet

from xiaozhi.errors import ToolError, VendorError, VendorTimeout
from xiaozhi.runtime import tasks
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.link import Identity

log = get_logger(__name__)

FRESH_S = 60.0
KEPT_S = 900.0
"""Older data is worse than none."""
FIRST_WAIT_S = 1.0
"""The first question comes seconds after hello, so this is seldom waited for."""
MAX_DEVICES = 2_000
MAX_FETCHES = 50
"""Devices whose data is being fetched at once; one more has to do without."""
MAX_LINES = 100
MAX_LINE_CHARS = 500

ContextSource = Callable[[Identity], Sequence[str]]
"""Blocking; raises VendorError. Each line becomes a line of the prompt."""
Surroundings = Callable[[str], tuple[str, str]]
"""(address of the device) -> (where it is, the weather there), "" for what is not known. Blocking; raises VendorError,
ToolError."""


@dataclass(frozen=True, slots=True)
class LiveData:
    """What is known of the moment of one device."""

    lines: tuple[str, ...] = ()
    place: str = ""
    weather: str = ""


NOTHING_KNOWN = LiveData()


class LiveContext:
    """`deadline`: seconds one source may take. `surroundings`: asked like a source."""

    def __init__(
        self,
        sources: Sequence[ContextSource],
        *,
        surroundings: Surroundings | None = None,
        deadline: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = tuple(sources)
        self._surroundings = surroundings
        self._deadline = deadline
        self._clock = clock
        self._known: TTLCache[str, tuple[float, LiveData]] = TTLCache(MAX_DEVICES, KEPT_S, timer=clock)
        self._fetching: dict[str, Greenlet] = {}

    def data(self, identity: Identity) -> LiveData:
        """What is known now; never blocks. Starts fetching when that is not fresh."""
        self.prefetch(identity)
        return self._known.get(identity.device_id, (0.0, NOTHING_KNOWN))[1]

    def await_first(self, identity: Identity, seconds: float = FIRST_WAIT_S) -> None:
        """Before a question: wait at most `seconds` when nothing is known yet and is being fetched."""
        self.prefetch(identity)
        fetching = self._fetching.get(identity.device_id)
        if fetching is not None and identity.device_id not in self._known:
            fetching.join(timeout=seconds)

    def prefetch(self, identity: Identity) -> None:
        """Fetch in the background, unless what is known is fresh."""
        device = identity.device_id
        if not (self._sources or self._surroundings) or device in self._fetching or len(self._fetching) >= MAX_FETCHES:
            return
        known = self._known.get(device)
        if known is None or self._clock() - known[0] > FRESH_S:
            self._fetching[device] = tasks.spawn("context", self._fetch, identity)

    def _fetch(self, identity: Identity) -> None:
        found: list[Sequence[str]] = [()] * len(self._sources)
        place = ["", ""]

        def ask(number: int) -> None:
            found[number] = [line[:MAX_LINE_CHARS] for line in self._sources[number](identity)[:MAX_LINES]]

        def look() -> None:
            assert self._surroundings is not None
            place[:] = self._surroundings(identity.peer_ip)

        group = Tasks()
        try:
            asking = [group.spawn("context", self._bounded, ask, number) for number in range(len(self._sources))]
            if self._surroundings is not None:
                asking.append(group.spawn("context", self._bounded, look))
            gevent.joinall(asking)
            lines = [line for part in found for line in part]
            self._known[identity.device_id] = self._clock(), LiveData(tuple(lines), place[0], place[1])
        finally:
            group.kill(timeout=0)
            self._fetching.pop(identity.device_id, None)

    def _bounded(self, work: Callable[..., None], *arguments: int) -> None:
        try:
            with at_most(self._deadline, VendorTimeout("context", f"nothing within {self._deadline:g} s")):
                work(*arguments)
        except (VendorError, ToolError, ValueError) as error:  # ValueError: a device id that fits into no header
            log.warning("context source failed", error=str(error)[:200])
