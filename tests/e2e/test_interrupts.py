"""Abort, listen start, wake word and barge-in: silence at once, the vendors see the disconnect, the next answer starts
clean."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import ASR
from tests.e2e.stage import (
    CHAT,
    LONG,
    SHORT,
    TTS,
    Script,
    Stage,
    ask,
    hear_nothing_more,
    speak_to,
    utter,
    wait_for_sound,
)
from tests.waiting import wait_for

Words = Callable[[str], Speech]
FIRST, SECOND = "tell me a long story", "and one more thing please"
STORY = "Once upon a time there was a robot. It lived in a small house. One day it went out."


def begin_a_story(stage: Stage, **options: object) -> SimulatedDevice:
    """A device in the middle of a long answer."""
    device = stage.device(**options)
    stage.vendor.script(CHAT, Script(answer=STORY))
    stage.vendor.script(TTS, LONG, LONG, LONG)
    device.detect("tell me a story")
    wait_for_sound(device)
    return device


def press_abort(device: SimulatedDevice, words: Words) -> None:
    device.abort()


def press_the_button(device: SimulatedDevice, words: Words) -> None:
    device.listen_start("manual")


def say_the_wake_word(device: SimulatedDevice, words: Words) -> None:
    device.detect("hello robot")


@pytest.mark.parametrize("interrupt", [press_abort, press_the_button, say_the_wake_word])
def test_an_interrupt_silences_at_once(
    stage: Stage, words: Words, interrupt: Callable[[SimulatedDevice, Words], None]
) -> None:
    device = begin_a_story(stage)
    interrupted = stage.outcomes().get("interrupted", 0)

    stage.calm()
    interrupt(device, words)

    answer = device.collect_answer()
    assert answer.stopped_at is not None
    assert len(answer.frames) < 100, "ten seconds were cut short"
    assert stage.outcomes()["interrupted"] == interrupted + 1
    if interrupt is say_the_wake_word:
        assert device.collect_answer().stt == "hello robot"
    hear_nothing_more(device)
    after = ask(device, "and now?")
    assert after.sentences == ["Fine"]
    assert len(after.frames) <= 2, "nothing of the old answer is in front of the new one"
    hear_nothing_more(device, 0.1)


def test_speech_interrupts_in_realtime_mode(stage: Stage, words: Words) -> None:
    device = stage.device()
    stage.vendor.stand(CHAT, Script(answer=STORY))
    stage.vendor.stand(TTS, LONG)
    stage.vendor.stand(ASR, Script(answer="tell me a story"))
    utter(device, words(FIRST), "realtime")
    wait_for_sound(device)
    stage.wait_for(TTS, 2)
    stage.calm()
    stage.vendor.stand(ASR, Script(answer="stop"))
    stage.vendor.stand(CHAT, Script(answer="Yes please?"))

    utter(device, words(SECOND), "realtime", start=False)

    story, second = device.collect_answer(), device.collect_answer()
    assert (story.stt, second.stt) == ("tell me a story", "stop")
    assert len(story.frames) < 100
    assert second.sentences == ["Yes please?"]
    assert ("assistant", "Once upon a time there was a robot.") in stage.said()
    hear_nothing_more(device)


def test_in_realtime_mode_nobody_is_talked_over(stage: Stage, words: Words) -> None:
    """The user goes on while the first answer is still being thought about: it is not begun in the middle of his
    words."""
    device = stage.device()
    stage.vendor.script(ASR, Script(answer="tell me a story", delay=0.3), Script(answer="about dogs"))
    stage.vendor.script(CHAT, Script(answer="Dogs it is."))
    utter(device, words(FIRST), "realtime")
    stage.wait_for(ASR)
    utter(device, words(SECOND), "realtime", start=False, silence_ms=60)
    wait_for(lambda: not stage.vendor.active, "the first words")
    device.ping()
    assert {message.type for message in device.replies.messages} <= {"pong"}, (
        "the first answer is ready to begin, and waits"
    )

    device.send_silence(600, realtime=False)

    answer = device.collect_answer()
    assert answer.stt == "about dogs"
    assert answer.sentences == ["Dogs it is"]
    hear_nothing_more(device, 0.1)


def test_in_auto_mode_nothing_is_heard_while_the_server_speaks(stage: Stage, words: Words) -> None:
    device = stage.device()
    stage.vendor.script(TTS, Script(answer=("wav", 1.0)))
    utter(device, words(FIRST))
    wait_for_sound(device)

    utter(device, words(SECOND), start=False)

    answer = device.collect_answer()
    assert len(answer.frames) >= 16
    device.ping()
    assert stage.vendor.counts[ASR] == 1


def test_the_recogniser_sees_the_disconnect(stage: Stage, words: Words) -> None:
    device = stage.device()
    stage.vendor.script(ASR, Script(stall="before"))
    utter(device, words(FIRST))
    stage.wait_for(ASR)

    device.abort()

    assert stage.vendor.kind(stage.vendor.wait_gone()) == ASR
    device.next_json("tts", state="stop")
    assert speak_to(device, words(FIRST)).stt == "what is up"


@pytest.mark.parametrize(
    "script", [Script(stall="before"), Script(answer=STORY, gap=0.2), Script(stall="after", answer=STORY)]
)
def test_the_model_sees_the_disconnect(stage: Stage, script: Script) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, script)
    device.detect("tell me a story")
    stage.wait_for(CHAT)
    device.next_json("tts", state="start")

    device.abort()

    assert stage.vendor.kind(stage.vendor.wait_gone()) == CHAT
    hear_nothing_more(device, 0.1)
    assert ask(device, "and now?").sentences == ["Fine"]


@pytest.mark.parametrize(
    "script",
    [Script(stall="before"), Script(stall="after", answer=("wav", 10.0)), Script(gap=0.1, answer=("wav", 10.0))],
)
def test_the_voice_sees_the_disconnect(stage: Stage, script: Script) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=STORY))
    stage.vendor.script(TTS, script, script)
    device.detect("tell me a story")
    stage.wait_for(TTS)

    device.abort()

    assert stage.vendor.kind(stage.vendor.wait_gone()) == TTS
    device.collect_answer()
    hear_nothing_more(device, 0.1)
    stage.calm()
    assert ask(device, "and now?").sentences == ["Fine"]


def test_an_abort_while_nothing_is_said_is_answered(stage: Stage) -> None:
    device = stage.device()

    device.abort()

    device.next_json("tts", state="stop")
    assert ask(device, "still there?").sentences == ["Fine"]


def test_a_new_question_takes_the_floor(stage: Stage) -> None:
    """Ten questions in a row, each before the answer to the last: one answer is heard to its end, every turn has one
    outcome."""
    device = stage.device()
    before = sum(stage.outcomes().values())
    stage.vendor.stand(CHAT, Script(answer=STORY, gap=0.01))
    stage.vendor.stand(TTS, LONG)
    for number in range(9):
        device.detect(f"question {number}")
        if number % 3 == 0:
            wait_for_sound(device)
    stage.vendor.stand(CHAT, Script(answer="The last one."))
    stage.vendor.stand(TTS, SHORT)

    device.detect("question 9")

    device.wait_until(
        lambda: device.replies.answers and device.replies.answers[-1].stt == "question 9", 5, "the last answer"
    )
    assert device.replies.answers[-1].sentences == ["The last one"]
    assert sum(stage.outcomes().values()) == before + 10
    hear_nothing_more(device, 0.2)


def test_a_device_that_vanishes_leaves_nothing_behind(stage: Stage) -> None:
    device = begin_a_story(stage)

    device.drop()

    stage.close_devices()
    assert stage.vendor.active == 0


def test_old_sound_is_not_heard_after_a_storm_of_interrupts(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.stand(CHAT, Script(answer=STORY))
    stage.vendor.stand(TTS, LONG)
    for _ in range(10):
        device.detect("go on")
        wait_for_sound(device, 2)
        device.abort()
        device.collect_answer()

    hear_nothing_more(device)
