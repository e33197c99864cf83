"""Live data for the system prompt (`context_providers`): fetched in the background, kept per device, never waited for.

Not a cache of answers and not the prompt. The data of a device is fetched when it says hello, while its user still
speaks. From then on a question is answered with what is there, and data older than `FRESH_S` is fetched anew for the
next one. A source that is slow or broken costs its own lines and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cachetools import TTLCache

from xiaozhi.errors import VendorError, VendorTimeout
from xiaozhi.runtime import tasks
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.link import Identity

log = get_logger(__name__)

FRESH_S = 60.0
KEPT_S = 900.0
"""Older data is worse than none."""
MAX_DEVICES = 2_000
MAX_FETCHES = 50
"""Devices whose data is being fetched at once; one more has to do without."""
MAX_LINES = 100
MAX_LINE_CHARS = 500

ContextSource = Callable[[Identity], Sequence[str]]
"""Blocking; raises VendorError. Each line becomes a line of the prompt."""


class LiveContext:
    """`deadline`: seconds one source may take."""

    def __init__(
        self, sources: Sequence[ContextSource], *, deadline: float = 3.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sources = tuple(sources)
        self._deadline = deadline
        self._clock = clock
        self._known: TTLCache[str, tuple[float, tuple[str, ...]]] = TTLCache(MAX_DEVICES, KEPT_S, timer=clock)
        self._fetching: set[str] = set()

    def lines(self, identity: Identity) -> Sequence[str]:
        """What is known now; never blocks. Starts fetching when that is not fresh."""
        self.prefetch(identity)
        return self._known.get(identity.device_id, (0.0, ()))[1]

    def prefetch(self, identity: Identity) -> None:
        """Fetch in the background, unless what is known is fresh."""
        device = identity.device_id
        if not self._sources or device in self._fetching or len(self._fetching) >= MAX_FETCHES:
            return
        known = self._known.get(device)
        if known is None or self._clock() - known[0] > FRESH_S:
            self._fetching.add(device)
            tasks.spawn("context", self._fetch, identity)

    def _fetch(self, identity: Identity) -> None:
        lines: list[str] = []
        try:
            for source in self._sources:
                try:
                    with at_most(self._deadline, VendorTimeout("context", f"nothing within {self._deadline:g} s")):
                        lines += [line[:MAX_LINE_CHARS] for line in source(identity)[:MAX_LINES]]
                except (VendorError, ValueError) as error:  # ValueError: a device id that fits into no header
                    log.warning("context source failed", error=str(error)[:200])
            self._known[identity.device_id] = self._clock(), tuple(lines)
        finally:
            self._fetching.discard(identity.device_id)
