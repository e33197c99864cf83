"""The sweeper on real connections, with time that is told: heartbeat, idle and dead devices, budgets; and what if the
sweeper dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
from tests.lifecycle.house import CHAT, TTS, House, Script, ask
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app.gauges import PULSE_SECONDS
from xiaozhi.runtime.connections import Policy
from xiaozhi.session.parts import NO_HELLO

NO_RULES = Policy(
    idle_timeout=0,
    ping_interval=0,
    ping_timeout=0,
    closing_timeout=0,
    max_memory_bytes=0,
    max_queue_depth=0,
)
STURDY, FRAGILE = "sturdy-board/1.8.0", "fragile-board/1.8.0"


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"enable_websocket_ping": True, "boards": {"fragile-board": {"ping": False}}}


@pytest.fixture(autouse=True)
def _by_hand(house: House) -> Iterator[None]:
    """Nobody sweeps but the test."""
    house.server.connections.stop()
    policy = house.server.connections.policy
    house.server.connections.actions.clear()
    yield
    house.server.connections.stop()
    house.server.connections.policy = policy


def sweep(house: House, after_s: float) -> None:
    """Sweep as if so much time had passed since now."""
    house.server.connections.sweep(time.monotonic() + after_s)


def be_seen(house: House) -> None:
    """What has been said so far was said now."""
    policy, house.server.connections.policy = house.server.connections.policy, NO_RULES
    sweep(house, 0)
    house.server.connections.policy = policy


def rules(house: House, **changes: float) -> None:
    """Only these rules hold."""
    house.server.connections.policy = replace(NO_RULES, **changes)  # type: ignore[arg-type]
    be_seen(house)


def test_a_heartbeat_for_boards_that_can_bear_it(house: House) -> None:
    sturdy, fragile = house.device(headers={"User-Agent": STURDY}), house.device(headers={"User-Agent": FRAGILE})
    pings, none = sturdy.pings, fragile.pings
    rules(house, ping_interval=30.0, ping_timeout=90.0)

    sweep(house, 29)
    sweep(house, 31)

    wait_for(lambda: len(pings) == 1, "the ping")
    wait_for(lambda: house.server.connections.members()[0].vitals.last_heard > pings[0], "the pong")
    fragile.ping()
    assert not none
    assert house.server.connections.actions == {"ping": 1}


def test_who_answers_no_ping_for_90_s_is_gone(house: House) -> None:
    device, fragile = house.device(headers={"User-Agent": STURDY}), house.device(headers={"User-Agent": FRAGILE})
    device.stop_reading()
    rules(house, ping_interval=30.0, ping_timeout=90.0)

    for after_s in (31, 61, 89):
        sweep(house, after_s)
    assert len(house.server.connections) == 2
    sweep(house, 92)

    wait_for(lambda: len(house.server.connections) == 1, "the end of the connection")
    assert house.server.connections.actions == {"ping": 2, "abort": 1}
    assert ask(fragile, "are you there").sentences == ["Fine"]


def test_an_idle_connection_is_closed(house: House) -> None:
    device = house.device()
    rules(house, idle_timeout=300.0)

    sweep(house, 299)
    assert device.closed is None
    sweep(house, 302)

    assert device.wait_closed() == (1000, "idle")


def test_who_talks_without_a_hello_has_to_go_and_who_only_waits_has_not(house: House) -> None:
    silent = SimulatedDevice(house.url, device_id="02:00:00:99:00:01").connect()
    talking = SimulatedDevice(house.url, device_id="02:00:00:99:00:02").connect()
    try:
        rules(house)
        talking.listen_start("auto")
        for device in (silent, talking):
            device.ping()
        sweep(house, 11)
        assert talking.wait_closed() == (1008, NO_HELLO)
        silent.hello()
        sweep(house, 11)
        silent.ping()
    finally:
        silent.close()
        talking.close()


def test_a_connection_that_does_not_end_is_dropped(house: House) -> None:
    device = house.device()
    device.stop_reading()
    rules(house, closing_timeout=10.0)
    house.server.connections.of_device(device.device_id)[0].close(1000, "go")

    sweep(house, 5)
    assert "abort" not in house.server.connections.actions
    sweep(house, 11)

    assert house.server.connections.actions == {"abort": 1}
    wait_for(lambda: len(house.server.connections) == 0, "the end of the zombie")


def test_over_budget_it_gives_back_first_and_goes_if_that_is_not_enough(house: House) -> None:
    """History and buffers are trimmed; only who is over the budget even then is closed, with "try again later"."""
    device = house.device()
    for number in range(14):
        ask(device, f"question {number} {'x' * 200}")
    session_bytes = house.server.connections.members()[0].vitals.memory_bytes
    assert session_bytes > 3_000
    rules(house, max_memory_bytes=3_000, trim_grace=5.0)

    sweep(house, 0)

    trimmed = house.server.connections.members()[0].vitals.memory_bytes
    assert trimmed < session_bytes
    assert device.closed is None
    house.server.connections.policy = replace(house.server.connections.policy, max_memory_bytes=trimmed - 1)
    sweep(house, 4)
    assert device.closed is None, "it is given time"
    sweep(house, 6)
    assert device.wait_closed() == (1013, "over budget")
    assert house.server.connections.actions == {"trim": 1, "close": 1}


def test_what_it_does_is_measured(house: House) -> None:
    house.device()
    rules(house, idle_timeout=300.0)
    sweep(house, 302)

    assert house.measured("xiaozhi_sweeper_actions_total", action="close") == 1
    assert house.measured("xiaozhi_sessions_memory_bytes") >= 0
    assert 0 <= house.measured("xiaozhi_loop_silent_seconds", loop="sweeper") < 60


@pytest.mark.leaks("the loops that are replaced belong to the server of the module, which outlives the test")
@pytest.mark.parametrize(("fate", "later"), [("dead", 1_000), ("stuck", 2_000)])
def test_a_sweeper_that_does_not_sweep_is_replaced(
    house: House, fate: str, later: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections, watchdog = house.server.connections, house.server.watchdog
    connections.start()
    monkeypatch.setattr(connections, "interval", 0.01)
    first = connections.sweeper
    assert first is not None
    if fate == "dead":
        first.kill()
    restarts = max(0.0, house.measured("xiaozhi_restarted_loops_total", loop="sweeper"))

    with capture_logs() as lines:
        watchdog.check(0.0, connections.swept_at + PULSE_SECONDS - 1)
        assert connections.sweeper is first
        watchdog.check(0.0, connections.swept_at + later)  # it is revived only once in a while

    assert connections.sweeper is not first
    assert house.measured("xiaozhi_restarted_loops_total", loop="sweeper") == restarts + 1
    # The time that was made up is late for the other loops, too.
    revived = [line["loop"] for line in lines if line["event"] == "loop had no pulse, revived"]
    assert revived.count("sweeper") == 1
    gevent.sleep(0)
    assert first.dead
    swept = connections.swept_at
    wait_for(lambda: connections.swept_at > swept, "the next sweep")


def test_silence_is_noticed_while_everything_else_goes_on(house: House) -> None:
    """The session's own clock (goodbye after silence) is driven by the sweep too: an answer under way is not idle."""
    device = house.device()
    house.vendor.script(CHAT, Script(answer="A long story."))
    house.vendor.script(TTS, Script(answer=("wav", 0.5)))
    rules(house, idle_timeout=300.0)
    device.detect("tell me a story")
    device.wait_until(lambda: device.replies.frames_received >= 2, PATIENCE_S, "sound")

    sweep(house, 1)

    assert device.collect_answer().sentences == ["A long story"]
