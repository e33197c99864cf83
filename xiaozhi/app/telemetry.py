"""From events to metrics, log lines and traces: what became of turns, vendors and batches.

Part of the composition root, because it knows both those who make the events and `runtime/metrics.py`, which must not
know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.runtime import logs, usage
from xiaozhi.runtime.connections import Member
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.resilience import BreakerState, CallReport, vendor_labels
from xiaozhi.runtime.tracing import Attributes, NoTracer, Stage, Tracer
from xiaozhi.session.turn_record import SHARES, CallTimes, Outcome, Timeline, TurnRecord
from xiaozhi.settings.schema import Log
from xiaozhi.tools.base import Action

log = logs.get_logger("xiaozhi.turns")

FIRST_SOUND = "first_frame"
STAGES = ("released", "heard", "llm_first", "tts_first", FIRST_SOUND)
# A frame that is this late still arrives in time for every device.
PUNCTUAL_S = 0.005
MAX_TOOL_CHARS = 64
_SPANS = (
    # Name, and between which stages of a turn's timeline; the first that was reached counts.
    ("asr", ("prepared", "released"), "heard"),
    ("llm", ("llm_asked",), "llm_first"),
    ("tts", ("tts_asked",), "tts_first"),
    ("playback", ("first_frame",), "ended"),
)


def configure_logs(settings: Log) -> None:
    """Put the `log` section into force. Raises OSError when the file cannot be written; what was in force before then
    stays."""
    logs.configure(
        level=settings.log_level,
        levels=settings.levels,
        directory=Path(settings.log_dir) if settings.log_dir else None,
        file_name=settings.log_file,
        max_bytes=settings.max_bytes,
        backups=settings.backups,
        show_content=settings.content,
        json_console=settings.json_console,
    )


class Observer:
    """Feeds one `Metrics` and one `Tracer`."""

    def __init__(self, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self._metrics = metrics
        self._tracer = tracer or NoTracer()
        self._frames = metrics.frames
        self._stages = {stage: metrics.turn_stage.labels(stage) for stage in STAGES}
        self._shares = {share: metrics.turn_share.labels(share) for share in SHARES}
        self.on_turn: list[Callable[[str, TurnRecord], None]] = []
        """Told every turn that has ended, by the id of its device; quick, raise nothing."""
        self._outcomes = {outcome: metrics.turns.labels(outcome.value) for outcome in Outcome}

    def turn_ended(self, device_id: str, record: TurnRecord) -> None:
        """One line and a handful of numbers per turn."""
        self._outcomes[record.outcome].inc()
        self._metrics.talking[device_id] = None
        if record.speculative:
            self._metrics.speculations.labels("used").inc()
        timeline = record.timeline
        for stage, histogram in self._stages.items():
            seconds = timeline.since_voice(stage)
            if seconds is not None:
                histogram.observe(seconds)
                if stage == FIRST_SOUND:
                    self._metrics.last_hour.answered(seconds)
        account = timeline.account()
        for share, ms in account.items():
            self._shares[share].observe(ms / 1000)
        log.info("turn", **_line(device_id, record, account))
        self._trace(device_id, record)
        for tell in self.on_turn:
            tell(device_id, record)

    def prepared_in_vain(self) -> None:
        """An answer that was prepared during a pause was thrown away: the user went on speaking."""
        self._metrics.speculations.labels("discarded").inc()

    def frame_sent(self, late_s: float) -> None:
        """One audio frame went out. Per frame: only late ones cost more than a comparison and an addition."""
        self._frames.sent += 1
        if late_s > PUNCTUAL_S:
            self._metrics.frame_lateness.observe(late_s)

    def frame_heard(self) -> None:
        """One audio frame came in."""
        self._frames.received += 1

    def connection_ended(self, code: int, seconds: float) -> None:
        """A device's connection is over: close code, and how long it lasted."""
        self._metrics.connection_ended(code, seconds)
        used = usage.current()
        if used is not None:
            self._metrics.connection_used(used)
            log.info(
                "connection closed",
                code=code,
                seconds=round(seconds, 1),
                received=used.received,
                sent=used.sent,
                bytes_in=used.bytes_in,
                bytes_out=used.bytes_out,
                turns=used.turns,
                waited_ms=round(1000 * used.waited_s),
                **used.milliseconds(),
            )

    def vendor_called(self, report: CallReport) -> None:
        """One attempt at a vendor has ended."""
        kind, vendor = vendor_labels(report.vendor)
        self._metrics.vendor_requests.labels(kind, vendor, report.outcome).inc()
        used = usage.current()
        if used is not None:
            used.vendor_s += report.total_s
        if report.first_s is not None:
            self._metrics.vendor_first.labels(kind, vendor).observe(report.first_s)
        if report.outcome not in ("open", "overloaded"):
            self._metrics.vendor_seconds.labels(kind, vendor).observe(report.total_s)
        # In the greenlet of its turn, so that the line bears the turn's trace id.
        log.debug(
            "vendor call",
            vendor=report.vendor,
            outcome=report.outcome,
            waited_ms=round(report.waited_s * 1000),
            first_ms=None if report.first_s is None else round(report.first_s * 1000),
            total_ms=round(report.total_s * 1000),
            retry=report.retry,
        )

    def breaker_changed(self, name: str, state: BreakerState) -> None:
        """A breaker has opened, closed, or lets one call through."""
        say = log.info if state is BreakerState.CLOSED else log.warning
        say("breaker", vendor=name, state=state.value)

    def tool_called(self, source: str, seconds: float, action: Action) -> None:
        """A tool of this source was called."""
        self._metrics.tool_calls.labels(source, action.value).inc()
        self._metrics.tool_seconds.labels(source).observe(seconds)
        # In the greenlet of its turn, so that the line bears the turn's trace id.
        log.debug("tool call", source=source, outcome=action.value, total_ms=round(seconds * 1000))

    def dropped(self, queue: str) -> None:
        """A bounded queue was full, or a rate exceeded, and something had to go."""
        self._metrics.dropped.labels(queue).inc()

    def watch_vad(self, vad: Vad) -> None:
        """Batch sizes of a voice detector that has batches."""
        vad.observe_batches(self._metrics.vad_batch.observe)

    def _trace(self, device_id: str, record: TurnRecord) -> None:
        timeline = record.timeline
        began, ended = timeline.voice_ended, timeline.ended
        if began is None or ended is None:
            return
        self._tracer.record(
            "turn",
            began,
            ended,
            _stages(timeline),
            trace=record.trace,
            attributes={
                "device": device_id,
                "turn": record.turn_id,
                "outcome": record.outcome.value,
                "speculative": record.speculative,
            },
            failure=record.reason if record.outcome in (Outcome.FAILED, Outcome.OVERLOADED) else "",
        )


def _line(device_id: str, record: TurnRecord, account: Mapping[str, int]) -> dict[str, object]:
    """The fields of a turn's line: how it ended, how long was waited for it and why, what it was; nothing that says
    nothing."""
    fields: dict[str, object] = {"outcome": record.outcome.value}
    if record.reason:
        fields["reason"] = record.reason
    if record.failed_vendor:
        fields["vendor"] = record.failed_vendor
    if account:
        fields["wait_ms"] = sum(account.values())
        fields["account"] = dict(account)
    ended = record.timeline.since_voice("ended")
    if ended is not None:
        fields["ended_ms"] = round(ended * 1000)
    for name, value in (
        ("announcement", record.announcement),
        ("tools", record.tool_calls),
        ("sentences", 0 if record.outcome is Outcome.ANSWERED else record.sentences),
        ("text", record.user_text),
        ("reply", record.reply),
    ):
        if value:
            fields[name] = value
    return fields | {"turn": record.turn_id, "device": device_id, "trace": record.trace}


def _stages(timeline: Timeline) -> list[Stage]:
    """What a turn spent its time on, as far as it got."""
    spans = []
    for name, begins, end in _SPANS:
        began = next((at for begin in begins if (at := getattr(timeline, begin)) is not None), None)
        ended = getattr(timeline, end)
        if began is not None and ended is not None:
            spans.append(Stage(name, began, ended))
    for call in timeline.calls:
        ended = call.ended if call.ended is not None else timeline.ended
        if ended is not None:
            spans.append(Stage("tool", call.began, ended, _call_attributes(call)))
    return spans


def _call_attributes(call: CallTimes) -> Attributes:
    # A name may be whatever a model has made up.
    return {"tool": call.tool[:MAX_TOOL_CHARS], "outcome": call.outcome or "interrupted"}


def dearest(members: Iterable[Member], now: float, most: int = 20) -> list[dict[str, object]]:
    """The connections that cost most, for operators: by processor time in the last few seconds, then by memory."""
    ranked = sorted(members, key=lambda one: (one.cpu_share, one.vitals.memory_bytes), reverse=True)
    return [
        {
            "device": member.device,
            "seconds": round(now - member.joined_at, 1),
            "cpu_percent": round(100 * member.cpu_share, 1),
            "cpu_seconds": round(member.vitals.cpu_s, 3),
            "memory_bytes": member.vitals.memory_bytes,
            "queued": member.vitals.queue_depth,
            "messages_in": member.vitals.received,
            "messages_out": member.vitals.sent,
            "bytes_in": member.vitals.bytes_in,
            "bytes_out": member.vitals.bytes_out,
        }
        for member in ranked[:most]
    ]
