"""Ten thousand messages and frames of garbage, before hello and after it, in every mode and framing; and everything RFC
6455 forbids.

Garbage that is properly framed never closes a session (but for a hello with a version nobody speaks); broken framing
always does, with the code that says why."""

from __future__ import annotations

import json
import random
from collections import Counter, deque

import gevent
import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.wire import BINARY, CLOSE, CONTINUATION, TEXT, Closed, masked
from tests.e2e.stage import Stage, ask
from tests.robustness.conftest import Talking
from tests.robustness.garbage import Garbage, Violation, violations
from tests.robustness.logbook import SAID, Logbook
from tests.robustness.witness import hush
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.net.tcp import SocketLimits

ITEMS = 2_500
DEVICES = 5
GIVE_WAY_EVERY = 10
VIOLATIONS = violations(SocketLimits().binary_bytes, SocketLimits().text_bytes)


class Pourer:
    """A device that sends garbage, and comes again when it has talked itself out of its connection by right."""

    def __init__(self, stage: Stage, phase: str, version: int, seed: int) -> None:
        self.device = SimulatedDevice(
            stage.url,
            device_id=f"02:0b:ad:{seed >> 16:02x}:{seed >> 8 & 255:02x}:{seed & 255:02x}",
            protocol_version=version,
        )
        self.connections = 0
        self._stage = stage
        self._phase = phase
        self._garbage = Garbage(seed)
        self._sent: deque[object] = deque(maxlen=5)

    def pour(self, items: int) -> None:
        """Send so much, then see whether anybody is still there. Raises AssertionError."""
        while items > 0:
            self._connect()
            try:
                while items > 0:
                    self._send_one()
                    items -= 1
                    if items % GIVE_WAY_EVERY == 0:
                        gevent.sleep(0)
                self.device.tell("ping")
                self.device.next_json("pong", timeout=PATIENCE_S)
            except (Closed, DeviceClosed):
                code, reason = self.device.wait_closed()
                expected = code == 1002 and reason.startswith("unknown protocol version")
                assert expected, f"closed {code} {reason!r} after {[str(item)[:300] for item in self._sent]}"

    def _connect(self) -> None:
        self.connections += 1
        device = self.device
        device.replies.closed = None
        self._stage.devices.append(device.connect())
        if self._phase != "before hello":
            device.hello({"mcp": True})
            device.listen_start(self._phase)  # type: ignore[arg-type]

    def _send_one(self) -> None:
        garbage = self._garbage
        if garbage.chance.random() < 0.6:
            self._sent.append(text := garbage.message())
            self.device.send_raw(masked(TEXT, text.encode("utf-8", "replace")))
        else:
            self._sent.append(frame := garbage.frame())
            self.device.send_raw(masked(BINARY, frame))


@pytest.mark.parametrize(("phase", "seed"), [("before hello", 1), ("auto", 2), ("manual", 3), ("realtime", 4)], ids=str)
def test_garbage_never_closes_a_session(stage: Stage, witness: Talking, book: Logbook, phase: str, seed: int) -> None:
    with witness():
        pourers = [Pourer(stage, phase, version, seed * 100 + place) for place, version in enumerate((1, 2, 3, 1, 2))]
        gevent.joinall([gevent.spawn(pourer.pour, ITEMS // DEVICES) for pourer in pourers], raise_error=True)

        connections = sum(pourer.connections for pourer in pourers)
        assert connections < 4 * DEVICES
    for event in ("unreadable message", "unknown message", "device mcp garbage"):
        assert book.lines[event] <= 3 * connections, "a device may fill its counters, not the log"


@pytest.mark.parametrize("hello", [False, True], ids=["before hello", "after hello"])
def test_every_violation_is_answered_with_its_code(stage: Stage, witness: Talking, hello: bool) -> None:
    wrong = []
    with witness():
        for violation in VIOLATIONS:
            with SimulatedDevice(stage.url, device_id="02:0b:ad:00:00:01") as device:
                if hello:
                    device.hello()
                    device.listen_start("auto")
                code, reason = provoke(device, violation)
                if code not in violation.codes or not reason:
                    wrong.append(f"{violation.name}: {code} {reason}, not {sorted(violation.codes)}")
    assert not wrong, "\n".join(wrong)


def provoke(device: SimulatedDevice, violation: Violation) -> tuple[int, str]:
    """(code, reason) of the close frame that comes back."""
    try:
        device.send_raw(violation.data)
    except Closed:
        pass  # the server need not read to the end what it refuses
    return device.wait_closed()


def test_noise_instead_of_frames(stage: Stage, witness: Talking) -> None:
    """Bytes at random: a violation sooner or later, or the promise of a frame that never comes."""
    ends: Counter[int] = Counter()
    with witness():
        for seed in range(300):
            chance = random.Random(seed)
            device = SimulatedDevice(stage.url, device_id=f"02:0b:ad:01:00:{seed % 50:02x}").connect()
            try:
                if seed % 2:
                    device.hello()
                device.send_raw(chance.randbytes(chance.choice((1, 2, 5, 14, 100, 5000))))
                device.tell("ping")
                device.replies.wait(
                    lambda d=device: d.closed or (True if d.replies.messages else None), 0.02, "an end", or_closed=False
                )
            except (Closed, DeviceTimeout):
                pass  # it waits for the rest of a frame
            ends[device.closed[0] if device.closed else 0] += 1
            device.drop()
    assert set(ends) <= {0, 1002, 1007, 1009}, ends
    assert ends[1002] > 100


@pytest.mark.parametrize("farewell", ["reset", "half-close"])
def test_frames_cut_short(stage: Stage, witness: Talking, farewell: str) -> None:
    """The connection ends in the middle of a frame, wherever that is."""
    text = masked(TEXT, json.dumps({"type": "listen", "state": "detect", "text": f"{SAID} " * 40}).encode())
    fragments = masked(TEXT, b'{"type": ', fin=False) + masked(CONTINUATION, b'"ping" ', fin=False)
    with witness():
        for data in (text, fragments, masked(BINARY, bytes(4000)), masked(CLOSE, b"\x03\xe8bye")):
            for cut in {1, 2, 3, 4, 7, 8, 9, len(data) // 2, len(data) - 1}:
                device = stage.device()
                device.send_raw(data[:cut])
                if farewell == "half-close":
                    device.stop_sending()
                    assert device.wait_closed()[0] in (1001, 1006)
                device.drop()


def answers_last(device: SimulatedDevice) -> bool:
    """Whether everything sent so far has been seen; orders beyond a few at a time are not even refused."""
    device.tell("server", action="the end of it")
    try:
        device.next_json("server", timeout=0.2, content={"action": "the end of it"})
    except DeviceTimeout:
        return False
    return True


def test_a_session_that_was_sent_garbage_still_works(stage: Stage) -> None:
    """Right after two thousand pieces of garbage the same connection holds a conversation."""
    pourer = Pourer(stage, "auto", 1, 77)
    pourer.pour(2000)
    device = pourer.device
    wait_for(lambda: answers_last(device), "the garbage to be digested")
    device.replies.messages.clear()
    device.hello()
    hush(device)

    assert ask(device, f"{SAID} now").stt == f"{SAID} now"
