"""The files for Prometheus, by Prometheus' own tool, and against the metrics that really exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ops import series
from tests.ops.programs import ROOT, check, need, run
from xiaozhi.runtime.metrics import Metrics

ALERTS = ROOT / "config/prometheus/alerts.yml"
SCRAPES = ROOT / "config/prometheus/prometheus.yml"
TESTS = ROOT / "tests/ops/alerts_test.yml"


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_files_are_valid() -> None:
    promtool = need("promtool")

    check(promtool, "check", "rules", str(ALERTS))
    check(promtool, "check", "config", str(SCRAPES))


def test_the_alerts_do_what_they_say() -> None:
    promtool = need("promtool")

    done = run(promtool, "test", "rules", str(TESTS))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    firing: set[str] = set()
    quiet: set[str] = set()
    for test in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]:
        for case in test["alert_rule_test"]:
            (firing if case.get("exp_alerts") else quiet).add(case["alertname"])
    names = {rule["alert"] for rule in rules()}

    assert firing == names
    assert quiet >= names


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_there(rule: dict[str, Any]) -> None:
    assert series.faults(rule["expr"]) == []
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_the_manual_says_what_to_do(rule: dict[str, Any]) -> None:
    manual = (ROOT / "docs/operations.md").read_text(encoding="utf-8")

    assert f"`{rule['alert']}`" in manual


def test_the_manual_knows_no_alert_that_is_gone() -> None:
    manual = (ROOT / "docs/operations.md").read_text(encoding="utf-8")

    assert set(re.findall(r"`(Xiaozhi[A-Z]\w+)`", manual)) == {rule["alert"] for rule in rules()}


def test_names_follow_the_conventions() -> None:
    promtool = need("promtool")
    metrics = Metrics(worker="0", version="1")
    metrics.watch_process()
    metrics.turns.labels("answered").inc()
    metrics.turn_stage.labels("heard").observe(0.1)
    metrics.vendor_requests.labels("llm", "acme", "ok").inc()

    said = check(promtool, "check", "metrics", stdin=metrics.render()[1].decode())

    assert said == ""


def test_workers_are_scraped_where_they_serve() -> None:
    supervisor = (ROOT / "supervisord.conf").read_text(encoding="utf-8")
    [scrape] = yaml.safe_load(SCRAPES.read_text(encoding="utf-8"))["scrape_configs"]
    [base] = re.findall(r"XIAOZHI_METRICS_PORT:-(\d+)", supervisor)

    assert scrape["job_name"] == "xiaozhi"
    assert scrape["static_configs"][0]["targets"] == [f"127.0.0.1:{base}"]


@pytest.mark.parametrize(
    "expression,fault",
    [
        ("sum(xiaozhi_conections)", "no metric xiaozhi_conections"),
        ('xiaozhi_turns_total{reason="x"}', "xiaozhi_turns_total has no label reason"),
        ("sum by (vendor) (rate(xiaozhi_turns_total[5m]))", "nothing here has a label vendor"),
        ("histogram_quantile(0.9, xiaozhi_turns_total_bucket)", "no metric xiaozhi_turns_total_bucket"),
    ],
)
def test_the_check_itself_sees_mistakes(expression: str, fault: str) -> None:
    assert series.faults(expression) == [fault]


def test_the_check_itself_lets_right_things_pass() -> None:
    expression = (
        'sum by (job, le) (rate(xiaozhi_turn_stage_seconds_bucket{job="a", '
        'stage=~"xiaozhi_no|up"}[5m])) > up{instance="a"}'
    )

    assert series.faults(expression) == []
    assert series.names_in(expression) == {"xiaozhi_turn_stage_seconds_bucket", "up"}


def test_promtool_would_notice(tmp_path: Path) -> None:
    promtool = need("promtool")
    broken = tmp_path / "broken.yml"
    broken.write_text("groups: [{name: a, rules: [{alert: A, expr: 'sum(('}]}]", encoding="utf-8")

    assert run(promtool, "check", "rules", str(broken)).returncode != 0
