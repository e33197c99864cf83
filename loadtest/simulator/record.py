"""What the devices of a run saw: durations by name, counts, failures by reason, and how the load generator itself
fared.

Filled in worker processes by `visits.py`, sent to the parent in pieces (`take`), merged there. Not what the server
used: that is seen from outside, by `watch.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from loadtest.simulator.spread import Spread

HANDSHAKE, HELLO, STT, FIRST_AUDIO, ANSWER = "handshake", "hello", "stt", "first audio", "answer"
ABORT, BARGE_IN, GAP, WORST_GAP, LATENESS = "abort", "barge-in", "gap", "worst gap", "lateness"
"""gap: between one audio frame and the next. worst gap: of an answer. lateness: of a timer of the load generator
itself."""
FIRST_AUDIO_BY = {False: "first audio by websocket", True: "first audio by mqtt"}
"""By whether the device is connected by MQTT; where there are both."""

MAX_POINTS = 4_000
"""Single turns kept for the chart of latency over time."""


class Record:
    """Mergeable. `window`: (from, until) in monotonic seconds; durations outside it are not kept, failures always
    are."""

    def __init__(self, window: tuple[float, float] | None = None) -> None:
        self.window = window
        self.spreads: dict[str, Spread] = {}
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.points: list[tuple[float, float]] = []
        """(monotonic s, first audio in ms)"""
        self.clients: dict[str, dict[str, float]] = {}
        """By load generator process: cpu_s, wall_s, rss."""
        self.on_measured: Callable[[str, float], None] = lambda name, ms: None
        self.on_failed: Callable[[str], None] = lambda reason: None

    def within(self, at: float) -> bool:
        """Whether what happened at this time is to be measured."""
        return self.window is None or self.window[0] <= at <= self.window[1]

    def measured(self, name: str, ms: float, at: float | None = None) -> None:
        """Something took so long. `at`: when it happened (monotonic s); None: it counts at any time."""
        if at is not None and not self.within(at):
            return
        self.spread(name).add(ms)
        self.on_measured(name, ms)
        if name == FIRST_AUDIO and at is not None and len(self.points) < MAX_POINTS:
            self.points.append((round(at, 3), round(ms, 1)))

    def failed(self, reason: str) -> None:
        """Something went wrong; counted at all times."""
        self.failures[reason] += 1
        self.on_failed(reason)

    def count(self, what: str, times: int = 1) -> None:
        """Count something."""
        self.counts[what] += times

    def spread(self, name: str) -> Spread:
        """The durations of this name."""
        found = self.spreads.get(name)
        if found is None:
            found = self.spreads[name] = Spread()
        return found

    def quantile(self, name: str, share: float) -> float | None:
        """ms; None when there is nothing of this name."""
        found = self.spreads.get(name)
        return None if found is None else found.quantile(share)

    # --- between processes

    def merge(self, other: Record) -> None:
        """Add what another record holds."""
        for name, spread in other.spreads.items():
            self.spread(name).merge(spread)
        self.counts.update(other.counts)
        self.failures.update(other.failures)
        self.points = (self.points + other.points)[:MAX_POINTS]
        self.clients.update(other.clients)

    def take(self) -> dict[str, Any]:
        """Everything since the last call, ready for JSON; this record is empty afterwards."""
        taken = self.packed()
        self.spreads, self.counts, self.failures, self.points = {}, Counter(), Counter(), []
        return taken

    def packed(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "spreads": {name: spread.pairs() for name, spread in self.spreads.items()},
            "counts": dict(self.counts),
            "failures": dict(self.failures),
            "points": [list(point) for point in self.points],
            "clients": self.clients,
        }

    @classmethod
    def unpacked(cls, data: Mapping[str, Any]) -> Record:
        """The reverse of `packed`."""
        record = cls()
        record.spreads = {name: Spread.from_pairs(pairs) for name, pairs in data["spreads"].items()}
        record.counts = Counter(data["counts"])
        record.failures = Counter(data["failures"])
        record.points = [(at, ms) for at, ms in data["points"]]
        record.clients = {name: dict(client) for name, client in data["clients"].items()}
        return record
