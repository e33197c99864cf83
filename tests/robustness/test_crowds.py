"""Many at once: storms of the same device, two hundred that come together, vendors that are stuck for one of them."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import gevent
import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.speech import Speech
from loadtest.simulator.wire import BINARY, TEXT, Closed, UpgradeRefused, masked
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import ASR, CHAT, TTS
from tests.e2e.stage import Stage, ask, speak_to, utter
from tests.robustness.conftest import Talking
from tests.robustness.garbage import Garbage
from tests.robustness.logbook import SAID
from tests.robustness.witness import HEARD, Mirror, reflected
from tests.subtitles import shown
from tests.waiting import PATIENCE_S, wait_for

NEVER = Script(stall="before")
STUCK = Script(stall="after", answer=["Well. ", "Let me ", "think about ", "it."])


def threads() -> int:
    """OS threads of this process."""
    return len(os.listdir("/proc/self/task"))


# --- reconnecting -----------------------------------------------------------------------------------------------------


def test_a_storm_of_one_device(stage: Stage, witness: Talking) -> None:
    """It comes back again and again without leaving: the newest connection counts, and there is never a heap of old
    ones."""
    devices = []
    with witness():
        for _ in range(100):
            devices.append(stage.device(device_id="02:5a:00:00:00:01"))
            assert len(stage.server.connections) <= 1 + 6
        newest = devices.pop()
        assert {device.wait_closed() for device in devices} == {(1000, "replaced")}

        assert ask(newest, f"{SAID} still here").stt == f"{SAID} still here"
    assert newest.closed is None


def test_a_storm_of_one_device_all_at_once(stage: Stage, witness: Talking) -> None:
    """Fifty connections of one device in the same moment: some are refused, one is left, and that one works."""
    ends: Counter[str] = Counter()
    made: list[SimulatedDevice] = []

    def come() -> None:
        device = SimulatedDevice(stage.url, device_id="02:5a:00:00:00:02")
        made.append(device)
        try:
            device.connect()
            device.hello()
            ends["greeted"] += 1
        except UpgradeRefused as refused:
            ends[str(refused.status)] += 1
        except (DeviceClosed, Closed):
            ends["replaced"] += 1

    with witness():
        gevent.joinall([gevent.spawn(come) for _ in range(50)], raise_error=True)
        wait_for(lambda: len(stage.server.connections) == 2, "one to be left")
        (left,) = [device for device in made if device.connected]
        assert ask(left, f"{SAID} me").stt == f"{SAID} me"
    assert set(ends) <= {"greeted", "replaced", "503"}, ends
    assert ends["503"], "never a heap of connections that are just being replaced"
    for device in made:
        device.close()


def test_replaced_in_the_middle_of_everything(stage: Stage, mirror: Mirror, words: Speech) -> None:
    """The new connection answers at once, whatever the old one was doing, and hears nothing of it."""
    mirror.when(CHAT, "think", NEVER)
    old = stage.device(device_id="02:5a:00:00:00:03")
    for number in range(6):
        met = mirror.met[CHAT]
        old.detect(f"{SAID} think")
        wait_for(lambda met=met: mirror.met[CHAT] > met, "the request")
        new = stage.device(device_id="02:5a:00:00:00:03")
        answer = speak_to(new, words) if number % 2 else ask(new, f"{SAID} {number}")
        assert answer.stt == (HEARD if number % 2 else f"{SAID} {number}")
        assert old.wait_closed()[0] == 1000
        old = new


# --- two hundred ------------------------------------------------------------------------------------------------------


def test_two_hundred_at_once_with_garbage_among_them(stage: Stage, witness: Talking) -> None:
    """Every decent device is answered, whatever the others send."""
    answered: list[int] = []
    made: list[SimulatedDevice] = []

    def decent(number: int) -> None:
        device = SimulatedDevice(stage.url, device_id=f"02:c0:00:00:00:{number:02x}", keep_audio=False)
        made.append(device.connect())
        device.hello(timeout=PATIENCE_S)
        device.detect(f"{SAID} from {number}")
        answer = device.collect_answer()
        assert (answer.stt, answer.sentences) == (f"{SAID} from {number}", [f"{SAID} from {number}"])
        answered.append(number)

    def indecent(number: int) -> None:
        garbage = Garbage(9000 + number)
        device = SimulatedDevice(stage.url, device_id=f"02:c0:00:00:01:{number:02x}", keep_audio=False)
        made.append(device)
        try:
            device.connect()
            for _ in range(20):
                device.send_raw(masked(TEXT, garbage.message().encode("utf-8", "replace")))
                device.send_raw(masked(BINARY, garbage.frame()))
                gevent.sleep(0)
            device.send_raw(garbage.chance.randbytes(50))
            device.wait_closed(0.5)
        except (Closed, UpgradeRefused, DeviceTimeout):
            pass  # whatever it deserves
        device.drop()

    crowd = [gevent.spawn(indecent if number % 4 == 0 else decent, number) for number in range(200)]
    with witness():
        gevent.joinall(crowd, raise_error=True)
    assert len(answered) == 150
    for device in made:
        device.close()


def test_threads_do_not_depend_on_devices(stage: Stage, words: Speech) -> None:
    """As many OS threads before a hundred devices, while they talk, and after."""
    speak_to(stage.device(), words)
    before = threads()
    devices = [stage.device(keep_audio=False) for _ in range(100)]
    connected = threads()
    for number, device in enumerate(devices):
        if number % 4:
            device.detect(f"{SAID} {number}")
        else:
            utter(device, words)
    talking = threads()
    for device in devices:
        device.collect_answer()
    answered = threads()
    for device in devices:
        device.close()

    assert [connected, talking, answered, threads()] == [before] * 4


# --- each their own ---------------------------------------------------------------------------------------------------


def test_two_devices_talk_at_the_same_time(stage: Stage, words: Speech, long_words: Speech) -> None:
    """Each is told what it was told itself, in each of five rounds, spoken into both microphones packet by packet."""
    heard = stage.vendor.transcribe

    def by_length(request: Any, script: Script) -> Any:
        return heard(request, Script(answer=f"{SAID} {'long' if len(request.body) > 32_000 * 3 else 'short'}"))

    stage.vendor.transcribe = by_length  # type: ignore[method-assign]
    try:
        one, two = stage.device(), stage.device()
        for turn in range(5):
            for device in (one, two):
                device.listen_start("auto")
            for place in range(len(long_words.packets())):
                two.send_frames(long_words.packets()[place : place + 1], realtime=False)
                if place < len(words.packets()):
                    one.send_frames(words.packets()[place : place + 1], realtime=False)
                elif place < len(words.packets()) + 10:
                    one.send_silence(60, realtime=False)
            two.send_silence(600, realtime=False)
            for device, said in ((one, f"{SAID} short"), (two, f"{SAID} long")):
                answer = device.collect_answer()
                assert answer.stt == said
                assert answer.sentences == [shown(reflected(*[said] * min(turn + 1, 2)))]
    finally:
        del stage.vendor.transcribe


@pytest.mark.parametrize("kind", [ASR, CHAT, TTS])
def test_a_vendor_stuck_for_one_device(
    stage: Stage, mirror: Mirror, witness: Talking, long_words: Speech, kind: str
) -> None:
    """It waits, or is told that something is wrong; nobody else notices."""
    with witness():
        for script in (
            NEVER,
            STUCK if kind == CHAT else Script(stall="after"),
            Script(status=500),
            Script(garbage="binary"),
        ):
            mirror.rules.clear()
            mirror.when(kind, "troubled", script)
            met = mirror.met[kind]
            device = stage.device()
            if kind == ASR:
                utter(device, long_words)
            else:
                device.detect(f"{SAID} troubled")
            wait_for(lambda met=met: mirror.met[kind] > met, "the request")
            assert device.ping()
            device.abort()
            device.next_json("tts", state="stop")


def test_many_devices_whose_vendor_is_stuck(stage: Stage, mirror: Mirror, witness: Talking) -> None:
    """Forty answers that never come take no place from anybody else."""
    mirror.when(CHAT, "troubled", NEVER)
    with witness():
        devices = [stage.device() for _ in range(40)]
        chance = random.Random(4)
        for device in devices:
            device.detect(f"{SAID} troubled {chance.random()}")
        wait_for(lambda: mirror.met[CHAT] >= 20, "the requests")
    for device in devices:
        device.abort()
