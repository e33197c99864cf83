"""The Grafana dashboard: it can be imported, its expressions are PromQL, and what they ask for exists."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ops import series
from tests.ops.programs import ROOT, check, need

DASHBOARD = ROOT / "config/grafana/xiaozhi.json"
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"] for variable in BOARD["templating"]["list"]}
BUILT_IN = {"__rate_interval", "__interval", "__range"}


def targets() -> Iterator[tuple[str, str]]:
    """(panel, expression)."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def concrete(expression: str) -> str:
    """An expression as Prometheus gets it."""
    return expression.replace("$__rate_interval", "5m").replace("$job", "xiaozhi").replace("$instance", ".*")


def test_it_can_be_imported() -> None:
    assert BOARD["uid"] == "xiaozhi"
    assert BOARD["title"]
    assert isinstance(BOARD["schemaVersion"], int)
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_panels_have_a_place_of_their_own() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']!r} lies on {taken[cell]!r}"
            taken[cell] = panel["title"]


def test_every_panel_says_what_it_shows() -> None:
    titles = [panel["title"] for panel in PANELS]

    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("title,expression", list(targets()))
def test_an_expression_asks_for_what_is_there(title: str, expression: str) -> None:
    used = set(re.findall(r"\$\{?(\w+)\}?", expression))

    assert used <= VARIABLES | BUILT_IN
    assert 'job="$job", instance=~"$instance"' in expression
    assert series.faults(concrete(expression)) == []


def test_expressions_are_promql(tmp_path: Path) -> None:
    promtool = need("promtool")
    rules = [
        {"record": f"dashboard:{number}", "expr": concrete(expression)}
        for number, (_, expression) in enumerate(targets())
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")

    check(promtool, "check", "rules", str(file))


def test_everything_the_server_measures_is_shown() -> None:
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name) for _, expression in targets() for name in series.names_in(expression)
    }
    measured = {name for name in series.families() if name.startswith("xiaozhi_")}

    assert measured - shown == set()


def test_legends_name_labels_that_are_there() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            known = series.TARGET_LABELS.union(
                *(series.exported().get(name, frozenset()) for name in series.names_in(target["expr"]))
            )
            assert set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"])) <= known, panel["title"]
