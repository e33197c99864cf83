"""Comparisons: ratios by hand, the order of runs, and sides that make no sense."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtest import __main__ as commands
from loadtest.measure import compare, run
from loadtest.measure.processes import MeasuredServer, Setup, StartError
from loadtest.simulator.scenario import Scenario
from tests.loadtest.figures import a_step


def test_ratios_are_b_over_a_pair_by_pair():
    pairs = [(a_step(cores=0.5), a_step(cores=0.25)), (a_step(cores=1.0), a_step(cores=0.6))]
    found = {ratio.title: ratio for ratio in compare.ratios(pairs)}
    cpu = found["CPU per turn, ms of core"]

    assert cpu.pairs == (0.5, 0.6)
    assert (cpu.a, cpu.b) == (375, 212.5)
    assert cpu.median == pytest.approx(0.55)
    assert cpu.clear
    assert not found["threads"].clear  # the same is no difference


def test_a_figure_that_one_side_lacks_is_left_out():
    remote = a_step() | {"server": {}}
    titles = [ratio.title for ratio in compare.ratios([(a_step(), remote)])]

    assert "first audio p95, ms" in titles
    assert "threads" not in titles


def test_pairs_that_disagree_are_no_clear_difference():
    assert not compare.Ratio("x", 1, 1, (0.9, 1.1)).clear


def test_the_two_take_turns_at_being_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def measure(plan: Scenario, url: str, pids: list[int], **_: Any) -> dict[str, Any]:
        order.append(url)
        return a_step(cores=0.5 if url == "ws://a" else 1.0)

    monkeypatch.setattr(run, "measure", measure)
    sides = [MeasuredServer(f"ws://{name}", [], [], Path()) for name in "ab"]
    pairs = compare.alternate(sides, Scenario(), 3, Console(file=io.StringIO()))

    assert order == ["ws://a", "ws://b", "ws://b", "ws://a", "ws://a", "ws://b"]
    assert all(b["server"]["cores"] == 2 * a["server"]["cores"] for a, b in pairs)


def test_failures_of_a_side_are_shown():
    console = Console(record=True, width=120, file=io.StringIO())
    pairs = [(a_step(), a_step(failures={"closed 1011": 1}))]
    compare.show(console, ["one", "two"], compare.ratios(pairs), pairs, "10 devices")
    shown = console.export_text()

    assert "B: 1 failures: closed 1011" in shown and "10 devices" in shown
    assert "first audio p95" in shown


def test_a_side_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(StartError, match="neither an address"),
        compare.opened(str(tmp_path / "none"), Setup(), "http://x"),
    ):
        pass


def test_several_numbers_of_devices_are_compared_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[int, str]] = []

    def measure(plan: Scenario, url: str, pids: list[int], **_: Any) -> dict[str, Any]:
        asked.append((plan.devices, url))
        return a_step(plan.devices)

    @contextlib.contextmanager
    def running(vendors: object, **_: Any) -> Iterator[str]:
        yield "http://vendors"

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(compare, "vendors_running", running)
    sides = ["ws://127.0.0.1:1/a", "ws://127.0.0.1:1/b"]
    code = commands.main(
        ["compare", *sides, "--devices", "5,10", "--rounds", "1", "--out", str(tmp_path), "--name", "x"]
    )

    assert code == 0
    assert asked == [(5, sides[0]), (5, sides[1]), (10, sides[0]), (10, sides[1])]
    found = json.loads((tmp_path / "x.json").read_text())["runs"]
    assert [each["devices"] for each in found] == [5, 10]
    assert all(each["ratios"] and len(each["pairs"]) == 1 for each in found)
