"""Too much to do: first new turns are refused, then new connections, and both come back; said in metrics, log and
/readyz."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.simulator.wire import UpgradeRefused
from tests.lifecycle.house import CHAT, TTS, House, Script, ask
from tests.subtitles import shown
from tests.waiting import PATIENCE_S
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.watchdog import Shed, ShedPolicy

SORRY = "Too much to do."


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"system_error_response": SORRY}


@pytest.fixture
def watched(house: House) -> Iterator[House]:
    """A house whose watchdog looks only when the test says so, and has the usual limits."""
    house.server.watchdog.stop()
    usual = ShedPolicy()
    house.shed_policy.turns_lag_s = usual.turns_lag_s
    house.shed_policy.connections_lag_s = usual.connections_lag_s
    yield house
    house.overload(0.0, 20, time.monotonic() + 1_000)
    assert house.shed_policy.level is Shed.NOTHING


def test_in_two_steps_and_back(watched: House) -> None:
    house = watched
    device = house.device()
    begin = time.monotonic()
    with capture_logs() as lines:
        now = house.overload(0.4, 3, begin)
    assert house.measured("xiaozhi_shedding") == 1
    ready = house.ask_http("/readyz")
    assert ready.status == 503
    assert ready.json["reasons"][0].startswith("overloaded, refusing turns (hub lag ")
    assert [(line["refusing"], line["log_level"]) for line in lines if line["event"] == "load shedding"] == [
        ("turns", "warning")
    ]
    assert ask(device, "are you busy").sentences == [shown(SORRY)], "an apology, not silence"
    assert house.vendor.counts.get(CHAT, 0) == 0
    newcomer = house.device()
    newcomer.ping()

    with capture_logs() as lines:
        now = house.overload(1.5, 3, now)
    assert house.measured("xiaozhi_shedding") == 2
    assert house.ask_http("/readyz").json["reasons"][0].startswith("overloaded, refusing connections")
    assert [line["refusing"] for line in lines if line["event"] == "load shedding"] == ["connections"]
    with pytest.raises(UpgradeRefused) as refusal:
        house.device()
    assert refusal.value.status == 503
    assert int(refusal.value.headers["retry-after"]) >= 1
    assert house.ask_http("/healthz").status == 200
    assert device.closed is None, "those who are in stay in"

    with capture_logs() as lines:
        house.overload(0.0, 20, now)
    assert [line["refusing"] for line in lines if line["event"] == "load shedding"] == ["turns", "nothing"]
    assert house.measured("xiaozhi_shedding") == 0
    assert house.ask_http("/readyz").status == 200
    assert ask(house.device(), "are you well").sentences == ["Fine"]
    assert ask(device, "and you").sentences == ["Fine"]
    assert house.outcomes()["overloaded"] == 1


def test_an_answer_that_has_begun_is_finished(watched: House) -> None:
    house = watched
    device = house.device()
    house.vendor.script(CHAT, Script(answer="I was here before."))
    house.vendor.script(TTS, Script(answer=("wav", 0.5)))
    device.detect("tell me something")
    device.wait_until(lambda: device.replies.frames_received >= 2, PATIENCE_S, "sound")

    house.overload(2.0, 5, time.monotonic())

    assert house.measured("xiaozhi_shedding") == 2
    answer = device.collect_answer()
    assert answer.sentences == ["I was here before"]
    assert len(answer.frames) >= 8


def test_a_full_inference_queue_counts_like_lag(watched: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house = watched
    monkeypatch.setattr(InferencePool, "queued", house.server.inference.queue_size * 9 // 10)

    house.server.watchdog.check(0.0, time.monotonic())

    monkeypatch.undo()
    assert house.server.watchdog.shedding is Shed.TURNS
    assert house.ask_http("/readyz").status == 503
