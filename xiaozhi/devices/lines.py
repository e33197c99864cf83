"""How good the lines of devices are: what their sessions measure now, what earlier ones did, and what the devices have
said of their signal.

Kept in the memory of this process, for the devices heard of last; what a visit has shown goes into the device's report
(`notes.py`) when it ends, for other workers and the command line. What the figures mean is decided in
`speech/line_quality.py`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Protocol

from xiaozhi.speech.line_quality import UNKNOWN, LineFigures, findings

REPORT: Final = "line"
"""Key of a device's report."""
MAX_DEVICES: Final = 10_000
"""About 5 MB at the very most."""
HOUR_S: Final = 3_600.0
BACK_S: Final = 30.0
"""A device that comes so soon after its connection broke has reconnected; later, somebody has woken it."""
MAX_RECONNECTS: Final = 100
NOBODY: Final = LineFigures()


class MeasuredLine(Protocol):
    """The line of a session under way."""

    @property
    def figures(self) -> LineFigures:
        """Of this visit alone. Never blocks."""


@dataclass(slots=True)
class _Known:
    figures: LineFigures = NOBODY
    """Of visits that have ended."""
    open: list[MeasuredLine] = field(default_factory=list)
    broke_at: float = 0.0
    """When its connection broke last; 0: it has not, or the device has come back."""
    reconnects: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RECONNECTS))
    rssi: int | None = None
    weak: bool = False


@dataclass(slots=True)
class LineTotals:
    """Of all visits that have ended in this process, for metrics."""

    visits: dict[str, int] = field(default_factory=dict)
    """By what was found first."""
    gaps: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("voice", "pause", "server", "network"), 0))
    """What devices had to wait for, by what it came from."""
    packets: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("received", "lost", "duplicate", "late"), 0))
    """Of devices, by what became of them."""
    connections: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("lost", "back"), 0))
    """Those that broke, and devices that were back at once."""


class Lines:
    """See the module. Nothing here blocks. `note(device, report)`: keeps a report. `clock`: seconds since 1970."""

    def __init__(
        self,
        *,
        note: Callable[[str, Mapping[str, Any]], None] = lambda device, report: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.totals = LineTotals()
        self.on_visit: Callable[[LineFigures], None] = lambda figures: None
        """Told the figures of each visit that has ended, of that visit alone."""
        self._note = note
        self._clock = clock
        self._known: dict[str, _Known] = {}  # the device heard of last stands last

    def joined(self, device: str, line: MeasuredLine) -> None:
        """A session begins."""
        known, now = self._of(device), self._clock()
        if known.broke_at and now - known.broke_at <= BACK_S:
            known.reconnects.append(now)
            self.totals.connections["back"] += 1
        known.broke_at = 0.0
        known.open.append(line)

    def left(self, device: str, line: MeasuredLine, *, broken: bool) -> None:
        """A session has ended; `broken`: without a goodbye of either side."""
        known, visit = self._of(device), line.figures
        known.open = [other for other in known.open if other is not line]
        if broken:
            known.broke_at = self._clock()
            self.totals.connections["lost"] += 1
        if not (visit.sent or visit.received):
            return
        known.figures = visit.after(known.figures)
        now = self._clock()
        figures = self._figures(known, now)
        kind = findings(figures)[0].kind
        totals = self.totals
        totals.visits[kind] = totals.visits.get(kind, 0) + 1
        for gap, count in (
            ("voice", visit.starved),
            ("pause", visit.pauses),
            ("server", visit.server_late),
            ("network", visit.slow_sends),
        ):
            totals.gaps[gap] += count
        for fate, count in (
            ("received", visit.received),
            ("lost", visit.lost),
            ("duplicate", visit.duplicates),
            ("late", visit.late),
        ):
            totals.packets[fate] += count
        self.on_visit(visit)
        if kind != UNKNOWN:
            self._note(device, {REPORT: {"at": now, **written(figures)}})

    def signal(self, device: str, rssi: int | None, *, weak: bool = False) -> None:
        """The device has said how strong its signal is: dBm, or whether it is weak."""
        known = self._of(device)
        if rssi is not None:
            known.rssi = rssi
        known.weak = weak

    def of(self, device: str) -> tuple[bool, LineFigures | None]:
        """(whether it talks with this process now, what is known of its line here, if anything)."""
        known = self._known.get(device)
        if known is None:
            return False, None
        figures = self._figures(known, self._clock())
        if known.open:
            figures = replace(known.open[-1].figures.after(figures), reconnects=figures.reconnects)
            figures = replace(figures, rssi=known.rssi, weak=known.weak)
        return bool(known.open), figures

    def _figures(self, known: _Known, now: float) -> LineFigures:
        recent = sum(at > now - HOUR_S for at in known.reconnects)
        return replace(known.figures, reconnects=recent, rssi=known.rssi, weak=known.weak)

    def _of(self, device: str) -> _Known:
        known = self._known.pop(device, None) or _Known()
        self._known[device] = known
        if len(self._known) > MAX_DEVICES:
            gone = next((name for name, other in self._known.items() if not other.open), device)
            del self._known[gone]
        return known


def written(figures: LineFigures) -> dict[str, Any]:
    """Figures for a database, without those that say nothing."""
    return {name: value for name, value in asdict(figures).items() if value}


def read(report: Mapping[str, Any]) -> tuple[float, LineFigures] | None:
    """(when, figures) of a device's report; None when there are none."""
    kept = report.get(REPORT)
    if not isinstance(kept, Mapping):
        return None
    names = {each.name for each in fields(LineFigures)}
    known: dict[str, Any] = {
        name: value for name, value in kept.items() if name in names and isinstance(value, int | float)
    }
    at = kept.get("at")
    return (float(at) if isinstance(at, int | float) else 0.0), LineFigures(**known)
