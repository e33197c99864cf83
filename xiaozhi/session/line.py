"""The line of one session: how its packets come and go. What is counted anyway is read from those who count it."""

from __future__ import annotations

from dataclasses import dataclass, field

from xiaozhi.session.speaking.outbox import OutboxStats
from xiaozhi.speech.line_quality import Arrivals, Lead, LineCounters, LineFigures


@dataclass(slots=True)
class SessionLine:
    """A `MeasuredLine`. `carrier`: what the carrier counts, where it may lose packets; None: it loses none."""

    lead: Lead
    carrier: LineCounters | None = None
    arrivals: Arrivals = field(default_factory=Arrivals)
    sent: OutboxStats = field(default_factory=OutboxStats)
    _troubles: int = 0
    """Known at the last answer."""

    @property
    def jitter_ms(self) -> float:
        """Of what comes from the device."""
        return self.carrier.jitter_ms if self.carrier is not None else 1000 * self.arrivals.jitter

    def next_lead(self, frame_ms: float) -> int:
        """Frames that the answer which begins is sent ahead."""
        troubles = self.sent.slow_sends + self.arrivals.stalls
        fresh, self._troubles = troubles - self._troubles, troubles
        return self.lead.next(frame_ms=frame_ms, jitter_ms=self.jitter_ms, troubles=fresh)

    @property
    def figures(self) -> LineFigures:
        """See MeasuredLine."""
        sent, arrivals, carrier = self.sent, self.arrivals, self.carrier
        return LineFigures(
            sent=sent.frames,
            starved=sent.starved,
            pauses=sent.pauses,
            server_late=sent.server_late,
            slow_sends=sent.slow_sends,
            received=carrier.received if carrier is not None else arrivals.packets,
            stalls=arrivals.stalls,
            jitter_ms=round(self.jitter_ms, 1),
            lost=carrier.lost if carrier is not None else 0,
            late=carrier.late if carrier is not None else 0,
            duplicates=carrier.duplicates if carrier is not None else 0,
            reordered=carrier.reordered if carrier is not None else 0,
            lead=self.lead.frames if sent.frames else 0,
        )
