"""What becomes of what sessions report."""

from __future__ import annotations

from structlog.testing import capture_logs

from xiaozhi.app.telemetry import Observer
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.tools.base import Action


def test_a_tool_call_is_counted_timed_and_logged() -> None:
    metrics = Metrics()
    observer = Observer(metrics)

    with capture_logs() as lines:
        observer.tool_called("mcp:shop", 0.25, Action.SPEAK)
        observer.tool_called("mcp:shop", 0.5, Action.ERROR)

    read = metrics.registry.get_sample_value
    assert read("xiaozhi_tool_calls_total", {"source": "mcp:shop", "action": "speak"}) == 1
    assert read("xiaozhi_tool_calls_total", {"source": "mcp:shop", "action": "error"}) == 1
    assert read("xiaozhi_tool_call_duration_seconds_sum", {"source": "mcp:shop"}) == 0.75
    assert [(line["event"], line["source"], line["outcome"]) for line in lines] == [
        ("tool call", "mcp:shop", "speak"),
        ("tool call", "mcp:shop", "error"),
    ]
