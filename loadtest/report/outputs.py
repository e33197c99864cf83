"""Files of a run: JSON with everything, CSV with one line per step, and the HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.report import page, tables
from loadtest.report.result import Step
from loadtest.simulator.scenario import Scenario


def report(
    title: str, scenario: Scenario, steps: Sequence[Step], *, machine: Mapping[str, Any], server: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything about a run in one JSON-ready value. `server`: what is known about it."""
    return {
        "title": title,
        "machine": dict(machine),
        "server": dict(server),
        "scenario": _shown(scenario),
        "steps": list(steps),
    }


def write(data: Mapping[str, Any], folder: Path, name: str) -> list[Path]:
    """Write NAME.json, NAME.csv and NAME.html into `folder`, which is made if need be; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "json": json.dumps(data, indent=1, ensure_ascii=False),
        "csv": tables.as_csv(data["steps"]),
        "html": page.html(data),
    }
    paths = []
    for ending, text in contents.items():
        path = folder / f"{name}.{ending}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _shown(scenario: Scenario) -> dict[str, Any]:
    options = scenario.options()
    return options | {"token": "***" if options["token"] else ""}
