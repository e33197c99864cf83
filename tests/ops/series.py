"""What the server really exports, and what an expression of PromQL asks for: so that no alert waits for a metric nobody
has."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from tests.ops.programs import ROOT
from xiaozhi.runtime import tasks
from xiaozhi.runtime.connections import ConnectionRegistry
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.inference import ClassCounts
from xiaozhi.runtime.limits import Admission, AdmissionLimits
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.readings import HistoryFigures
from xiaozhi.runtime.resilience import Guard, Window
from xiaozhi.runtime.sidecar import Sidecar
from xiaozhi.runtime.watchdog import LoopHealth
from xiaozhi.tools.mcp_endpoint import McpEndpoint

TARGET_LABELS = frozenset({"job", "instance", "worker"})
"""What Prometheus, or the server's worker number, puts on every series."""

_NAME = re.compile(r"\b(?:xiaozhi|process)_[a-z0-9_]+|\bup\b")
_SELECTOR = re.compile(r"\b((?:xiaozhi|process)_[a-z0-9_]+|up)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_STRING = re.compile(r'"[^"]*"')


class _Pool:
    counts: Mapping[str, ClassCounts] = {"vad": ClassCounts()}
    workers = 2
    queue_size = 256


class _Mqtt:
    connected = places = channels = 0
    refused: Mapping[str, int] = {}
    ended: Mapping[str, int] = {}
    messages: Mapping[str, int] = {"received": 0}
    datagrams: Mapping[str, int] = {"unknown": 0}


@functools.cache
def exported() -> dict[str, frozenset[str]]:
    """Every sample name the server can export, with its labels."""
    metrics = Metrics(version="0")
    metrics.watch_pool(_Pool())
    metrics.watch_admission(Admission(AdmissionLimits()))
    metrics.watch_guesses(Guesses())
    metrics.watch_mqtt(_Mqtt())
    metrics.watch_connections(ConnectionRegistry())
    metrics.watch_vendors(lambda: [Guard("LLM.acme", window=Window("LLM.acme", 1), limitations=lambda: ["tools"])])
    metrics.watch_tool_sources(lambda: [McpEndpoint("ws://127.0.0.1/call/")], Sidecar())
    metrics.watch_history(lambda: HistoryFigures(0, {"turn": 0}, {"store": 0}, {"disk": 0}, {"disk": False}, 0))
    metrics.watch_process()
    metrics.watch_loops(lambda: [LoopHealth("sweeper", 0.0, 5.0)])
    tasks.spawn("nothing", lambda: None).join()  # so that there is a task to count
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            _touch(metric)
    names = {"up": frozenset[str]()}
    for family in text_string_to_metric_families(metrics.render()[1].decode()):
        for sample in family.samples:
            names[sample.name] = names.get(sample.name, frozenset()) | frozenset(sample.labels)
    return names | dict.fromkeys(_watched(), frozenset[str]())


def faults(expression: str) -> list[str]:
    """Names and labels in an expression that the server does not export."""
    bare = _STRING.sub('""', expression)
    known = exported()
    found = [f"no metric {name}" for name in sorted(set(_NAME.findall(bare)) - set(known))]
    for name, matchers in _SELECTOR.findall(bare):
        found += [
            f"{name} has no label {label}"
            for label in _MATCHER.findall(matchers)
            if label not in known.get(name, ()) | TARGET_LABELS
        ]
    labels = TARGET_LABELS.union(*(known.get(name, frozenset()) for name in _NAME.findall(bare)))
    for group in _GROUPING.findall(bare):
        found += [f"nothing here has a label {label}" for label in re.findall(r"[a-z_]+", group) if label not in labels]
    return found


def names_in(expression: str) -> set[str]:
    """Metrics that an expression asks for."""
    return set(_NAME.findall(_STRING.sub('""', expression)))


def families() -> Counter[str]:
    """Names without the suffixes of histograms, for asking whether a metric is shown at all."""
    return Counter(re.sub(r"_(bucket|sum|count)$", "", name) for name in exported())


def _touch(metric: Any) -> None:
    """Bring forth one series: a metric with labels exports none before the first of them is named."""
    for count in range(1, 5):
        try:
            metric.labels(*["x"] * count)
        except ValueError:
            continue


def _watched() -> set[str]:
    """Gauges that the composition root declares by `metrics.watch("name", ...)`."""
    found = set()
    for path in sorted((ROOT / "xiaozhi" / "app").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "watch"
                and node.args
            ):
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    found.add(name.value)
    return found
