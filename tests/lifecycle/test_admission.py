"""Who is let in: places, addresses, rates, and what the others are told; a device that comes twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.inbox import DeviceClosed
from loadtest.simulator.wire import UpgradeRefused
from loadtest.vendors.sounds import Sounds
from tests.lifecycle.house import CHAT, TTS, House, Script, ask, open_house
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.runtime.watchdog import Shed

PLACES = 3


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"server": {"max_connections": PLACES}}


@pytest.fixture
def crowd(house: House) -> list[Any]:
    """As many devices as there are places."""
    return [house.device() for _ in range(PLACES)]


def refused(connect: Callable[[], object]) -> UpgradeRefused:
    """The refusal that `connect` meets."""
    with pytest.raises(UpgradeRefused) as caught:
        connect()
    return caught.value


def test_a_full_house_says_so_before_the_upgrade(house: House, crowd: list[Any]) -> None:
    before = house.measured("xiaozhi_connections_refused_total", cause="places")

    refusal = refused(house.device)

    assert refusal.status == 503
    assert int(refusal.headers["retry-after"]) >= 1
    assert house.measured("xiaozhi_connections_refused_total", cause="places") == before + 1
    ready = house.ask_http("/readyz")
    assert (ready.status, ready.json) == (503, {"ready": False, "reasons": ["all places are taken"]})
    assert house.ask_http("/healthz").status == 200, "full is not dead"


def test_those_who_are_in_do_not_notice_those_who_are_refused(house: House, crowd: list[Any]) -> None:
    for _ in range(5):
        refused(house.device)

    assert ask(crowd[0], "are you there").sentences == ["Fine"]


def test_a_place_that_was_given_back_can_be_taken(house: House, crowd: list[Any]) -> None:
    crowd[0].close()
    wait_for(lambda: house.server.admission.total < PLACES, "the place")

    assert ask(house.device(), "hello").sentences == ["Fine"]


def test_a_full_house_takes_a_device_back_whose_old_connection_is_dead(house: House, crowd: list[Any]) -> None:
    again = house.device(device_id=crowd[1].device_id)

    assert ask(again, "hello").sentences == ["Fine"]
    assert crowd[1].wait_closed() == (1000, "replaced")


def test_whoever_slipped_in_while_the_door_was_shut_gets_1013(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door let it in, and before its session could begin the server had too much to do."""
    monkeypatch.setattr(house.shed_policy, "level", Shed.CONNECTIONS)

    with pytest.raises(DeviceClosed) as caught:
        house.device()

    assert caught.value.code == 1013
    house.close_devices()
    wait_for(lambda: house.server.admission.total == 0, "its place")


def test_more_places_by_a_reload(house: House, crowd: list[Any]) -> None:
    house.change({"server": {"max_connections": PLACES + 1}})
    assert house.server.reload() == ()
    try:
        house.device()
        assert refused(house.device).status == 503
        assert house.measured("xiaozhi_connections_limit") == PLACES + 1
    finally:
        house.change({"server": {"max_connections": PLACES}})
        assert house.server.reload() == ()


def test_a_device_that_comes_again_goes_on_where_it_was(house: House) -> None:
    """The first connection ends in mid-answer; the dialogue does not."""
    first = house.device()
    ask(first, "my name is Ann")
    house.vendor.script(CHAT, Script(answer="Once upon a time."))
    house.vendor.script(TTS, Script(answer=("wav", 10.0)))
    first.detect("tell me a story")
    first.wait_until(lambda: first.replies.frames_received >= 3, PATIENCE_S, "sound")

    second = house.device(device_id=first.device_id)

    assert first.wait_closed() == (1000, "replaced")
    wait_for(lambda: len(house.server.connections) == 1, "the old connection to be gone")
    ask(second, "what is my name")
    said = house.said()
    assert ("user", "my name is Ann") in said
    assert said[-1] == ("user", "what is my name")
    assert house.measured("xiaozhi_sweeper_actions_total", action="replaced") >= 1


def test_one_address_and_its_places(tmp_path: Path, sounds: Sounds) -> None:
    with open_house(tmp_path, sounds, {"server": {"limits": {"per_ip": 2}}}) as house:
        house.device()
        house.device()

        assert refused(house.device).status == 503
        assert house.measured("xiaozhi_connections_refused_total", cause="address_places") == 1


def test_handshakes_that_come_too_fast(tmp_path: Path, sounds: Sounds) -> None:
    with open_house(
        tmp_path, sounds, {"server": {"max_connections": 2, "limits": {"handshakes_per_second": 1}}}
    ) as house:
        device = house.device()
        device.close()
        house.device(device_id=device.device_id)

        refusal = refused(lambda: house.device(device_id=device.device_id))

        assert refusal.status == 503
        assert int(refusal.headers["retry-after"]) >= 1
        assert house.measured("xiaozhi_connections_refused_total", cause="rate") == 1


def test_messages_that_come_too_fast_are_dropped_and_counted_then_the_device_has_to_go(
    tmp_path: Path, sounds: Sounds
) -> None:
    with open_house(tmp_path, sounds, {"server": {"limits": {"messages_per_second": 2}}}) as house:
        device = house.device()
        for _ in range(60):
            device.send_text('{"type":"nonsense"}')

        assert device.wait_closed() == (1008, "too many messages")
        assert house.measured("xiaozhi_dropped_total", queue="messages") > 10
        wait_for(lambda: house.measured("xiaozhi_connections_closed_total", code="1008") == 1, "the count")
