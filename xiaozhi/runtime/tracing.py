"""One trace per turn: the id that ties log lines together, and spans for those who collect them.

Spans are made after the turn, from the times it wrote down anyway, so that tracing changes nothing on the way of a
frame. Not a replacement for metrics: it answers why this one turn was slow.

Nobody needs OpenTelemetry. `open_tracer` looks for the standard variable OTEL_EXPORTER_OTLP_ENDPOINT and only then
loads `otel.py`, which imports the packages (requirements: opentelemetry-sdk, opentelemetry-exporter-otlp-proto-http);
where they are missing it says so once."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
Attributes = Mapping[str, str | int | float | bool]


def new_trace_id() -> str:
    """32 hexadecimal digits, as W3C Trace Context (section 3.2.2.3) wants them; not a secret."""
    return f"{random.getrandbits(128) or 1:032x}"


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a turn, such as recognition. Times in monotonic seconds."""

    name: str
    start_s: float
    end_s: float
    attributes: Attributes = field(default_factory=dict)


class Tracer(Protocol):
    """Where traces go. Never waits (but `close`) and never raises."""

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
        """One tree: a span `name` from `start_s` to `end_s` (monotonic s) with a child per stage, under the trace id
        `trace` (hexadecimal; "": a new one). `failure` not empty: it went wrong, and this is why."""

    def close(self, timeout: float = 2.0) -> None:
        """Send what is left, waiting at most `timeout` seconds. Idempotent."""


class NoTracer:
    """For everybody who does not collect traces."""

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
        """Nothing."""

    def close(self, timeout: float = 2.0) -> None:
        """Nothing."""


def open_tracer(*, version: str = "", worker: str = "", environ: Mapping[str, str] = os.environ) -> Tracer:
    """The tracer that the environment asks for. Sampling, headers, names and timeouts follow the other OTEL_...
    variables."""
    endpoint = next((environ[name] for name in ENDPOINTS if environ.get(name)), "")
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    unwanted = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() != "otlp"
    if not endpoint or disabled or unwanted:
        return NoTracer()
    try:
        otel = importlib.import_module("xiaozhi.runtime.otel")
    except ImportError as error:
        log.warning("no traces, packages are missing", endpoint=endpoint, missing=error.name)
        return NoTracer()
    tracer: Tracer = otel.OtelTracer(version=version, worker=worker)
    log.info("traces", endpoint=endpoint)
    return tracer
