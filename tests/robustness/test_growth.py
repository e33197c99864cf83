"""The same abuse again and again: what it took the first time it may keep, and no more."""

from __future__ import annotations

import ctypes
import gc
import os
import weakref
from pathlib import Path

import gevent
import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.speech import Speech
from loadtest.simulator.wire import BINARY, TEXT, Closed, masked
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS
from tests.e2e.stage import LONG, Stage, ask, speak_to, utter, wait_for_sound
from tests.robustness import noise
from tests.robustness.conftest import busy
from tests.robustness.garbage import Garbage
from tests.robustness.logbook import SAID
from tests.robustness.rawhttp import talk, upload
from tests.robustness.witness import Mirror
from tests.waiting import wait_for

WARM_UP = 3
ROUNDS = 3
TRIES = 4
DEVICES = 12
GROWTH_BYTES = 3 << 20
"""In the rounds of one try together: allocators breathe that much. A visit of a device is some 100 KB."""

_libc = ctypes.CDLL(None)


def resident_bytes() -> int:
    """What the process holds after it has given back what it can."""
    gc.collect()
    _libc.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tracked_objects() -> int:
    """Objects that the garbage collector knows, those that start-up made not counted. Without weak references: a
    WeakSet that is being looked through keeps dead ones for a moment, and what they led to is counted itself."""
    gc.collect()
    return sum(type(each) is not weakref.ref for each in gc.get_objects())


def one_round(stage: Stage, words: Speech, packets: list[bytes]) -> None:
    """Visits of every kind, the same in each round."""

    def visit(number: int) -> None:
        garbage = Garbage(number)
        device = SimulatedDevice(
            stage.url, device_id=f"02:96:00:00:00:{number:02x}", keep_audio=False, tools=DeviceTools()
        )
        device.connect()
        try:
            for _ in range(60):
                device.send_raw(masked(TEXT, garbage.message().encode("utf-8", "replace")))
                device.send_raw(masked(BINARY, garbage.frame()))
            device.hello()
            device.listen_start("auto")
            for packet in packets:
                device.send_binary(packet)
            device.listen_start("realtime")
            utter(device, words, "realtime", start=False)
            device.detect(f"{SAID} {'story' if number % 2 else 'think'}")
            if number % 4 == 1:
                wait_for_sound(device)
            if number % 3 == 0:
                device.send_raw(b"\xff" * 20)
                device.wait_closed()
        except Closed:
            pass  # whatever it deserves
        device.drop()

    gevent.joinall([gevent.spawn(visit, number) for number in range(DEVICES)], raise_error=True)
    for number in range(10):
        talk(stage.server.http_port, upload("/xiaozhi/ota/", b"{" * number, Device_Id="02:00:00:00:00:09"))
        talk(stage.server.port, Garbage(number).chance.randbytes(300), end=True)
    decent = stage.device(device_id="02:96:00:00:01:00")
    ask(decent, f"{SAID} hello")
    speak_to(decent, words)
    stage.close_devices()
    wait_for(lambda: not busy(stage), "the end of the round")
    stage.forget_requests()


@pytest.mark.slow
def test_nothing_grows(stage: Stage, mirror: Mirror, words: Speech) -> None:
    """Neither memory nor the number of objects: less than one object is left of each visit."""
    mirror.when(TTS, "story.", LONG)
    mirror.when(CHAT, "think", Script(stall="before"))
    packets = [packet for payloads in noise.kinds(words).values() for packet in payloads[:10]]
    for _ in range(WARM_UP):
        one_round(stage, words, packets)
    # What is made once (a compiled statement, when two devices are first written down together) may come in any round,
    # and so may pages that the allocator of a process with many tests behind it takes; what is left of each visit comes
    # in all of them.
    for _ in range(TRIES):
        memory, objects = resident_bytes(), tracked_objects()
        for _ in range(ROUNDS):
            one_round(stage, words, packets)
        new_bytes, new_objects = resident_bytes() - memory, tracked_objects() - objects
        if new_objects < ROUNDS * DEVICES and new_bytes < GROWTH_BYTES:
            break
    assert new_objects < ROUNDS * DEVICES
    assert new_bytes < GROWTH_BYTES
