"""Who has something for a device finds its session."""

from __future__ import annotations

from typing import Any

from tests.fakes.sessions import DEVICE, make_services, visitor
from xiaozhi.tools.calls import Rung

WORDS = {"zh": "来电。", "en": "A call."}


def test_the_newest_session_of_a_device_is_found_however_its_id_is_written() -> None:
    services: Any = make_services()
    with visitor(services=services) as first:
        old = services.sessions.of_device(DEVICE)
        with visitor(services=services):
            assert services.sessions.of_device(DEVICE.replace(":", "-").upper()) is not old
        assert services.sessions.of_device(DEVICE) is old
        assert first.session.device_id == DEVICE
    assert services.sessions.of_device(DEVICE) is None
    assert services.sessions.ring(DEVICE, WORDS) is Rung.AWAY


def test_a_device_rings_when_nobody_speaks_with_it() -> None:
    services: Any = make_services()
    with visitor(services=services) as device:
        assert services.sessions.ring(DEVICE, WORDS) is Rung.AWAY, "it has not said hello"
        device.hello()
        assert services.sessions.ring(DEVICE, WORDS) is Rung.RINGS
        assert services.sessions.ring(DEVICE, WORDS) is Rung.BUSY
        device.wait_turns()
        assert device.spoken() == ["A call"]

        device.detect("你好")
        device.wait_turns(2)
        assert services.sessions.ring(DEVICE, WORDS) is Rung.RINGS
        device.wait_turns(3)
        assert device.spoken()[-1] == "来电", "in the language of its conversation"

        device.session.drain(0)
        assert services.sessions.ring(DEVICE, WORDS) is Rung.AWAY
