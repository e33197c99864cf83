"""The report of a run: terminal, JSON, CSV, and a page that needs nothing else."""

from __future__ import annotations

import csv
import html.parser
import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.report import machine, outputs, page, tables
from loadtest.simulator.scenario import Scenario
from tests.loadtest.figures import a_step

STEPS = [a_step(10), a_step(20, first_audio=700.0, failures={"no <answer>": 3})]


def report(**scenario: Any) -> dict[str, Any]:
    return outputs.report("A & B", Scenario(**scenario), STEPS, machine=machine.describe(), server={"url": "ws://x"})


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_three_files_are_written(tmp_path: Path) -> None:
    paths = outputs.write(report(token="secret-token"), tmp_path / "deep", "run")

    assert [path.name for path in paths] == ["run.json", "run.csv", "run.html"]
    data = json.loads(paths[0].read_text())
    assert [step["devices"] for step in data["steps"]] == [10, 20]
    assert data["machine"]["cores"] and data["machine"]["command"] and data["machine"]["date"]
    assert not any("secret-token" in path.read_text() for path in paths)


def test_the_csv_has_a_line_per_run_and_a_column_per_figure():
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(STEPS))))

    assert [row["devices"] for row in rows] == ["10", "20"]
    assert rows[0]["failures.no_<answer>"] == "" and rows[1]["failures.no_<answer>"] == "3"
    assert float(rows[1]["ms.first_audio.p95"]) > 700


def test_the_page_shows_figures_failures_and_charts_and_loads_nothing():
    shown = Page(page.html(report()))
    text = "".join(shown.text)

    assert "A & B" in text and "no <answer>" in text and "40 turns" not in text
    assert "60 turns, 3 failures" in text
    assert sum(tag == "svg" for tag, _ in shown.tags) == 12
    assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "img", "link", "iframe"})
    assert not any({"src", "href"} & set(attributes) for _, attributes in shown.tags)


def test_a_single_run_has_no_charts_against_devices():
    data = outputs.report("one", Scenario(), STEPS[:1], machine=machine.describe(), server={})

    assert "Against the number of devices" not in page.html(data)


def test_a_server_elsewhere_has_no_charts_of_its_processes():
    step = a_step() | {"server": {}, "series": []}
    data = outputs.report("one", Scenario(), [step], machine=machine.describe(), server={})

    assert sum(tag == "svg" for tag, _ in Page(page.html(data)).tags) == 3


def test_the_terminal_shows_a_column_per_run():
    console = Console(record=True, width=120, file=io.StringIO())
    tables.show(console, STEPS)
    shown = console.export_text()

    assert "first audio p95 ms" in shown and "3 x no <answer>" in shown and "abort to tts stop" in shown
    assert "SATURATED" not in shown


def test_the_machine_is_told_in_one_line():
    assert "\n" not in machine.in_words(machine.describe())
