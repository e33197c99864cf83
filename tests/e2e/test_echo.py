"""Echo cancelling on the server: a device whose microphone hears its own loudspeaker (realtime mode) is not interrupted
by itself, and somebody who speaks over it interrupts it. In real time, as the loudspeaker plays."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import numpy as np

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.framing import wrap
from loadtest.simulator.speech import Speech, speak
from loadtest.vendors.openai_vendor import ASR
from tests.e2e.stage import CHAT, TTS, Script, Stage, wait_for_sound
from tests.waiting import wait_for
from xiaozhi.audio.opus import Decoder, Encoder
from xiaozhi.audio.pcm import Resampler, wav_file
from xiaozhi.runtime.tasks import Tasks

FRAME = 960
DELAY_FRAMES = 2
"""From a frame's sound at the loudspeaker to its echo in what is sent."""
STORY = "Once upon a time there was a robot that lived in a small house by the sea, with a dog and two cats."


class OpenMicrophone:
    """A device with a microphone beside its loudspeaker. It plays what has come, a frame at a time, and sends each time
    what the microphone hears: the echo, and `words` once they are said. The packets carry timestamps (version 2)."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        self._decoder, self._encoder = Decoder(16_000), Encoder(16_000, 60)
        self._played = 0
        self._answer = device.replies.answer
        self._air = [np.zeros(FRAME)] * DELAY_FRAMES
        self._words = np.zeros(0)
        self.open = True

    def say(self, words: Speech) -> None:
        self._words = np.frombuffer(words.pcm, "<i2") * 0.5

    def run(self) -> None:
        due = time.monotonic()
        while self.open:
            packet, timestamp = self._frame()
            self._device.send_binary(wrap("v2", packet, timestamp))
            due += 0.06
            self._device.replies.touch()
            gevent.sleep(max(0.0, due - time.monotonic()))  # sleep: a loudspeaker plays in real time

    def _frame(self) -> tuple[bytes, int]:
        answer, timestamp, sound = self._device.replies.answer, 0, np.zeros(FRAME)
        if answer is not self._answer:
            self._answer, self._played = answer, 0
        if self._played < len(answer.frames):
            pcm = self._decoder.decode(answer.frames[self._played])
            self._played += 1
            timestamp = self._played * 60
            sound = np.frombuffer(pcm, "<i2").astype(float)
        self._air.append(sound)
        words, self._words = self._words[:FRAME], self._words[FRAME:]
        heard = 0.5 * self._air.pop(0) + np.pad(words, (0, FRAME - len(words)))
        (packet,) = self._encoder.encode(np.clip(heard, -32_768, 32_767).astype("<i2").tobytes())
        return packet, timestamp


def a_story(stage: Stage) -> SimulatedDevice:
    """A device that asks for echo cancelling, in realtime mode, in the middle of an answer of some seconds."""
    resampler = Resampler(16_000, 24_000)
    sound = wav_file(resampler.feed(speak(STORY).pcm) + resampler.flush(), 24_000)
    device = stage.device(protocol_version=2, features={"aec": True})
    device.listen_start("realtime")
    stage.vendor.stand(CHAT, Script(answer=STORY))
    stage.vendor.stand(TTS, Script(answer=sound))
    device.detect("tell me a story")
    return device


def listening_to_itself(device: SimulatedDevice, then: Callable[[OpenMicrophone], None]) -> None:
    microphone, tasks = OpenMicrophone(device), Tasks()
    tasks.spawn("microphone", microphone.run)
    try:
        then(microphone)
    finally:
        microphone.open = False
        assert tasks.join(timeout=5)


def test_a_device_is_not_interrupted_by_its_own_voice(stage: Stage) -> None:
    device = a_story(stage)

    def hear_it_out(microphone: OpenMicrophone) -> None:
        answer = device.collect_answer()
        assert len(answer.frames) > 60

    listening_to_itself(device, hear_it_out)

    assert stage.vendor.counts.get(ASR, 0) == 0, "nobody was heard"
    assert stage.outcomes().get("interrupted", 0) == 0


def test_somebody_who_speaks_over_it_interrupts_it(stage: Stage) -> None:
    device = a_story(stage)
    stage.vendor.stand(ASR, Script(answer="stop"))

    def speak_over_it(microphone: OpenMicrophone) -> None:
        wait_for_sound(device)
        wait_for(lambda: len(device.replies.answer.frames) > 45, "the middle of the story")
        stage.calm()
        stage.vendor.stand(ASR, Script(answer="stop"))
        stage.vendor.stand(CHAT, Script(answer="Yes please?"))
        microphone.say(speak("Please stop that now, I want to ask something else."))
        story = device.collect_answer()
        second = device.collect_answer()
        assert story.stt == "tell me a story"
        assert second.stt == "stop" and second.sentences == ["Yes please?"]

    listening_to_itself(device, speak_over_it)

    assert stage.outcomes()["interrupted"] == 1
