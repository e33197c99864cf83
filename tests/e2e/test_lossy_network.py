"""Spoken questions over a bad network: a fifth of the packets is lost, others come twice or too late, and the server as
it comes out of the box still understands most of them. By MQTT and UDP."""

from __future__ import annotations

import itertools
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
import pytest
import requests

from loadtest.simulator import speech
from loadtest.simulator.answer import HeardAnswer
from loadtest.simulator.device import Mode
from loadtest.simulator.mqtt_device import MqttDevice, VoiceChannel
from tests.e2e.stage import unshakable
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app.server import Server
from xiaozhi.settings import load

SAID = ("what time is it", "what day is it", "tell me a joke", "turn up the volume", "how are you doing", "flip a coin")
TOKEN = "operator-of-the-test"
LOST, REPEATED, LATE = 0.2, 0.05, 0.1
UNDERSTOOD = 4
"""Of six: a fifth of a question that is one second long may be all that matters of it."""


class BadLine(VoiceChannel):
    """Loses, repeats and delays what is sent. `numbers` makes each line its own chance."""

    numbers = itertools.count(1)

    def __init__(self, told: Mapping[str, Any], source_address: str, on_sound: Callable[[bytes], None]) -> None:
        self.dropped = 0
        self._chance = random.Random(next(self.numbers))
        self._delayed: deque[bytes] = deque()
        super().__init__(told, source_address, on_sound)

    def transmit(self, datagram: bytes) -> None:
        chance = self._chance.random()
        if chance < LOST:
            self.dropped += 1
        elif chance < LOST + LATE:
            self._delayed.append(datagram)  # the next one overtakes it
        else:
            super().transmit(datagram)
            if chance > 1 - REPEATED:
                super().transmit(datagram)
            while self._delayed:
                super().transmit(self._delayed.popleft())


class FarDevice(MqttDevice):
    CHANNEL = BadLine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    speech.speak_all(SAID)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mqtt_port = probe.getsockname()[1]
    loaded = load(
        environ={},
        overrides={
            "server": {"ip": "127.0.0.1", "port": 0, "http_port": 0, "drain_seconds": 1, "admin_token": TOKEN},
            "mqtt": {"port": mqtt_port, "udp_port": 0},
            "log": {"log_dir": "", "data_dir": str(tmp_path_factory.mktemp("data"))},
            "monitoring": {"sample_interval": 0},
        },
    )
    made = Server(loaded, reload=lambda: loaded, shed_policy=unshakable())
    try:
        made.start()
        generation = made.generation
        assert generation is not None
        wait_for(lambda: not generation.agent.phrases.preparing, "the phrases")
        yield made
    finally:
        made.stop(drain_seconds=0)


def visitor(server: Server, kind: type[MqttDevice], number: int) -> MqttDevice:
    """A device that has said hello."""
    device = kind(f"http://127.0.0.1:{server.http_port}/xiaozhi/ota/", device_id=f"02:00:00:00:ff:{number:02x}")
    device.connect()
    device.hello()
    return device


def line_of(server: Server, device: MqttDevice) -> dict[str, Any]:
    """What operators are told of it."""
    url = f"http://127.0.0.1:{server.http_port}/admin/devices/{device.device_id}/line"
    told: dict[str, Any] = requests.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S).json()
    return told


def heard(device: MqttDevice, text: str, mode: Mode) -> str | None:
    """What was understood of it; "" when the server says that it did not."""
    device.say(speech.speak(text), mode)
    device.wait_until(lambda: device.replies.speaking, what="an answer")
    return device.replies.answer.stt


def test_most_questions_are_understood(server: Server) -> None:
    BadLine.numbers = itertools.count(1)
    devices = [visitor(server, FarDevice, number) for number in range(len(SAID))]
    asking = [gevent.spawn(heard, device, text, "auto") for device, text in zip(devices, SAID, strict=True)]
    gevent.joinall(asking, raise_error=True)
    understood = [text for text, asked in zip(SAID, asking, strict=True) if asked.value == text]
    lines = [device.channel for device in devices]
    told = [line_of(server, device) for device in devices]
    for device in devices:
        device.close()
    assert all(isinstance(line, BadLine) and line.dropped >= 2 for line in lines)
    assert len(understood) >= UNDERSTOOD, [asked.value for asked in asking]
    assert all(each["figures"]["lost"] > 0 for each in told), told


def test_a_question_that_comes_in_one_burst_keeps_its_place_between_start_and_stop(server: Server) -> None:
    device = visitor(server, MqttDevice, 100)
    device.listen_start("manual")
    device.send_frames(speech.speak("what time is it").packets(60), realtime=False)
    device.listen_stop()
    assert device.next_json("stt").data["text"] == "what time is it"
    answer: HeardAnswer = device.collect_answer()
    assert len(answer.arrivals) > 10
    assert device.channel is not None
    assert (device.channel.missing, device.channel.refused) == (0, 0)
    device.close()
