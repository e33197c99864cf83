"""The line of a turn: in a terminal it fits two lines, the outcome first; the file has everything."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import structlog

from xiaozhi.app.telemetry import Observer
from xiaozhi.runtime import logs
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.tracing import Attributes, NoTracer, Stage
from xiaozhi.session.turn_record import SHARES, CallTimes, Outcome, Timeline, TurnRecord

WIDTH = 120
DEVICE = "02:6c:00:00:00:01"
ANSWERED = Timeline(
    voice_ended=10.0,
    quiet=10.064,
    silent=10.288,
    arrived=10.3,
    prepared=10.12,
    released=10.306,
    heard=10.4,
    llm_first=11.512,
    tts_asked=11.562,
    tts_first=11.648,
    encoded=11.651,
    first_frame=11.653,
    ended=19.1,
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logs.shut_down()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().setLevel(level)


def line_of(record: TurnRecord, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, object]]:
    """What stands in the terminal and in the file."""
    logs.configure(directory=folder)
    logs.bind_context(session="580619fb", device=DEVICE, turn=record.turn_id, trace=record.trace)
    Observer(Metrics()).turn_ended(DEVICE, record)
    logs.flush()
    return capsys.readouterr().err.strip(), orjson.loads((folder / "server.log").read_bytes())


def test_a_turn_fits_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = TurnRecord(
        12, Outcome.ANSWERED, ANSWERED, speculative=True, sentences=14, user_text="x" * 200, trace="f" * 32
    )
    shown, kept = line_of(record, tmp_path, capsys)

    assert len(shown) <= 2 * WIDTH and "\n" not in shown
    places = [shown.index(part) for part in ("outcome=answered", "wait_ms=1653", "account=", "ended_ms=", "device=")]
    assert places == sorted(places)
    assert (
        "detector 70, silence 224, grid 12, recognition 94, model 1112, first_sentence 50, voice 86, encode 3, pacing 2"
        in shown
    )
    assert kept["account"] == {**dict.fromkeys(SHARES, 0), **ANSWERED.account()}
    assert (kept["trace"], kept["session"], kept["text"]) == ("f" * 32, "580619fb", "<200 chars>")


def test_a_turn_that_failed_says_why_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = TurnRecord(
        3,
        Outcome.FAILED,
        Timeline(voice_ended=10.0, released=10.3, ended=12.0),
        speculative=False,
        reason="VendorRejected",
        failed_vendor="llm:OpenaiLLM",
    )
    shown, kept = line_of(failed, tmp_path, capsys)

    assert "outcome=failed reason=VendorRejected vendor=llm:OpenaiLLM ended_ms=2000" in shown
    assert "account" not in kept, "nothing was heard"


class RecordingTracer(NoTracer):
    """Keeps the stages of the last tree."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

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
        self.stages = list(stages)


def test_each_tool_call_is_a_span_of_the_turn() -> None:
    calls = [CallTimes("get_weather", 11.0, 11.5, "ask_llm"), CallTimes("x" * 1_000, 11.6)]
    tracer = RecordingTracer()

    record = TurnRecord(1, Outcome.INTERRUPTED, replace(ANSWERED, calls=calls), speculative=False)
    Observer(Metrics(), tracer).turn_ended(DEVICE, record)

    assert [stage for stage in tracer.stages if stage.name == "tool"] == [
        Stage("tool", 11.0, 11.5, {"tool": "get_weather", "outcome": "ask_llm"}),
        Stage("tool", 11.6, 19.1, {"tool": "x" * 64, "outcome": "interrupted"}),
    ]
