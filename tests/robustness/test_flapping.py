"""Devices that cannot make up their mind: hundreds of starts, stops, aborts and hellos, with speech in between."""

from __future__ import annotations

import random
from typing import Any

import pytest

from loadtest.simulator.device import Mode, SimulatedDevice
from loadtest.simulator.speech import Speech
from loadtest.simulator.wire import BINARY, masked
from loadtest.vendors.openai_vendor import CHAT, TTS
from tests.e2e.stage import LONG, Stage, ask, speak_to, utter, wait_for_sound
from tests.robustness.conftest import Talking
from tests.robustness.logbook import SAID, Logbook
from tests.robustness.witness import HEARD, Mirror, hush
from xiaozhi.audio.opus import Decoder, packet_duration_ms

FLAPS = 400
FORMATS: tuple[dict[str, Any], ...] = (
    {"format": "opus", "frame_duration": 60},
    {"format": "opus", "frame_duration": 20},
    {"format": "pcm", "frame_duration": 60},
    {"format": "opus", "frame_duration": 40, "sample_rate": 48_000, "channels": 2},
    {"format": "pcm", "frame_duration": 20, "sample_rate": 8000},
    {"format": "opus", "frame_duration": 120},
)


def check_sound(device: SimulatedDevice) -> None:
    """Whatever was heard of all answers is sound in the right form."""
    assert not device.replies.bad_frames
    decoder = Decoder(24_000)
    for frame in device.replies.answer.frames:
        decoder.decode(frame)


@pytest.mark.parametrize("mode", ["auto", "manual", "realtime"])
def test_starts_stops_and_aborts(stage: Stage, witness: Talking, words: Speech, mode: Mode) -> None:
    """In any order, with whole words, pieces of words and silence between; the next question is answered as if nothing
    had been."""
    chance = random.Random(len(mode))
    packets = words.packets()
    device = stage.device()
    with witness():
        for _ in range(FLAPS):
            match chance.randrange(6):
                case 0 | 1:
                    device.listen_start(
                        mode if chance.random() < 0.8 else chance.choice(("auto", "manual", "realtime"))
                    )
                case 2:
                    device.listen_stop()
                case 3:
                    device.abort()
                case 4:
                    device.send_frames(packets[: chance.choice((1, 5, len(packets)))], realtime=False)
                case _:
                    device.send_silence(chance.choice((60, 300, 600)), realtime=False)
        hush(device)

        assert speak_to(device, words, mode).stt == HEARD
        assert device.closed is None
    check_sound(device)


def test_questions_and_aborts(stage: Stage, mirror: Mirror, witness: Talking, book: Logbook) -> None:
    """Three hundred questions, each cut short by an abort or by the next one: not a frame of any of them between the
    answers."""
    mirror.when(TTS, "story.", LONG)
    chance = random.Random(3)
    device = stage.device()
    with witness():
        for number in range(300):
            device.detect(f"{SAID} {number} story" if chance.random() < 0.5 else f"{SAID} {number}")
            match chance.randrange(20):
                case 0:
                    wait_for_sound(device)
                case 1 | 2:
                    device.ping()
                case 3 | 4 | 5 | 6:
                    device.abort()
        hush(device)
        stray = len(device.replies.stray)

        assert ask(device, f"{SAID} at last").stt == f"{SAID} at last"
        assert len(device.replies.stray) == stray == 0
    assert book.lines["turn"] <= 2 * 300


def test_the_wake_word_again_and_again(stage: Stage, witness: Talking, words: Speech) -> None:
    device = stage.device()
    with witness():
        for _ in range(150):
            device.detect("hello robot")
            device.listen_start("auto")
            device.send_raw(b"".join(masked(BINARY, packet) for packet in words.packets()))
        hush(device)

        # Voices are not listened to for two seconds after the wake word; the button is.
        assert speak_to(device, words, "manual").stt == HEARD


def test_hello_again_with_other_parameters(stage: Stage, mirror: Mirror, witness: Talking, words: Speech) -> None:
    """In the middle of an answer, and forty times over: what follows a hello has the form that this hello asked for."""
    mirror.when(TTS, "story.", LONG)
    device = stage.device()
    with witness():
        for number in range(8):
            params = FORMATS[number % len(FORMATS)]
            device.detect(f"{SAID} story")
            if number % 3 == 0:
                wait_for_sound(device)
            if number % 4 == 1:
                utter(device, words)
            device.replies.messages.clear()
            reply = device.hello({"mcp": number % 2 == 0, "emoji": number % 3 != 0}, params)
            wanted = params["frame_duration"] if params["frame_duration"] in (20, 40, 60) else 60
            assert (reply.audio_format, reply.frame_ms) == (params["format"], wanted)

            answer = ask(device, f"{SAID} {number}")
            assert answer.stt == f"{SAID} {number}"
            assert (answer.emotion is None) == (number % 3 == 0)
            if params["format"] == "opus":
                assert {packet_duration_ms(frame) for frame in answer.frames} == {wanted}
            else:
                assert {len(frame) for frame in answer.frames} == {24 * 2 * wanted}
        for params in FORMATS * 10:
            device.send_json({"type": "hello", "version": 1, "audio_params": params})
        device.replies.messages.clear()
        device.hello()
        hush(device)

        assert speak_to(device, words).stt == HEARD


def test_hello_again_with_other_framing(stage: Stage) -> None:
    """The header decides how sound is framed, whatever a hello says."""
    device = stage.device()
    device.send_json({"type": "hello", "version": 9})
    assert ask(device, f"{SAID} hello").frames


def test_modes_change_under_way(stage: Stage, witness: Talking, words: Speech) -> None:
    """Every mode right behind every other one, in the middle of words and of answers."""
    device = stage.device()
    with witness():
        for first in ("auto", "manual", "realtime"):
            for second in ("auto", "manual", "realtime"):
                device.listen_start(first)
                device.send_frames(words.packets(), realtime=False)
                hush(device)
                assert speak_to(device, words, second).stt == HEARD, (first, second)


def test_goodbye_in_the_middle_of_everything(stage: Stage, mirror: Mirror, witness: Talking, words: Speech) -> None:
    mirror.when(TTS, "story.", LONG)
    with witness():
        for number in range(20):
            device = stage.device()
            device.listen_start("realtime")
            device.send_frames(words.packets(), realtime=False)
            if number % 2:
                device.detect(f"{SAID} story")
                wait_for_sound(device)
            device.tell("goodbye")
            device.detect(f"{SAID} one more")
            assert device.wait_closed()[0] == 1000
    assert stage.vendor.counts.get(CHAT, 0) < 60
