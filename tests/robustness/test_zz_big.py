"""Ten thousand messages and frames of garbage, before hello and after it, in every mode and framing; and everything RFC 6455 forbids.

JSON garbage never closes a session that is healthy as a connection; broken framing always does, with the code that says why.
"""

from __future__ import annotations

from collections import deque

import gevent
import pytest

from loadtest.device import SimulatedDevice
from loadtest.replies import DeviceClosed
from loadtest.wire import BINARY, TEXT, Closed, masked
from tests.e2e.stage import Stage, wait_until
from tests.robustness.conftest import Talking
from tests.robustness.garbage import Garbage, Violation, violations
from tests.robustness.logbook import Logbook
from xiaozhi.transport.tcp import SocketLimits

ITEMS = 50_000
DEVICES = 5
CODES = {1002, 1007, 1009}
VIOLATIONS = violations(SocketLimits().binary_bytes, SocketLimits().text_bytes)


def pour(device: SimulatedDevice, seed: int, items: int) -> None:
    """Send garbage, then see whether anybody is still there. Raises AssertionError."""
    garbage = Garbage(seed)
    sent: deque[object] = deque(maxlen=5)
    try:
        for number in range(items):
            if garbage.chance.random() < 0.6:
                sent.append(text := garbage.message())
                device.send_raw(masked(TEXT, text.encode("utf-8", "replace")))
            else:
                sent.append(frame := garbage.frame())
                device.send_raw(masked(BINARY, frame))
            if number % 20 == 0:
                gevent.sleep(0)
        device.tell("ping")
        device.next_json("pong", timeout=100)
    except (Closed, DeviceClosed):
        raise AssertionError(f"closed {device.wait_closed()} after {[str(item)[:200] for item in sent]}") from None


@pytest.mark.parametrize(
    ("phase", "seed"), [("before hello", n) for n in range(11,31)]
)
def test_garbage_never_closes_a_session(stage: Stage, witness: Talking, book: Logbook, phase: str, seed: int) -> None:
    with witness():
        devices = []
        for version in (1, 2, 3, 1, 2):
            device = SimulatedDevice(stage.url, device_id=f"02:0b:ad:00:{seed:02x}:{len(devices):02x}", protocol_version=version)
            devices.append(device)
            stage._devices.append(device)
            device.connect()
            if phase != "before hello":
                device.hello({"mcp": True})
                device.listen_start(phase)  # type: ignore[arg-type]
        pouring = [gevent.spawn(pour, device, seed * 100 + place, ITEMS // DEVICES) for place, device in enumerate(devices)]
        gevent.joinall(pouring, raise_error=True)

        assert [device.closed for device in devices] == [None] * DEVICES
    assert book.lines["unreadable message"] <= 3 * DEVICES, "at a bounded rate"
