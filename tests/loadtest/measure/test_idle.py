"""What one idle device costs, from the figures of a run."""

from __future__ import annotations

from loadtest.measure.idle import line, per_connection
from tests.loadtest.figures import a_step


def test_costs_are_divided_by_devices():
    step = a_step(1_000) | {"greenlets_before": 10.0, "greenlets_during": 1_010.0}

    assert per_connection(step) == {"kb": 10.7, "greenlets": 1.0, "cpu_ms_per_s": 0.5}
    assert "1,000 idle devices: 10.7 KB, 1 greenlet(s)" in line(step)


def test_a_server_without_metrics_has_unknown_greenlets():
    step = a_step(100) | {"greenlets_before": None, "greenlets_during": None}

    assert per_connection(step)["greenlets"] is None
    assert "? greenlet(s)" in line(step)
