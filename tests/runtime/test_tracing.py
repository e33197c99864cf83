"""Traces: off unless asked for, without the packages too; one tree per turn; delivered by a greenlet, over the real
protocol."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pywsgi import WSGIServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from tests.waiting import PATIENCE_S
from xiaozhi.runtime import otel
from xiaozhi.runtime.tracing import NoTracer, Stage, new_trace_id, open_tracer

TRACE = "0af7651916cd43dd8448eb211c80319c"
STAGES = [
    Stage("endpoint", 100.0, 100.2),
    Stage("asr", 100.2, 100.3, {"vendor": "whisper"}),
    Stage("llm", 100.3, 100.5),
    Stage("tool", 100.4, 100.45, {"tool": "get_time"}),
    Stage("tts", 100.5, 100.6),
]


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(memory: InMemorySpanExporter) -> Iterator[otel.OtelTracer]:
    made = otel.OtelTracer(
        version="1.2", worker="3", exporter=memory, clock=lambda: 200.0, wall_ns=lambda: 1_000_200 * 10**9
    )
    yield made
    made.close()


def test_a_turn_is_one_tree(tracer: otel.OtelTracer, memory: InMemorySpanExporter) -> None:
    tracer.record("turn", 100.0, 103.0, STAGES, trace=TRACE, attributes={"outcome": "answered", "chars": 12})
    tracer.close()

    spans = {span.name: span for span in memory.get_finished_spans()}
    root = spans.pop("turn")

    assert set(spans) == {stage.name for stage in STAGES}
    assert root.parent is None
    assert root.attributes == {"outcome": "answered", "chars": 12}
    assert root.status.status_code is not StatusCode.ERROR
    assert {span.parent.span_id for span in spans.values() if span.parent} == {root.context.span_id}
    assert {span.context.trace_id for span in [root, *spans.values()]} == {int(TRACE, 16)}
    assert spans["asr"].attributes == {"vendor": "whisper"}


def test_times_are_those_of_the_wall_clock(tracer: otel.OtelTracer, memory: InMemorySpanExporter) -> None:
    tracer.record("turn", 100.0, 103.0, [Stage("asr", 100.25, 100.5)])
    tracer.close()

    asr, root = memory.get_finished_spans()

    assert (root.start_time, root.end_time) == (1_000_100 * 10**9, 1_000_103 * 10**9)
    assert (asr.start_time, asr.end_time) == (1_000_100_250_000_000, 1_000_100_500_000_000)


def test_a_turn_that_failed_says_why(tracer: otel.OtelTracer, memory: InMemorySpanExporter) -> None:
    tracer.record("turn", 0.0, 1.0, [], failure="llm:acme: timeout")
    tracer.close()

    [root] = memory.get_finished_spans()
    assert root.status.status_code is StatusCode.ERROR
    assert root.status.description == "llm:acme: timeout"


@pytest.mark.parametrize("trace", ["", "not hexadecimal", "0"])
def test_without_a_usable_id_every_tree_gets_its_own(
    tracer: otel.OtelTracer, memory: InMemorySpanExporter, trace: str
) -> None:
    tracer.record("turn", 0.0, 1.0, [], trace=TRACE)
    tracer.record("turn", 0.0, 1.0, [], trace=trace)
    tracer.close()

    first, second = memory.get_finished_spans()
    assert first.context.trace_id == int(TRACE, 16)
    assert second.context.trace_id not in (0, first.context.trace_id)


def test_who_sends_is_told(tracer: otel.OtelTracer, memory: InMemorySpanExporter) -> None:
    tracer.record("turn", 0.0, 1.0, [])
    tracer.close()

    resource = memory.get_finished_spans()[0].resource.attributes
    assert resource["service.name"] == "xiaozhi"
    assert resource["service.version"] == "1.2"
    assert resource["service.instance.id"] == "3"


def test_a_name_from_the_environment_wins(monkeypatch: pytest.MonkeyPatch, memory: InMemorySpanExporter) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "living-room")
    tracer = otel.OtelTracer(exporter=memory)
    tracer.record("turn", 0.0, 1.0, [])
    tracer.close()

    assert memory.get_finished_spans()[0].resource.attributes["service.name"] == "living-room"


def test_nothing_is_sampled_when_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch, memory: InMemorySpanExporter
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracer = otel.OtelTracer(exporter=memory)
    tracer.record("turn", 0.0, 1.0, STAGES)
    tracer.close()

    assert memory.get_finished_spans() == ()


class Exporter(SpanExporter):
    """One that notes its batches and fails or waits when told."""

    def __init__(
        self, wait: Callable[[], object] = lambda: None, result: SpanExportResult = SpanExportResult.SUCCESS
    ) -> None:
        self.batches: list[int] = []
        self.began = Event()
        self.shut = 0
        self._wait = wait
        self._result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.began.set()
        self._wait()
        self.batches.append(len(spans))
        return self._result

    def shutdown(self) -> None:
        self.shut += 1


def test_spans_leave_by_themselves_and_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "SHIP_AFTER_S", 0.0)
    monkeypatch.setattr(otel, "MAX_BATCH", 4)
    exporter = Exporter()
    tracer = otel.OtelTracer(exporter=exporter)

    tracer.record("turn", 0.0, 1.0, STAGES)
    assert exporter.batches == []
    assert exporter.began.wait(PATIENCE_S)
    gevent.sleep(0)
    assert exporter.batches == [4, 2]

    exporter.began.clear()
    tracer.record("turn", 0.0, 1.0, [])
    assert exporter.began.wait(PATIENCE_S)
    tracer.close()


def test_the_queue_is_bounded_and_pushes_out_the_oldest(
    monkeypatch: pytest.MonkeyPatch, memory: InMemorySpanExporter
) -> None:
    monkeypatch.setattr(otel, "MAX_WAITING", 3)
    tracer = otel.OtelTracer(exporter=memory)

    for number in range(5):
        tracer.record(f"turn {number}", 0.0, 1.0, [])
    tracer.close()

    assert [span.name for span in memory.get_finished_spans()] == ["turn 2", "turn 3", "turn 4"]
    assert tracer.shipper.dropped == 2


def test_what_cannot_be_delivered_is_counted_and_told() -> None:
    tracer = otel.OtelTracer(exporter=Exporter(result=SpanExportResult.FAILURE))

    tracer.record("turn", 0.0, 1.0, STAGES)
    with capture_logs() as lines:
        tracer.close()

    assert tracer.shipper.dropped == 6
    assert [(line["event"], line["spans"]) for line in lines] == [("traces lost", 6)]


def test_closing_waits_for_a_batch_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "SHIP_AFTER_S", 0.0)
    go_on = Event()
    exporter = Exporter(wait=lambda: go_on.wait(PATIENCE_S))
    tracer = otel.OtelTracer(exporter=exporter)
    tracer.record("turn", 0.0, 1.0, [])
    assert exporter.began.wait(PATIENCE_S)

    closing = gevent.spawn(tracer.close, 5.0)
    gevent.sleep(0)
    assert not closing.dead
    go_on.set()
    closing.join(PATIENCE_S)

    assert exporter.batches == [1]
    assert exporter.shut == 1


def test_closing_waits_no_longer_than_told_and_once() -> None:
    never = Event()
    exporter = Exporter(wait=lambda: never.wait(60))
    tracer = otel.OtelTracer(exporter=exporter)
    tracer.record("turn", 0.0, 1.0, [])

    tracer.close(0.01)
    tracer.close(0.01)
    tracer.record("turn", 0.0, 1.0, [])

    assert exporter.batches == []
    assert exporter.shut == 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_off_unless_asked_for(environ: dict[str, str]) -> None:
    tracer = open_tracer(environ=environ)

    assert isinstance(tracer, NoTracer)
    tracer.record("turn", 0.0, 1.0, STAGES)
    tracer.close()


def test_without_the_packages_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "xiaozhi.runtime.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with capture_logs() as lines:
        tracer = open_tracer(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})

    assert isinstance(tracer, NoTracer)
    assert [line["event"] for line in lines] == ["no traces, packages are missing"]


def test_the_real_exporter_delivers_to_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    def collector(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read()
        received.append((environ["PATH_INFO"], ExportTraceServiceRequest.FromString(body)))
        start_response("200 OK", [("Content-Type", "application/x-protobuf")])
        return [b""]

    server = WSGIServer(("127.0.0.1", 0), collector, log=None, error_log=None)
    server.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        tracer = open_tracer(version="1.2", worker="0")
        assert not isinstance(tracer, NoTracer)
        tracer.record("turn", 0.0, 3.0, STAGES, trace=TRACE)
        tracer.close(10.0)
    finally:
        server.stop()

    [(path, request)] = received
    spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
    assert path == "/v1/traces"
    assert sorted(span.name for span in spans) == ["asr", "endpoint", "llm", "tool", "tts", "turn"]
    assert {span.trace_id.hex() for span in spans} == {TRACE}


def test_trace_ids_are_what_w3c_wants() -> None:
    made = {new_trace_id() for _ in range(100)}

    assert len(made) == 100
    assert all(len(one) == 32 and int(one, 16) for one in made)
