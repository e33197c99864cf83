"""The server as it comes out of the box, every module the default one and no model fetched: no vendor, no network, no
key, and yet a spoken conversation.

The questions are real synthesised speech, sent through Opus; the answers are decoded and looked at. Only the clock is
set, so that a test can know what time it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import gevent
import numpy as np
import pytest

from loadtest.simulator import speech
from loadtest.simulator.answer import HeardAnswer
from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.speech import Speech
from tests.e2e.stage import ask, hear_nothing_more, speak_to, unshakable, utter, wait_for_sound
from tests.subtitles import shown
from tests.waiting import wait_for
from xiaozhi.app.server import Server
from xiaozhi.providers.asr import offline
from xiaozhi.providers.tts import local_neural
from xiaozhi.settings import load

SAID = (
    "what time is it",
    "what day is it",
    "what year is it",
    "tell me a joke",
    "turn up the volume",
    "goodbye",
    "my sister lives in a small town near the river",
)
NOW = datetime(2031, 5, 7, 15, 5)
TIME = "It is 3:05 PM."
SETTINGS: dict[str, Any] = {
    "server": {"ip": "127.0.0.1", "port": 0, "http_port": 0, "drain_seconds": 1, "limits": {"frames_per_second": 0}},
    "log": {"log_dir": ""},
    "monitoring": {"sample_interval": 0},
}
"""What a test needs; not one word about modules."""

Words = Callable[[str], Speech]


@pytest.fixture(scope="module")
def words() -> Words:
    speech.speak_all(SAID)
    return speech.speak


class House:
    """The server and its visitors."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.devices: list[SimulatedDevice] = []

    def device(self, **options: Any) -> SimulatedDevice:
        """A device that has said hello."""
        url = f"ws://127.0.0.1:{self.server.port}/xiaozhi/v1/"
        device = SimulatedDevice(url, device_id=f"02:00:00:00:0f:{len(self.devices):02x}", **options)
        self.devices.append(device)
        device.connect()
        device.hello()
        return device


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    data = str(tmp_path_factory.mktemp("data"))
    unfetched = pytest.MonkeyPatch()  # on a machine where `make run` was, models are there
    for check in ("is_whisper", "is_moonshine"):
        unfetched.setattr(offline, check, lambda folder: False)
    unfetched.setattr(local_neural, "MODEL_FILES", ())
    loaded = load(environ={}, overrides={**SETTINGS, "log": {"log_dir": "", "data_dir": data}})
    server = Server(loaded, reload=lambda: loaded, shed_policy=unshakable())
    try:
        server.start()
        generation = server.generation
        assert generation is not None
        wait_for(lambda: not generation.agent.phrases.preparing, "the phrases")
        generation.agent.providers.llm.now = lambda: NOW
        yield House(server)
    finally:
        server.stop(drain_seconds=0)
        unfetched.undo()


@pytest.fixture
def house(open_house: House, _no_leaks: None) -> Iterator[House]:
    yield open_house
    for device in open_house.devices:
        device.close()
    wait_for(lambda: len(open_house.server.connections) == 0, "the server to be empty")


def together(*asked: Callable[[], Any]) -> list[Any]:
    """What all of them return, called at once."""
    greenlets = [gevent.spawn(function) for function in asked]
    gevent.joinall(greenlets, raise_error=True)
    return [greenlet.value for greenlet in greenlets]


def assert_speech(answer: HeardAnswer, at_least_s: float) -> None:
    """Decodable sound of that length, with the energy and the pauses of a voice."""
    samples = np.frombuffer(answer.pcm(), "<i2").astype(float)
    assert len(samples) / answer.sample_rate >= at_least_s
    loudness = np.sqrt(np.mean(samples[: len(samples) // 480 * 480].reshape(-1, 480) ** 2, axis=1))
    assert np.percentile(loudness, 80) > 500
    assert loudness.min() < 100


def test_nothing_of_it_needs_a_network(open_house: House) -> None:
    facts = open_house.server.facts()
    assert facts.offline
    assert facts.providers == {
        **{"vad": "SileroVAD", "asr": "Offline", "llm": "Offline", "tts": "Offline"},
        "end_of_turn": "SmartTurn",
    }


def test_a_spoken_question_in_every_mode_and_framing(house: House, words: Words) -> None:
    said = words("what time is it")
    visits = [("auto", 1), ("manual", 2), ("realtime", 3)]
    devices = [house.device(protocol_version=version) for _, version in visits]

    answers = together(
        *(lambda d=device, m=mode: speak_to(d, said, m) for device, (mode, _) in zip(devices, visits, strict=True))
    )

    for answer in answers:
        assert answer.stt == "what time is it"
        assert answer.sentences == [shown(TIME)]
        kinds = [message.data.get("state") or message.type for message in answer.messages]
        assert kinds == ["stt", "start", "llm", "sentence_start", "stop"]
        assert_speech(answer, 1.0)
    for device in devices:
        hear_nothing_more(device, 0)


def test_two_devices_at_once_get_their_own_answers(house: House, words: Words) -> None:
    one, other = house.device(), house.device(protocol_version=3)

    day, year = together(
        lambda: speak_to(one, words("what day is it")), lambda: speak_to(other, words("what year is it"))
    )

    assert (day.stt, day.sentences) == ("what day is it", ["Today is Wednesday"])
    assert (year.stt, year.sentences) == ("what year is it", ["The year is 2031"])


def test_an_answer_can_be_interrupted_and_the_next_is_whole(house: House, words: Words) -> None:
    device = house.device()
    utter(device, words("tell me a joke"))
    wait_for_sound(device, 8)

    device.abort()

    joke = device.collect_answer()
    assert joke.stt == "tell me a joke"
    assert len(joke.frames) < 30, "half a second of several"
    device.send_silence(1_000, realtime=False)
    hear_nothing_more(device, 0.2)
    answer = speak_to(device, words("what time is it"))
    assert (answer.stt, answer.sentences) == ("what time is it", [shown(TIME)])


def test_the_volume_goes_up_when_a_voice_says_so(house: House, words: Words) -> None:
    tools = DeviceTools(volume=50)
    device, without = house.device(tools=tools), house.device()
    wait_for(lambda: tools.listed, "the device's tools")

    done, refused = together(
        *(lambda d=device: speak_to(d, words("turn up the volume")) for device in (device, without))
    )

    assert tools.calls == [("self.get_device_status", {}), ("self.audio_speaker.set_volume", {"volume": 60})]
    assert (done.stt, done.sentences) == ("turn up the volume", ["I turned it up to 60"])
    assert refused.sentences == ["This device does not let me change its volume"]


def test_the_wake_word_is_greeted_and_typed_chinese_answered_in_chinese(house: House) -> None:
    device = house.device()

    greeting = ask(device, "你好小智")
    assert_speech(greeting, 0.5)

    device.replies.forget_answers()
    device.detect("请问现在几点了？")
    wait_for_sound(device, 20)
    device.abort()
    answer = device.collect_answer()
    assert answer.stt == "请问现在几点了？"
    assert answer.sentences == ["现在是下午3点05分"]
    assert_speech(answer, 1.0)


def test_chinese_that_was_heard_almost_right_is_done_and_answered(house: House) -> None:
    tools = DeviceTools(volume=50)
    device = house.device(tools=tools)
    wait_for(lambda: tools.listed, "the device's tools")

    done = ask(device, "请帮我把音量掉到三十")
    result = ask(device, "三家五等于几")

    assert tools.calls == [("self.audio_speaker.set_volume", {"volume": 30})]
    assert done.sentences == ["音量已调到30"]
    assert result.sentences == ["等于8"]


def test_what_is_not_understood_is_said_to_be(house: House, words: Words) -> None:
    device = house.device()
    utter(device, words("my sister lives in a small town near the river"))
    wait_for_sound(device, 10)

    device.abort()

    answer = device.collect_answer()
    assert answer.sentences[0].startswith("Sorry, I did not understand")
    assert not answer.stt


def test_goodbye_is_said_back_and_ends_the_visit(house: House, words: Words) -> None:
    device = house.device()

    answer = speak_to(device, words("goodbye"))

    assert answer.stt == "goodbye"
    assert "Goodbye" in answer.sentences
    code, _ = device.wait_closed()
    assert code == 1000
