"""From events to metrics and log lines: what became of turns, vendors and batches.

Part of the composition root, because it knows both those who make the events and `runtime/metrics.py`, which must not know them.
"""

from __future__ import annotations

from xiaozhi.providers.base import Vad
from xiaozhi.runtime import logs
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.resilience import CallReport, State
from xiaozhi.session.record import Outcome, TurnRecord

log = logs.get_logger("xiaozhi.turns")

STAGES = ("released", "heard", "llm_first", "tts_first", "first_frame")
# A frame that is this late still arrives in time for every device.
PUNCTUAL_S = 0.005
_BREAKER_VALUES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class Observer:
    """Feeds one `Metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stages = {stage: metrics.turn_stage.labels(stage) for stage in STAGES}
        self._outcomes = {outcome: metrics.turns.labels(outcome.value) for outcome in Outcome}

    def turn_ended(self, device_id: str, record: TurnRecord) -> None:
        """One line and a handful of numbers per turn."""
        self._outcomes[record.outcome].inc()
        if record.speculative:
            self._metrics.speculations.labels("used").inc()
        timeline = record.timeline
        for stage, histogram in self._stages.items():
            seconds = timeline.since_voice(stage)
            if seconds is not None:
                histogram.observe(seconds)
        extra = {"vendor": record.failed_vendor} if record.failed_vendor else {}
        log.info(
            "turn",
            turn=record.turn_id,
            outcome=record.outcome.value,
            reason=record.reason,
            speculative=record.speculative,
            chars=record.characters,
            sentences=record.sentences,
            tools=record.tool_calls,
            **extra,
            **timeline.milliseconds(),
        )

    def prepared_in_vain(self) -> None:
        """An answer that was prepared during a pause was thrown away: the user went on speaking."""
        self._metrics.speculations.labels("discarded").inc()

    def frame_sent(self, late_s: float) -> None:
        """One audio frame went out. Per frame: only late ones cost more than a comparison."""
        if late_s > PUNCTUAL_S:
            self._metrics.frame_lateness.observe(late_s)

    def vendor_called(self, report: CallReport) -> None:
        """One attempt at a vendor has ended."""
        kind, _, vendor = report.vendor.partition(":")
        self._metrics.vendor_requests.labels(kind, vendor, report.outcome).inc()
        if report.first_s is not None:
            self._metrics.vendor_first.labels(kind, vendor).observe(report.first_s)
        if report.outcome not in ("open", "overloaded"):
            self._metrics.vendor_seconds.labels(kind, vendor).observe(report.total_s)

    def breaker_changed(self, name: str, state: State) -> None:
        """A breaker has opened, closed, or lets one call through."""
        kind, _, vendor = name.partition(":")
        self._metrics.breaker.labels(kind, vendor).set(_BREAKER_VALUES[state])
        log.warning("breaker", vendor=name, state=state.value)

    def watch_vad(self, vad: Vad) -> None:
        """Batch sizes of a voice detector that has batches."""
        vad.observe_batches(self._metrics.vad_batch.observe)
