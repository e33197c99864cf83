"""Figures of a run, worked out by hand."""

from __future__ import annotations

import pytest

from loadtest.report.result import client, figure, flat, gaps, of_run
from loadtest.simulator.record import GAP, LATENESS, Record
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.spread import Spread
from tests.loadtest.figures import MB, a_step


def test_the_server_per_device_and_per_turn():
    step = a_step(devices=10, cores=0.5)

    assert step["turns"] == 20
    assert step["server"]["cores"] == 0.5
    assert step["server"]["cpu_ms_per_turn"] == 250  # 0.5 cores for 10 s, 20 turns
    assert step["server"]["cpu_ms_per_device_second"] == 50
    assert step["server"]["kb_per_connection"] == pytest.approx(
        11 * MB / 1024 / 10, abs=0.1
    )  # 12 samples, one MB more in each
    assert (step["server"]["threads_before"], step["server"]["threads"]) == (5, 5)
    assert (step["server"]["voluntary_per_s"], step["server"]["involuntary_per_s"]) == (100, 10)


def test_gaps_are_told_beyond_the_time_a_frame_lasts():
    spread = Spread([60.0] * 980 + [64.9] * 9 + [70.0] * 10 + [99.0])

    found = gaps(spread, 60)

    assert (found["beyond_p99"], found["beyond_p999"], found["beyond_max"]) == (10.0, 10.0, 39.0)
    assert found["share_late"] == pytest.approx(0.011)
    assert gaps(Spread(), 60)["beyond_p99"] is None


def test_frames_that_come_early_are_not_late():
    assert gaps(Spread([0.1, 20.0]), 60)["beyond_p99"] == 0


@pytest.mark.parametrize("cpu_s,late_ms,saturated", [(1.0, 1.0, False), (9.0, 1.0, True), (1.0, 30.0, True)])
def test_a_saturated_load_generator_is_told(cpu_s: float, late_ms: float, saturated: bool) -> None:
    record = Record()
    record.clients["1"] = {"cpu_s": cpu_s, "wall_s": 10.0, "rss": 1.0}
    record.spread(LATENESS).add(late_ms)

    assert client(record)["saturated"] is saturated


def test_without_a_watch_nothing_is_said_about_the_server():
    step = of_run(Scenario(), Record())

    assert (step["server"], step["series"]) == ({}, [])


def test_figures_are_found_by_name_and_missing_ones_are_none():
    step = a_step()

    assert figure(step, "ms.first audio.p50") == pytest.approx(600, abs=5)
    assert figure(step, "ms.first audio.nothing") is None
    assert figure(step, "server") is None


def test_a_flat_line_has_every_number_and_no_series():
    line = flat(a_step(failures={"closed 1006": 2}))

    assert line["ms.first_audio.p95"] and line["failures.closed_1006"] == 2 and line["server.threads"] == 5
    assert not any(isinstance(value, (list, dict)) for value in line.values())


def test_one_long_gap_in_a_hundred_shows_in_the_step():
    step = a_step()

    assert step["gaps"]["beyond_p999"] == 6.0
    assert step["gap_histogram"] == [[60, 1980], [66, 20]]
    assert GAP not in step["ms"]
