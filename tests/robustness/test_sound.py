"""Whatever comes as sound: the ears skip what they cannot decode, and hear the next words that are really spoken."""

from __future__ import annotations

import random
from typing import Any

import pytest

from loadtest.simulator.device import Mode
from loadtest.simulator.speech import Speech
from loadtest.simulator.wire import BINARY, masked
from tests.e2e.stage import Stage, speak_to
from tests.robustness import noise
from tests.robustness.conftest import Talking
from tests.robustness.logbook import Logbook
from tests.robustness.witness import HEARD, hush

QUEUED = 150
"""Packets at once: the queue of the ears holds a few more."""


@pytest.mark.parametrize("mode", ["auto", "manual", "realtime"])
def test_noise_leaves_nobody_deaf(stage: Stage, witness: Talking, book: Logbook, words: Speech, mode: Mode) -> None:
    device = stage.device()
    with witness():
        for payloads in noise.kinds(words).values():
            device.listen_start(mode)
            for payload in payloads:
                device.send_binary(payload)
            if mode == "manual":
                device.listen_stop()
        hush(device)

        assert speak_to(device, words, mode).stt == HEARD
    assert book.lines["decoder restarted"] <= 1


@pytest.mark.parametrize("kind", ["120 ms", "2.5 ms", "48 kHz stereo", "48 kHz stereo in 120 ms"])
def test_speech_in_unusual_packets_is_heard(stage: Stage, words: Speech, kind: str) -> None:
    packets = {
        "120 ms": lambda: words.packets(120),
        "2.5 ms": lambda: noise.encoded(words.pcm, 2.5),
        "48 kHz stereo": lambda: noise.stereo_48k(words),
        "48 kHz stereo in 120 ms": lambda: noise.stereo_48k(words, 120),
    }[kind]()
    device = stage.device()
    device.listen_start("auto")
    for place, packet in enumerate(packets):
        device.send_binary(packet)
        if place % QUEUED == 0:
            device.ping()
    device.send_silence(600, realtime=False)

    assert device.collect_answer().stt == HEARD


@pytest.mark.parametrize(
    "params",
    [
        {"format": "pcm", "sample_rate": 8000, "channels": 1},
        {"format": "pcm", "sample_rate": 48_000, "channels": 2},
        {"format": "pcm", "sample_rate": 11_025, "channels": 2},
    ],
    ids=lambda params: f"{params['sample_rate']} Hz, {params['channels']}",
)
def test_pcm_of_any_size(stage: Stage, witness: Talking, params: dict[str, Any]) -> None:
    """Half samples, half frames, whole seconds at once: and the device still lives."""
    chance = random.Random(9)
    device = stage.device(audio_params=params)
    with witness():
        device.listen_start("auto")
        for size in (1, 2, 3, 5, 960, 961, 1919, 16_384, 16_383):
            for _ in range(30):
                device.send_raw(masked(BINARY, chance.randbytes(size)))
        hush(device)
    assert device.closed is None


def test_a_burst_of_a_minute_of_sound(stage: Stage, witness: Talking, words: Speech) -> None:
    """A device that was offline sends everything at once: the oldest goes, the newest is heard, nobody else waits."""
    device = stage.device()
    silence = noise.encoded(bytes(2 * 16_000 * 60), 60)
    with witness():
        device.listen_start("auto")
        device.send_raw(b"".join(masked(BINARY, packet) for packet in silence))
        device.send_frames(words.packets(), realtime=False)
        device.send_silence(600, realtime=False)

        assert device.collect_answer().stt == HEARD
