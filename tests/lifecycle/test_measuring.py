"""What operators see of some conversations: every family of metrics over HTTP, the periodic sample, one line and one
trace per turn."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from gevent.event import Event
from prometheus_client.metrics_core import Metric
from structlog.testing import capture_logs

from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import speak_to, tool_call, utter, wait_for_sound
from tests.lifecycle.house import CHAT, QUARTER, TTS, House, Script, ask, open_house
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app import server
from xiaozhi.providers.vad.silero import SileroStream
from xiaozhi.runtime import logs
from xiaozhi.runtime.tracing import Stage
from xiaozhi.session.turn_record import SHARES

SAID, ANSWER = "what is up", "Nothing much, my dear friend."


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"conversation": {"speculative": "llm"}, "VAD": {"Ears": {"min_silence_duration_ms": 800, "pause_ms": 100}}}


@pytest.fixture(scope="module")
def lived_in(house: House, question: Speech) -> House:
    """A house where something of everything has happened."""
    house.vendor.stand(TTS, QUARTER)
    house.vendor.stand(CHAT, Script(answer=ANSWER))
    device = house.device()
    for _ in range(2):
        utter(device, question, silence_ms=1_200)
        device.collect_answer()
    house.vendor.script(CHAT, Script(answer="A long story begins here."))
    house.vendor.script(TTS, Script(answer=("wav", 10.0)))
    device.detect("tell me a story")
    wait_for_sound(device, 5)
    device.abort()
    device.collect_answer()
    for _ in range(2):
        ask(device, "good enough to keep the breaker closed")
    house.impatient()
    house.vendor.script(CHAT, *[Script(status=500)] * 3)
    ask(device, "fail me")
    asked = house.vendor.counts[CHAT]
    utter(device, question, silence_ms=300)
    house.wait_for(CHAT, asked + 1)
    utter(device, question, start=False, silence_ms=1_200)
    device.collect_answer()
    device.close()
    house.device()
    wait_for(lambda: len(house.server.connections) == 1, "the first to be gone")
    return house


@pytest.fixture(scope="module")
def families(lived_in: House) -> dict[str, Metric]:
    """One scrape."""
    return lived_in.scrape()


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """One sample of a scrape; raises StopIteration when there is none."""
    samples = [sample for family in families.values() for sample in family.samples if sample.name == name]
    return next(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_connections_and_their_growth(families: dict[str, Metric]) -> None:
    assert value(families, "xiaozhi_connections") == 1
    assert value(families, "xiaozhi_connections_limit") == 500
    assert value(families, "xiaozhi_connections_opened_total") == 2
    assert value(families, "xiaozhi_connections_closed_total", code="1000") == 1
    assert value(families, "xiaozhi_connection_duration_seconds_count") == 1
    assert value(families, "xiaozhi_connections_refused_total", cause="places") == 0


def test_turns_by_outcome(families: dict[str, Metric]) -> None:
    assert value(families, "xiaozhi_turns_total", outcome="answered") == 5
    assert value(families, "xiaozhi_turns_total", outcome="interrupted") == 1
    assert value(families, "xiaozhi_turns_total", outcome="failed") == 1
    assert value(families, "xiaozhi_speculations_total", fate="used") >= 1
    assert value(families, "xiaozhi_speculations_total", fate="discarded") >= 1


@pytest.mark.parametrize("stage", ["released", "heard", "llm_first", "tts_first", "first_frame"])
def test_stages_from_the_end_of_speech_with_quantiles(families: dict[str, Metric], stage: str) -> None:
    count = value(families, "xiaozhi_turn_stage_seconds_count", stage=stage)
    buckets = [
        sample for sample in families["xiaozhi_turn_stage_seconds"].samples if sample.labels.get("stage") == stage
    ]
    bounds = [float(sample.labels["le"]) for sample in buckets if "le" in sample.labels]

    assert count >= 3
    assert len([bound for bound in bounds if bound <= 1.0]) >= 10, "fine enough for P50, P95 and P99"
    assert value(families, "xiaozhi_turn_stage_seconds_bucket", stage=stage, le="+Inf") == count


def test_frames_and_queues(families: dict[str, Metric]) -> None:
    assert value(families, "xiaozhi_frames_sent_total") >= 20
    assert value(families, "xiaozhi_frames_received_total") >= 50
    assert "xiaozhi_frame_lateness_seconds" in families
    assert value(families, "xiaozhi_sessions_queued") >= 0
    assert value(families, "xiaozhi_sessions_queued_most") >= 0
    assert "xiaozhi_dropped" in families


def test_the_inference_pool(families: dict[str, Metric]) -> None:
    assert value(families, "xiaozhi_pool_workers") >= 2
    assert value(families, "xiaozhi_pool_queue_limit") == 256
    assert value(families, "xiaozhi_pool_jobs_done_total", **{"class": "vad"}) >= 10
    assert value(families, "xiaozhi_pool_wait_seconds_total", **{"class": "vad"}) >= 0
    assert value(families, "xiaozhi_pool_jobs", **{"class": "vad", "state": "queued"}) == 0
    assert value(families, "xiaozhi_vad_batch_size_count") >= 10


@pytest.mark.parametrize("kind", ["asr", "llm", "tts"])
def test_every_vendor(families: dict[str, Metric], kind: str) -> None:
    labels = {"kind": kind, "vendor": "Vendor"}

    assert value(families, "xiaozhi_vendor_requests_total", result="ok", **labels) >= 2
    assert value(families, "xiaozhi_vendor_first_output_seconds_count", **labels) >= 2
    assert value(families, "xiaozhi_vendor_request_duration_seconds_count", **labels) >= 2
    for name in ("active", "waiting", "active_limit", "breaker_state", "window_refused_total"):
        assert value(families, f"xiaozhi_vendor_{name}", **labels) >= 0


def test_errors_of_a_vendor_by_kind(families: dict[str, Metric]) -> None:
    assert value(families, "xiaozhi_vendor_requests_total", kind="llm", vendor="Vendor", result="unavailable") == 3


def test_the_process(families: dict[str, Metric]) -> None:
    assert value(families, "xiaozhi_hub_lag_seconds_count") >= 1
    assert value(families, "xiaozhi_greenlets") >= 3
    assert value(families, "xiaozhi_native_threads") >= 3
    assert value(families, "process_resident_memory_bytes") > 10_000_000
    assert value(families, "process_open_fds") >= 5
    assert value(families, "xiaozhi_context_switches_total", kind="voluntary") > 0
    assert value(families, "xiaozhi_build_info") == 1
    assert value(families, "xiaozhi_shedding") == 0
    assert value(families, "xiaozhi_reloads_total", result="accepted") == 0


def test_no_label_comes_from_a_device(families: dict[str, Metric]) -> None:
    """Label sets are bounded by code and configuration."""
    names = {name for family in families.values() for sample in family.samples for name in sample.labels}
    values = {value for family in families.values() for sample in family.samples for value in sample.labels.values()}

    assert names <= {
        "name",  # of a task: a constant of the code
        "cause",
        "door",
        "class",
        "code",
        "fate",
        "finding",  # of a device's line
        "how",  # a reminder fell due
        "generation",
        "direction",
        "where",
        "kind",
        "le",
        "loop",
        "outcome",
        "queue",
        "result",
        "share",
        "sink",  # of the history
        "what",  # a turn, or its sound
        "stage",
        "state",
    } | {
        "action",
        "vendor",
        "version",
        "worker",
    }
    assert not any(value.startswith("02:00:") for value in values)


def test_threads_do_not_depend_on_devices(lived_in: House) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads()
    devices = [lived_in.device() for _ in range(40)]

    assert threads() == before
    assert lived_in.measured("xiaozhi_connections") >= 40
    for device in devices:
        device.close()


def test_what_a_full_queue_drops(house: House, question: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice detector that hangs: the newest sound is kept, the oldest goes, and somebody counts it."""
    device = house.device()
    utter(device, question, silence_ms=0)
    device.ping()
    go = Event()
    monkeypatch.setattr(SileroStream, "feed", lambda self, pcm: go.wait(PATIENCE_S) and [])
    device.send_silence(60 * 260, realtime=False)
    device.ping()

    assert house.measured("xiaozhi_dropped_total", queue="microphone") >= 40
    go.set()


# --- the sample -------------------------------------------------------------------------------------------------------


def test_the_periodic_sample(house: House) -> None:
    house.device()
    here = len(house.server.connections)
    watchdog = house.server.watchdog
    watchdog.sample_interval = 5.0
    try:
        with capture_logs() as lines:
            watchdog.check(0.0, time.monotonic())
    finally:
        watchdog.sample_interval = 0.0

    [sample] = [line for line in lines if line["event"] == "sample"]
    assert sample["connections"] == here
    assert sample["native_threads"] >= 3
    assert sample["rss_mb"] > 10
    assert {"voluntary_switches", "involuntary_switches", "fds", "greenlets", "pool_queued", "lag_ms"} <= set(sample)


# --- one line and one trace per turn ----------------------------------------------------------------------------------


class Notebook:
    """A tracer that keeps what it is told."""

    def __init__(self) -> None:
        self.turns: list[dict[str, Any]] = []

    def record(
        self,
        name: str,
        start_s: float,
        end_s: float,
        stages: Any,
        *,
        trace: str = "",
        attributes: Any = None,
        failure: str = "",
    ) -> None:
        self.turns.append(
            {
                "name": name,
                "seconds": end_s - start_s,
                "stages": list(stages),
                "trace": trace,
                "attributes": attributes,
                "failure": failure,
            }
        )

    def close(self, timeout: float = 2.0) -> None:
        self.turns.append({"name": "closed"})


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    made = Notebook()
    monkeypatch.setattr(server, "open_tracer", lambda **_: made)
    return made


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """A log on disk that tells everything but what was said."""
    logs.configure(level="DEBUG", directory=tmp_path, file_name="test.log")
    return tmp_path / "test.log"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The log, parsed."""
    return [orjson.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_trace_ties_everything_about_a_turn_together(
    tmp_path: Path, sounds: Sounds, question: Speech, notebook: Notebook, log_file: Path
) -> None:
    with open_house(tmp_path, sounds, {"Intent": {"function_call": {"functions": ["get_time"]}}}) as house:
        device = house.device()
        house.vendor.script(CHAT, Script(answer=[tool_call("get_time")]), Script(answer="It is late, my friend."))
        speak_to(device, question)
        ask(device, "and now")
        wait_for(lambda: len(notebook.turns) == 2, "the traces")
        device_id = device.device_id

    lines = lines_of(log_file)
    first, second = [line for line in lines if line["event"] == "turn"]
    assert first["trace"] != second["trace"]
    about_it = [line for line in lines if line.get("trace") == first["trace"]]
    told = {(line["event"], str(line.get("vendor", line.get("source", ""))).partition(".")[0]) for line in about_it}
    assert {("utterance", ""), ("heard", ""), ("turn", "")} <= told
    assert {("vendor call", "ASR"), ("vendor call", "LLM"), ("vendor call", "TTS")} <= told
    assert [line["outcome"] for line in about_it if line["event"] == "tool call"] == ["ask_llm"]
    assert {line["device"] for line in about_it} == {device_id}
    assert len({line["session"] for line in about_it}) == 1

    turn = notebook.turns[0]
    assert (turn["name"], turn["trace"], turn["failure"]) == ("turn", first["trace"], "")
    assert turn["attributes"] == {"device": device_id, "turn": 1, "outcome": "answered", "speculative": True}
    assert [stage.name for stage in turn["stages"]] == ["asr", "llm", "tts", "playback", "tool"]
    assert all(isinstance(stage, Stage) and stage.end_s >= stage.start_s for stage in turn["stages"])
    assert notebook.turns[-1] == {"name": "closed"}, "what is left is delivered when the server stops"


def test_one_line_per_turn_with_all_times_and_without_what_was_said(
    tmp_path: Path, sounds: Sounds, question: Speech, log_file: Path
) -> None:
    with open_house(tmp_path, sounds) as house:
        house.vendor.stand(CHAT, Script(answer=ANSWER))
        device = house.device(token="a-token-of-the-device")
        speak_to(device, question)
        house.vendor.script(CHAT, *[Script(status=401, error="no such key: test-key")] * 3)
        ask(device, "something very private")

    text = log_file.read_text(encoding="utf-8")
    for secret in (
        SAID,
        ANSWER,
        "something very private",
        "test-key",
        "a-token-of-the-device",
        "the-admin-token",
        "the-management-secret",
    ):
        assert secret not in text, secret
    good, bad = [line for line in lines_of(log_file) if line["event"] == "turn"]
    assert tuple(good["account"]) == SHARES
    assert good["wait_ms"] == sum(good["account"].values()) <= good["ended_ms"]
    assert "reason" not in good and "vendor" not in good, "what says nothing is left out"
    assert (good["outcome"], good["text"], good["reply"]) == (
        "answered",
        f"<{len(SAID)} chars>",
        f"<{len(ANSWER)} chars>",
    )
    assert (bad["outcome"], bad["reason"], bad["turn"]) == ("failed", "VendorRejected", 2)
    assert bad["vendor"]
    assert len(good["trace"]) == 32


def test_what_is_said_is_logged_where_the_owner_wants_it(tmp_path: Path, sounds: Sounds, question: Speech) -> None:
    with open_house(tmp_path, sounds) as house:
        house.change({"log": {"log_dir": str(tmp_path / "logs"), "content": True}})
        assert house.server.reload() == ()
        house.vendor.stand(CHAT, Script(answer=ANSWER))
        speak_to(house.device(token="a-token-of-the-device"), question)

    [turn] = [line for line in lines_of(tmp_path / "logs/server.log") if line["event"] == "turn"]
    assert (turn["text"], turn["reply"]) == (SAID, ANSWER)
    assert "test-key" not in (tmp_path / "logs/server.log").read_text(encoding="utf-8"), "secrets never"
