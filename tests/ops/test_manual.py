"""docs/operations.md tells the truth: defaults, files, variables and metrics are those of the code."""

from __future__ import annotations

import re

import pytest

from tests.ops import series
from tests.ops.programs import ROOT
from xiaozhi.runtime.resilience import BreakerOptions
from xiaozhi.runtime.watchdog import ShedPolicy
from xiaozhi.settings import Settings

MANUAL = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
LIMITS = re.findall(
    r"^\| `([a-z_.]+)` \| ([\d.]+) \|", MANUAL.partition("\n## Limits\n")[2].partition("\n## ")[0], re.MULTILINE
)


@pytest.mark.parametrize("key,told", LIMITS)
def test_a_limit_is_what_it_says(key: str, told: str) -> None:
    value: object = Settings()
    for part in key.split("."):
        value = getattr(value, part)

    assert value == float(told)


def test_there_are_limits() -> None:
    assert len(LIMITS) > 15


def test_files_that_are_named_are_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", MANUAL)

    assert linked
    assert [link for link in linked if not (ROOT / "docs" / link).exists()] == []


def test_variables_are_those_of_the_file() -> None:
    supervisor = (ROOT / "supervisord.conf").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(XIAOZHI_[A-Z_]+)` \| ([^|]*?) \|", MANUAL, re.MULTILINE)

    assert {name for name, _ in rows} == set(re.findall(r"^;   (XIAOZHI_[A-Z_]+) ", supervisor, re.MULTILINE))
    for name, default in rows:
        assert name == "XIAOZHI_WORKERS" or f"{name}:-{default.strip('`')}}}" in supervisor


def test_metrics_that_are_named_exist() -> None:
    named = {name.rstrip("_") for name in re.findall(r"`?\b(xiaozhi_[a-z_]+)", MANUAL)}

    assert named
    assert [name for name in named if not any(known.startswith(name) for known in series.exported())] == []


def test_how_long_a_stop_is_waited_for() -> None:
    [waited] = re.findall(r"^stopwaitsecs=(\d+)", (ROOT / "supervisord.conf").read_text(encoding="utf-8"), re.MULTILINE)

    assert f"supervisord waits for {waited}\n" in MANUAL
    assert f"(`--stop-timeout {waited}`" in MANUAL


def test_when_load_is_shed() -> None:
    policy = ShedPolicy()

    assert (
        f"hub lag above {policy.turns_lag_s} s, or the inference queue {policy.turns_backlog:.0%}".replace("%", " %")
        in MANUAL
    )
    assert (
        f"hub lag above {policy.connections_lag_s} s, or the queue {policy.connections_backlog:.0%}".replace("%", " %")
        in MANUAL
    )
    assert f"for {policy.calm_s:.0f} s |" in MANUAL


def test_when_a_breaker_opens() -> None:
    options = BreakerOptions()

    assert options.error_rate == 0.5
    assert f"nobody waits for it for {options.open_for:.0f} s" in MANUAL
