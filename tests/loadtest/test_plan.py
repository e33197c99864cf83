"""What many devices need, on paper: the arithmetic, and that the page shows what the command says."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.measure.plan import BEGIN, END, Costs, Habits, plan, shipped, write

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_shows_what_the_command_says() -> None:
    text = (ROOT / "docs/capacity.md").read_text(encoding="utf-8")
    assert f"{BEGIN}\n\n{shipped()}\n\n{END}" in text


def test_the_busiest_second_is_that_of_the_busy_hour() -> None:
    need = plan(100_000, Habits(visits_per_day=24, busy_hour=1 / 24, turns_per_visit=1, turn_s=10, linger_s=0))
    # 100,000 visits an hour of 10 s each are 278 at once on average.
    assert 278 < need.in_turn < 278 * 1.5 and need.connected == need.in_turn


def test_what_costs_twice_needs_twice() -> None:
    cheap, dear = (plan(1_000_000, costs=Costs(cpu_ms_per_turn=ms)) for ms in (20, 40))
    assert dear.cores == pytest.approx(2 * cheap.cores) and dear.machines["mid"] > 1.9 * cheap.machines["mid"]
    twice = plan(2_000_000)
    once = plan(1_000_000)
    assert 1.9 < twice.redis_per_s / once.redis_per_s < 2.1 and 1.9 < twice.mbit_estimated / once.mbit_estimated < 2.1


def test_standing_connections_cost_memory_only() -> None:
    visiting, standing = plan(1_000_000), plan(1_000_000, standing=True)
    assert standing.memory_gb > visiting.memory_gb + 15 and standing.cores == visiting.cores
    assert standing.connected == 1_000_000


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here", encoding="utf-8")
    with pytest.raises(ValueError, match="two marks"):
        write(page)
    assert page.read_text(encoding="utf-8") == "nothing here"
