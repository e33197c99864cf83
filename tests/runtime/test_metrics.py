"""What a scrape says: conventions, bounded labels, and values read from the objects that count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.clock import FakeClock
from tests.waiting import PATIENCE_S
from xiaozhi.errors import Overloaded, VendorUnavailable
from xiaozhi.runtime import tasks
from xiaozhi.runtime.connections import Held, SweepAction, Used, Vitals
from xiaozhi.runtime.inference import ClassCounts
from xiaozhi.runtime.limits import Admission, AdmissionLimits
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.readings import REFUSALS, SWEEPS, ConnectionReadings
from xiaozhi.runtime.resilience import Breaker, Guard, Window


def scrape(metrics: Metrics) -> dict[str, Metric]:
    """Families by name, through the official parser."""
    content_type, body = metrics.render()
    assert content_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The value of one sample. Raises StopIteration when there is none."""
    samples = [sample for family in scrape(metrics).values() for sample in family.samples]
    return next(sample.value for sample in samples if sample.name == name and sample.labels == labels)


@dataclass
class FakePool:
    """What metrics read of an inference pool."""

    counts: dict[str, ClassCounts] = field(default_factory=dict)
    workers: int = 2
    queue_size: int = 256


@dataclass
class FakeConnections:
    """What metrics read of the live connections."""

    actions: Counter[str] = field(default_factory=Counter)
    loads: list[tuple[int, int]] = field(default_factory=list)
    used: Used = field(default_factory=Used)

    @property
    def held(self) -> Held:
        """Of everybody."""
        return Held().and_of(
            [Vitals(0.0, True, 1, 1, 0.0, memory_bytes=memory, queue_depth=depth) for memory, depth in self.loads]
        )


def test_every_scrape_can_be_parsed_and_follows_the_naming_conventions() -> None:
    metrics = Metrics(worker="1", version="1.2.3")
    metrics.watch("xiaozhi_connections", "Devices connected now.", lambda: 3)
    metrics.watch_process()

    families = scrape(metrics)

    assert len(families) > 20
    for name, family in families.items():
        assert family.documentation
        assert name.startswith(("xiaozhi_", "process_"))
        assert not name.endswith(("_ms", "_milliseconds", "_kb", "_mb"))
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_size"))


def test_process_measures_of_the_issue_are_there() -> None:
    metrics = Metrics()
    metrics.watch_process()

    names = set(scrape(metrics))

    assert {"process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_cpu_seconds"} <= names
    assert {
        "xiaozhi_native_threads",
        "xiaozhi_greenlets",
        "xiaozhi_context_switches",
        "xiaozhi_gc_collections",
    } <= names


def test_every_series_bears_the_worker_when_there_are_several() -> None:
    metrics = Metrics(worker="7", version="1.2.3")
    metrics.turns.labels("answered").inc()
    metrics.turn_stage.labels("heard").observe(0.3)

    samples = [sample for family in scrape(metrics).values() for sample in family.samples]

    assert samples
    assert {sample.labels.get("worker") for sample in samples} == {"7"}
    assert value(metrics, "xiaozhi_turns_total", worker="7", outcome="answered") == 1
    assert value(metrics, "xiaozhi_build_info", worker="7", version="1.2.3") == 1


def test_without_a_name_there_is_no_worker_label() -> None:
    samples = [sample for family in scrape(Metrics()).values() for sample in family.samples]

    assert all("worker" not in sample.labels for sample in samples)


def test_no_series_for_creation_times() -> None:
    metrics = Metrics()
    metrics.turns.labels("answered").inc()

    assert b"_created" not in metrics.render()[1]


def test_a_scrape_lets_others_run_in_between() -> None:
    metrics = Metrics()
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    other = tasks.spawn("other", count)
    metrics.render()
    other.kill()

    assert turns > 10


def test_frames_are_counted_without_a_lock() -> None:
    metrics = Metrics()
    metrics.frames.sent += 5
    metrics.frames.received += 7

    assert value(metrics, "xiaozhi_frames_sent_total") == 5
    assert value(metrics, "xiaozhi_frames_received_total") == 7


def test_close_codes_that_a_peer_invents_make_no_new_series() -> None:
    metrics = Metrics()
    for code in (1000, *range(3000, 5000)):
        metrics.connection_ended(code, 12.0)

    closed = scrape(metrics)["xiaozhi_connections_closed"].samples

    assert {sample.labels["code"]: sample.value for sample in closed} == {"1000": 1, "other": 2000}
    assert value(metrics, "xiaozhi_connection_duration_seconds_count") == 2001


def test_the_pool_by_class() -> None:
    metrics = Metrics()
    metrics.watch_pool(
        FakePool(
            {"vad": ClassCounts(active=1, queued=4, done=9, refused=2, late=3, waited_s=0.5, worked_s=1.5)},
            workers=3,
            queue_size=9,
        )
    )

    assert value(metrics, "xiaozhi_pool_jobs", **{"class": "vad", "state": "queued"}) == 4
    assert value(metrics, "xiaozhi_pool_jobs_done_total", **{"class": "vad"}) == 9
    assert value(metrics, "xiaozhi_pool_wait_seconds_total", **{"class": "vad"}) == 0.5
    assert value(metrics, "xiaozhi_pool_workers") == 3
    assert value(metrics, "xiaozhi_pool_queue_limit") == 9


def test_refusals_by_cause_from_the_first_scrape_on() -> None:
    metrics = Metrics()
    admission = Admission(AdmissionLimits(max_connections=1), clock=FakeClock())
    metrics.watch_admission(admission)
    assert value(metrics, "xiaozhi_connections_refused_total", cause="places") == 0

    admission.enter("a", "10.0.0.1")
    with pytest.raises(Overloaded):
        admission.enter("b", "10.0.0.1")

    assert value(metrics, "xiaozhi_connections_refused_total", cause="places") == 1
    assert value(metrics, "xiaozhi_connections_refused_total", cause="address_rate") == 0


def test_the_causes_known_beforehand_are_those_of_the_door() -> None:
    causes: set[str] = set()

    def provoke(limits: AdmissionLimits, visit: Callable[[Admission], object]) -> None:
        door = Admission(limits, clock=FakeClock())
        with pytest.raises(Overloaded):
            visit(door)
        causes.update(door.refused)

    provoke(AdmissionLimits(max_connections=1), lambda door: [door.enter("a", "1"), door.enter("b", "2")])
    provoke(AdmissionLimits(), lambda door: [door.enter("a", "1") for _ in range(9)])
    provoke(AdmissionLimits(per_ip=1), lambda door: [door.enter("a", "1"), door.enter("b", "1")])
    provoke(
        AdmissionLimits(max_connections=1, handshakes_per_second=1),
        lambda door: [door.check_handshake(str(ip)) for ip in range(3)],
    )
    provoke(
        AdmissionLimits(max_connections=1, ip_handshakes_per_second=1),
        lambda door: [door.check_handshake("1") for _ in range(3)],
    )
    provoke(AdmissionLimits(), lambda door: [door.shut("server"), door.check_handshake("1")])

    assert causes == set(REFUSALS)


def test_the_sweepers_work_and_what_sessions_hold() -> None:
    connections = FakeConnections(Counter({"close": 2}), loads=[(100, 3), (50, 9)])

    samples = {sample.name: sample for family in ConnectionReadings(connections).collect() for sample in family.samples}
    actions = {
        sample.labels["action"]: sample.value
        for family in ConnectionReadings(connections).collect()
        for sample in family.samples
        if sample.name == "xiaozhi_sweeper_actions_total"
    }

    assert samples["xiaozhi_sessions_memory_bytes"].value == 150
    assert samples["xiaozhi_sessions_queued"].value == 12
    assert samples["xiaozhi_sessions_queued_most"].value == 9
    assert actions == {"replaced": 0, "ping": 0, "slow": 0, "trim": 0, "close": 2, "abort": 0}


def test_the_actions_known_beforehand_are_those_of_the_sweeper() -> None:
    assert set(SWEEPS) == {"replaced"} | {action.value for action in SweepAction} - {SweepAction.KEEP.value}


def test_nobody_connected_is_a_scrape_too() -> None:
    metrics = Metrics()
    metrics.watch_connections(FakeConnections())

    assert value(metrics, "xiaozhi_sessions_queued_most") == 0


def test_windows_of_the_vendors_in_force_and_no_longer_of_those_before() -> None:
    metrics = Metrics()
    window = Window("LLM.acme", 1, queue_size=0)
    guards = [Guard("LLM.acme", window=window), Guard("VAD.none")]
    metrics.watch_vendors(lambda: guards)
    window.enter(0.0)
    with pytest.raises(Overloaded):
        window.enter(0.0)

    assert value(metrics, "xiaozhi_vendor_active", kind="llm", vendor="acme") == 1
    assert value(metrics, "xiaozhi_vendor_active_limit", kind="llm", vendor="acme") == 1
    assert value(metrics, "xiaozhi_vendor_window_refused_total", kind="llm", vendor="acme") == 1

    guards[:] = [Guard("LLM.other", window=Window("LLM.other", 3))]
    waiting = scrape(metrics)["xiaozhi_vendor_waiting"].samples
    assert [sample.labels["vendor"] for sample in waiting] == ["other"]


def test_guards_of_one_name_are_one_series() -> None:
    """The same block in two configurations, or with devices' own keys; two samples of one name are no exposition."""
    broken, limitless = Breaker("LLM.acme"), Window("LLM.acme", 0)
    for _ in range(broken.options.min_volume):
        broken.record(broken.admit(), False)
    windows = [Window("LLM.acme", 2), Window("LLM.acme", 3)]
    guards = [Guard("LLM.acme", window=windows[0]), Guard("LLM.acme", window=windows[1], breaker=broken)]
    guards += [Guard("LLM.other", window=windows[0]), Guard("LLM.other", window=limitless), Guard("TTS.plain")]
    metrics = Metrics()
    metrics.watch_vendors(lambda: guards)
    for window in windows:
        window.enter(0.0)

    assert len(scrape(metrics)["xiaozhi_vendor_active"].samples) == 2
    assert value(metrics, "xiaozhi_vendor_active", kind="llm", vendor="acme") == 2
    assert value(metrics, "xiaozhi_vendor_active_limit", kind="llm", vendor="acme") == 5
    assert value(metrics, "xiaozhi_vendor_breaker_state", kind="llm", vendor="acme") == 2
    assert value(metrics, "xiaozhi_vendor_active_limit", kind="llm", vendor="other") == 0, "no limit"
    assert value(metrics, "xiaozhi_vendor_breaker_state", kind="tts", vendor="plain") == 0


def test_what_vendors_cannot_do_is_shown_as_long_as_they_are_in_force() -> None:
    metrics = Metrics()
    found = ["tools", "context"]
    guards = [
        Guard("LLM.acme", limitations=lambda: found),
        Guard("LLM.acme", limitations=lambda: found),
        Guard("vad:x"),
    ]
    metrics.watch_vendors(lambda: guards)

    shown = scrape(metrics)["xiaozhi_vendor_limitations"].samples
    assert [(each.labels["vendor"], each.labels["limitation"], each.value) for each in shown] == [
        ("acme", "context", 1),
        ("acme", "tools", 1),
    ]
    guards.clear()
    assert scrape(metrics)["xiaozhi_vendor_limitations"].samples == []


def test_greenlets_are_counted_while_they_live_and_when_they_fail() -> None:
    metrics = Metrics()
    metrics.watch_process()
    live = value(metrics, "xiaozhi_greenlets")
    failures = value(metrics, "xiaozhi_greenlet_failures_total")
    group = tasks.Tasks()

    for _ in range(3):
        group.spawn("wait", gevent.sleep, 60)
    gevent.sleep(0)
    assert value(metrics, "xiaozhi_greenlets") == live + 3
    group.kill()
    assert value(metrics, "xiaozhi_greenlets") == live

    def fail() -> None:
        raise VendorUnavailable("acme", "down")

    group.spawn("fail", fail)
    assert group.join(PATIENCE_S)
    assert value(metrics, "xiaozhi_greenlet_failures_total") == failures + 1


def test_a_greenlet_killed_before_it_began_was_never_counted() -> None:
    before = tasks.census.live
    later = tasks.spawn_later(60, "later", gevent.sleep, 0)

    later.kill()

    assert tasks.census.live == before


@dataclass
class FakeSource:
    """What metrics read of a connection with tools behind it."""

    name: str
    up: bool
    restarts: int


@dataclass
class FakeSidecar:
    """What metrics read of the sidecar."""

    pid: int | None = None
    restarts: int = 3
    calls: int = 2
    resident_bytes: int = 70_000_000


def test_sources_of_tools_and_the_sidecar() -> None:
    sources = [
        FakeSource("mcp:shop", True, 1),
        FakeSource("mcp_endpoint", False, 5),
        FakeSource("mcp_endpoint", True, 2),
    ]
    sidecar = FakeSidecar()
    metrics = Metrics()
    metrics.watch_tool_sources(lambda: sources, sidecar)

    assert value(metrics, "xiaozhi_tool_sources", source="mcp_endpoint") == 2
    assert value(metrics, "xiaozhi_tool_sources_up", source="mcp_endpoint") == 1
    assert value(metrics, "xiaozhi_tool_sources_lost", source="mcp_endpoint") == 7
    assert value(metrics, "xiaozhi_tool_sources_up", source="mcp:shop") == 1
    assert value(metrics, "xiaozhi_sidecar_up") == 0
    assert value(metrics, "xiaozhi_sidecar_restarts_total") == 3
    assert value(metrics, "xiaozhi_sidecar_calls") == 2
    assert value(metrics, "xiaozhi_sidecar_resident_bytes") == 70_000_000
    sidecar.pid = 1
    assert value(metrics, "xiaozhi_sidecar_up") == 1
