"""Traces by OpenTelemetry: turns become span trees and leave by OTLP over HTTP, in batches.

Loaded by `tracing.py` only where it is wanted, because the imports cost time and memory. The SDK's own batch processor
is not used: it starts a thread of its own, while here a greenlet ships what has gathered and ends again.

Overflow: at most `MAX_WAITING` spans wait; more push out the oldest, which are counted. A batch that cannot be
delivered is dropped after the exporter's own retries."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence

import gevent
from opentelemetry import trace as otel_trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode

from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tracing import Attributes, Stage

log = get_logger(__name__)

MAX_WAITING = 4096
MAX_BATCH = 512
SHIP_AFTER_S = 2.0


class OtelTracer:
    """See `tracing.Tracer`. `exporter` None: OTLP over HTTP, as the environment configures it."""

    def __init__(
        self,
        *,
        version: str = "",
        worker: str = "",
        exporter: SpanExporter | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock = clock
        self._wall_ns = wall_ns
        self._ids = _ChosenIds()
        self.shipper = Shipper(exporter or OTLPSpanExporter())
        # Not at exit by itself: the composition root closes it, while there still is a hub.
        provider = TracerProvider(resource=_resource(version, worker), id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(self.shipper)
        self._tracer = provider.get_tracer("xiaozhi", version or None)

    def record(
        self,
        name: str,
        start_s: float,
        end_s: float,
        stages: Sequence[Stage],
        *,
        trace: str = "",
        attributes: Attributes | None = None,
        failure: str = "",
    ) -> None:
        """See Tracer."""
        began_ns = self._wall_ns() - round(self._clock() * 1e9)  # when the monotonic clock showed zero
        self._ids.next_trace = _trace_number(trace)
        root = self._tracer.start_span(
            name, kind=SpanKind.SERVER, attributes=dict(attributes or {}), start_time=began_ns + round(start_s * 1e9)
        )
        inside = otel_trace.set_span_in_context(root)
        for stage in stages:
            child = self._tracer.start_span(
                stage.name, inside, attributes=dict(stage.attributes), start_time=began_ns + round(stage.start_s * 1e9)
            )
            child.end(began_ns + round(max(stage.start_s, stage.end_s) * 1e9))
        if failure:
            root.set_status(Status(StatusCode.ERROR, failure))
        root.end(began_ns + round(max(start_s, end_s) * 1e9))

    def close(self, timeout: float = 2.0) -> None:
        """See Tracer."""
        self.shipper.close(timeout)


class Shipper(SpanProcessor):
    """Gathers ended spans and hands them to the exporter from a greenlet that lives as long as there are any."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.dropped = 0
        """Spans that were pushed out or could not be delivered."""
        self._exporter = exporter
        self._waiting: deque[ReadableSpan] = deque()
        self._ship: gevent.Greenlet | None = None
        self._exporting = 0
        self._closed = False

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended; see SpanProcessor."""
        if self._closed or not span.context.trace_flags.sampled:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(span)
        if self._ship is None or self._ship.dead:
            self._ship = tasks.spawn_later(SHIP_AFTER_S, "trace-export", self.flush)

    def flush(self) -> None:
        """Deliver everything that waits; blocks, each batch at most as long as the exporter's timeout."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._exporting += 1
            try:
                delivered = self._exporter.export(batch) is SpanExportResult.SUCCESS
            finally:
                self._exporting -= 1
            if not delivered:
                self.dropped += len(batch)
                log.warning("traces lost", spans=len(batch), lost_so_far=self.dropped)

    def close(self, timeout: float) -> None:
        """Deliver what is left, at most `timeout` seconds long, and close the exporter. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with gevent.Timeout(timeout, False):
            self.flush()
            if self._exporting and self._ship is not None:
                self._ship.join()
        if self._ship is not None:
            self._ship.kill(block=False)
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._exporter.shutdown()


class _ChosenIds(RandomIdGenerator):
    """Lets the next trace have the id that the log lines of its turn bear."""

    def __init__(self) -> None:
        self.next_trace = 0

    def generate_trace_id(self) -> int:
        chosen, self.next_trace = self.next_trace, 0
        return chosen or super().generate_trace_id()


def _trace_number(trace: str) -> int:
    try:
        return int(trace, 16) & (1 << 128) - 1
    except ValueError:
        return 0


def _resource(version: str, worker: str) -> Resource:
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    known = {"service.name": "" if named else "xiaozhi", "service.version": version, "service.instance.id": worker}
    return Resource.create({key: value for key, value in known.items() if value})
