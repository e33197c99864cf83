"""The climb, against servers that carry a known number of devices, and the page it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import __main__ as commands
from loadtest.measure import capacity, run
from loadtest.measure.capacity import LADDER, Climb, climb, levels_for, places_of, verdict
from loadtest.measure.processes import MeasuredServer, Setup
from loadtest.report import capacity_page, machine
from loadtest.report.result import Step
from loadtest.simulator.scenario import Scenario
from tests.loadtest.figures import a_step


def carrying(most: int, tried: list[int] | None = None) -> Callable[[int], Step]:
    """A server that is too slow above `most` devices."""

    def try_level(devices: int) -> Step:
        if tried is not None:
            tried.append(devices)
        return a_step(devices, first_audio=500.0 if devices <= most else 1_500.0)

    return try_level


@given(st.integers(0, 2_100))
def test_the_climb_finds_how_many_it_carries(most: int) -> None:
    def try_level(devices: int) -> Step:
        return {
            "devices": devices,
            "failed": 0,
            "failures": {},
            "ms": {"first audio": {"p95": 500.0 if devices <= most else 1_500.0}},
        }

    result = climb(Climb("open", 1, 0), LADDER, try_level, precision=25)
    best = result.best["devices"] if result.best is not None else 0

    assert best <= most
    assert most - best < 25 or best == LADDER[-1]


def test_every_level_below_the_first_bad_one_is_tried_once():
    tried: list[int] = []
    climb(Climb("open", 1, 0), LADDER, carrying(120, tried), precision=50)

    assert tried == [25, 50, 100, 150]


def test_a_profile_ends_at_its_own_limit():
    tried: list[int] = []
    result = climb(Climb("low", 1, 60), LADDER, carrying(1_000, tried))

    assert tried == [25, 50, 60]
    assert result.stopped_by == "its own limit of connections"
    assert result.best is not None and result.best["devices"] == 60


def test_a_failed_turn_stops_it_however_fast_the_others_were():
    result = climb(
        Climb("open", 1, 0),
        [10, 20],
        lambda devices: a_step(devices, failures={"closed 1006": 1} if devices == 20 else None),
    )

    assert result.stopped_by == "1 failed (1 x closed 1006) at 20"
    assert result.best is not None and result.best["devices"] == 10


def test_a_server_that_cannot_even_carry_the_first_level_carries_none():
    result = climb(Climb("open", 1, 0), [10], carrying(0))

    assert result.best is None
    assert "p95" in result.stopped_by


def test_nothing_completed_is_not_good():
    assert verdict(a_step() | {"ms": {}}) == "no turn was completed"


def test_a_bounded_server_is_not_tried_far_below_its_limit():
    assert levels_for(LADDER, 150)[:3] == [50, 100, 150]
    assert levels_for(LADDER, 50)[0] == 25
    assert levels_for([100, 200], 50) == [100, 200]
    assert levels_for(LADDER, 0) == list(LADDER)


def test_profiles_have_places_for_every_worker():
    assert (places_of("low", 1), places_of("low", 2), places_of("open", 2)) == (50, 100, 0)


def data(most: int = 100) -> dict[str, Any]:
    climbs = [
        climb(Climb(profile, 1, places), LADDER, carrying(most)) for profile, places in (("open", 0), ("low", 50))
    ]
    idles = [a_step(1_000) | {"greenlets_before": 10.0, "greenlets_during": 1_010.0}]
    return {"machine": machine.describe(), "climbs": [asdict(each) for each in climbs], "idle": idles}


def test_the_page_has_both_tables_the_machine_and_the_estimates():
    text = capacity_page.markdown(data())

    assert "| open | 1 | **100** |" in text
    assert "its own limit of connections" in text
    assert "50 devices, 400 MB (2 cores, 4 GB)" in text
    assert "| **1,000** |" in text and "8,192" in text
    assert "Command: `" in text
    assert text.count("Level by level, 1 worker with every door open:") == 1  # not for the profile with a limit
    assert "1 x" not in text and "| 100 |" in text


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "capacity.md"
    capacity_page.update(path, data(100))
    written = path.read_text()
    path.write_text(f"before\n{written}after\n")
    capacity_page.update(path, data(300))
    text = path.read_text()

    assert text.startswith("before\n") and text.endswith("after\n")
    assert "**300**" in text and "**100**" not in text
    assert text.count(capacity_page.BEGIN) == 1


def test_the_command_climbs_for_every_profile_and_worker_count_and_writes_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, int]] = []
    bad_once = {50}

    @contextlib.contextmanager
    def set_up(setup: Setup) -> Iterator[MeasuredServer]:
        started.append((setup.profile, setup.workers))
        yield MeasuredServer("ws://x", [1], [], tmp_path)

    def measure(plan: Scenario, url: str, pids: list[int], **_: Any) -> Step:
        slow = plan.devices > 100 or plan.devices in bad_once
        bad_once.discard(plan.devices)
        return a_step(plan.devices, first_audio=1_200.0 if slow else 500.0)

    monkeypatch.setattr(capacity, "set_up", set_up)
    monkeypatch.setattr(run, "measure", measure)
    page = tmp_path / "capacity.md"
    arguments = [
        "capacity",
        "--profiles",
        "open,low",
        "--worker-counts",
        "1,2",
        "--tries",
        "2",
        "--idle",
        "",
        "--name",
        "c",
    ]

    assert commands.main([*arguments, "--page", str(page), "--out", str(tmp_path)]) == 0
    assert set(started) == {("", 1), ("", 2), ("low", 1), ("low", 2)}
    assert "| open | 1 | **100** | p95 " in page.read_text()
    assert "| low | 2 | **100** | its own limit of connections |" in page.read_text()
    assert {path.name for path in tmp_path.glob("c*.html")} == {
        "c-open-1.html",
        "c-open-2.html",
        "c-low-1.html",
        "c-low-2.html",
    }


def test_what_was_measured_before_an_interruption_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def set_up(setup: Setup) -> Iterator[MeasuredServer]:
        yield MeasuredServer("ws://x", [1], [], tmp_path)

    def measure(plan: Scenario, url: str, pids: list[int], **_: Any) -> Step:
        if plan.devices > 50:
            raise KeyboardInterrupt
        return a_step(plan.devices, first_audio=500.0)

    monkeypatch.setattr(capacity, "set_up", set_up)
    monkeypatch.setattr(run, "measure", measure)
    page = tmp_path / "capacity.md"
    arguments = ["capacity", "--profiles", "low,mid", "--worker-counts", "1", "--idle", "", "--name", "c"]

    assert commands.main([*arguments, "--page", str(page), "--out", str(tmp_path)]) == commands.INTERRUPTED
    assert "| low | 1 | **50** | its own limit of connections |" in page.read_text()
    assert "| mid | 1 | **50** | " in page.read_text()
    assert (tmp_path / "c.json").exists()


@pytest.mark.parametrize("climbs,idle", [([], True), (True, [])])
def test_a_part_that_was_not_measured_has_no_table(climbs: Any, idle: Any) -> None:
    everything = data()
    some = everything | {"climbs": everything["climbs"] if climbs else [], "idle": everything["idle"] if idle else []}

    assert capacity_page.markdown(some).count("|---|") < capacity_page.markdown(everything).count("|---|")
