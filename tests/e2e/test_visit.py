"""The frame of a conversation: wake word and greeting, exit commands, the goodbye after silence, incoming calls, the
daily allowance."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import ASR
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import (
    CHAT,
    TTS,
    Script,
    Stage,
    ask,
    hear_nothing_more,
    open_stage,
    settle_phrases,
    speak_to,
    tool_call,
    utter,
    wait_for_sound,
)
from tests.subtitles import shown
from xiaozhi.session.session import HARD_CLOSE_SECONDS
from xiaozhi.session.turns.wakeup import greetings_for

Words = Callable[[str], Speech]
WAKE_WORD = "Hello, Robot!"
QUESTION = "what is up with you"


# --- waking -----------------------------------------------------------------------------------------------------------


def test_the_greeting_is_ready_made(stage: Stage) -> None:
    """No vendor is asked: neither the first time nor ever after."""
    device = stage.device()
    for _ in range(3):
        greeting = ask(device, WAKE_WORD)

        assert greeting.stt == WAKE_WORD
        assert " ".join(greeting.sentences) in map(shown, greetings_for(["hello robot"]))
        assert greeting.frames
    assert stage.vendor.counts == {}


def test_a_greeting_survives_the_listen_start_that_follows_a_wake_word(stage: Stage, words: Words) -> None:
    """What firmware sends: the sound of the wake word, detect, listen start; then the microphone is open, also during
    the greeting."""
    device = stage.device()
    device.send_frames(words(QUESTION).packets(), realtime=False)
    device.detect(WAKE_WORD)
    device.listen_start("auto")
    device.send_frames(words(QUESTION).packets(), realtime=False)

    greeting = device.collect_answer()

    assert greeting.frames
    hear_nothing_more(device, 0.1)
    device.ping()
    assert stage.vendor.counts == {}, "neither the wake word itself nor what was said just after it is a question"


def test_the_button_interrupts_a_greeting(stage: Stage, words: Words) -> None:
    device = stage.device()
    stage.vendor.script(TTS, Script(answer=("wav", 10.0)))
    device.detect("read me something long")
    wait_for_sound(device)

    utter(device, words(QUESTION), "manual")

    assert len(device.collect_answer().frames) < 100
    assert device.collect_answer().stt == "what is up"


def test_the_ears_open_with_the_listen_start_that_follows_the_greeting(stage: Stage, words: Words) -> None:
    """Not two seconds after the wake word: a quick question would be beheaded."""
    device = stage.device()
    device.detect(WAKE_WORD)
    device.listen_start("auto")
    device.collect_answer()
    utter(device, words(QUESTION), start=False)
    device.ping()
    assert stage.vendor.counts == {}, "nobody has opened the microphone since"

    utter(device, words(QUESTION))

    assert device.collect_answer().stt == "what is up"


def test_without_a_greeting_the_wake_word_is_only_shown(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"enable_greeting": False}) as stage:
        device = stage.device()
        stage.forget_requests()

        answer = ask(device, WAKE_WORD)

        assert [message.data.get("state") or message.type for message in answer.messages] == ["stt", "stop"]
        assert answer.frames == []
        assert stage.vendor.counts == {}
        assert ask(device, "hello").sentences == ["Fine"]


def test_the_model_greets_when_greetings_are_not_cached(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"enable_wakeup_words_response_cache": False}) as stage:
        assert ask(stage.device(), WAKE_WORD).sentences == ["Fine"]
        assert stage.said() == [("user", WAKE_WORD)]


def test_another_format_gets_its_own_ready_made_greetings(stage: Stage) -> None:
    device = stage.device(frame_ms=20)
    settle_phrases(stage)
    stage.forget_requests()

    assert len(ask(device, WAKE_WORD).frames) >= 3
    assert stage.vendor.counts == {}


# --- leaving ----------------------------------------------------------------------------------------------------------


def test_an_exit_command_closes_at_once(tmp_path: Path, sounds: Sounds, words: Words) -> None:
    with open_stage(tmp_path, sounds, {"exit_commands": ["exit now"]}) as stage:
        for say in (lambda device: device.detect("Exit, now!"), lambda device: utter(device, words(QUESTION))):
            device = stage.device()
            stage.vendor.stand(ASR, Script(answer="exit now."))

            say(device)

            assert device.wait_closed()[0] == 1000
            assert [message.type for message in device.replies.messages] == ["stt"]
        assert stage.vendor.counts.get(CHAT, 0) == 0


def test_the_exit_tool_says_goodbye_first(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call("handle_exit_intent", say_goodbye="See you soon.")]))

    answer = ask(device, "bye bye")

    assert answer.sentences == ["See you soon"]
    assert answer.frames
    assert device.wait_closed()[0] == 1000


def test_a_goodbye_that_is_cut_short_keeps_the_user(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call("handle_exit_intent", say_goodbye="See you soon.")]))
    stage.vendor.script(TTS, Script(answer=("wav", 10.0)))
    device.detect("bye bye")
    wait_for_sound(device)
    device.abort()
    device.collect_answer()

    assert ask(device, "no, stay").sentences == ["Fine"]
    assert device.closed is None


def test_the_devices_goodbye_ends_the_visit(stage: Stage) -> None:
    device = stage.device()
    ask(device, "hello")

    device.tell("goodbye")

    assert device.wait_closed()[0] == 1000


def silence(stage: Stage, seconds: float) -> None:
    """Let the server's sweeper see a time when nobody has spoken for `seconds`."""
    be_swept(stage, time.monotonic() + seconds)


def be_swept(stage: Stage, now: float) -> None:
    """Let the server's sweeper see this time."""
    for device in stage.devices:
        for live in stage.server.connections.of_device(device.device_id):
            live.tick(now)


@pytest.fixture(scope="module")
def quiet_stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Any:
    settings = {"close_connection_no_voice_time": 100, "end_prompt": {"prompt": "Say goodbye now."}}
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        yield opened


@pytest.fixture
def quiet(quiet_stage: Stage, _no_leaks: None) -> Any:
    quiet_stage.reset()
    yield quiet_stage
    quiet_stage.close_devices()


def test_after_a_long_silence_the_server_says_goodbye(quiet: Stage) -> None:
    device = quiet.device()
    ask(device, "hello")
    quiet.vendor.stand(CHAT, Script(answer="Good night."))
    silence(quiet, 90)
    device.ping()
    assert quiet.vendor.counts[CHAT] == 1, "not yet"

    silence(quiet, 101)

    goodbye = device.collect_answer()
    assert goodbye.stt is None
    assert goodbye.sentences == ["Good night"]
    assert quiet.said()[-1] == ("user", "Say goodbye now.")
    assert device.wait_closed()[0] == 1000


def test_who_comes_back_during_the_goodbye_stays(quiet: Stage) -> None:
    device = quiet.device()
    quiet.vendor.script(CHAT, Script(answer="Good night."))
    quiet.vendor.script(TTS, Script(answer=("wav", 10.0)))
    silence(quiet, 101)
    wait_for_sound(device)

    answer = ask(device, "wait, I am here")
    device.collect_answer()

    assert quiet.said()[-1] == ("user", "wait, I am here")
    assert answer.stopped_at is not None
    hear_nothing_more(device, 0.3)
    assert device.closed is None


def test_who_speaks_during_the_goodbye_stays(quiet: Stage, words: Words) -> None:
    device = quiet.device()
    device.listen_start("realtime")
    device.ping()
    quiet.vendor.script(CHAT, Script(answer="Good night."))
    quiet.vendor.script(TTS, Script(answer=("wav", 10.0)))
    silence(quiet, 101)
    wait_for_sound(device)

    utter(device, words(QUESTION), "realtime", start=False)

    assert len(device.collect_answer().frames) < 100
    assert device.collect_answer().stt == "what is up"
    hear_nothing_more(device, 0.3)
    assert device.closed is None


@pytest.mark.parametrize("script", [Script(status=400), Script(stall="before")])
def test_a_goodbye_that_fails_still_ends_the_visit(quiet: Stage, script: Script) -> None:
    device = quiet.device()
    quiet.vendor.stand(CHAT, script)
    silence(quiet, 101)
    quiet.wait_for(CHAT)

    silence(quiet, 101 + HARD_CLOSE_SECONDS)

    assert device.wait_closed()[0] == 1000
    assert device.replies.frames_received == 0, "nobody asked, so nobody gets an apology"


def test_without_an_end_prompt_it_just_closes(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(
        tmp_path, sounds, {"close_connection_no_voice_time": 100, "end_prompt": {"enable": False}}
    ) as stage:
        device = stage.device()
        silence(stage, 101)
        assert device.wait_closed()[0] == 1000
        assert stage.vendor.counts.get(CHAT, 0) == 0


def test_talking_puts_the_goodbye_off(quiet: Stage, words: Words) -> None:
    device = quiet.device()
    device.ping()
    connected = time.monotonic()
    speak_to(device, words(QUESTION))

    be_swept(quiet, connected + 100)
    device.ping()

    assert quiet.vendor.counts[CHAT] == 1
    assert device.closed is None


# --- calls, allowance -------------------------------------------------------------------------------------------------


def test_an_incoming_call_is_spoken(stage: Stage) -> None:
    device = stage.device()

    answer = ask(device, "[device_call] Grandma is calling.")

    assert answer.stt == "Grandma is calling."
    assert answer.sentences == ["Grandma is calling"]
    assert stage.vendor.counts.get(CHAT, 0) == 0
    ask(device, "who is it")
    assert stage.said() == [("user", "…"), ("assistant", "Grandma is calling."), ("user", "who is it")]


def test_the_daily_allowance_survives_a_restart(tmp_path: Path, sounds: Sounds) -> None:
    settings = {"device_max_output_size": 10, "quota_response": "Enough for today."}
    talker, other = "02:00:00:00:00:aa", "02:00:00:00:00:bb"
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device(device_id=talker)
        assert ask(device, "hello").sentences == ["Fine"]
        assert ask(device, "hello").sentences == ["Fine"]
        assert ask(device, "hello").sentences == ["Enough for today"]
        assert ask(stage.device(device_id=other), "hello").sentences == ["Fine"]
        chats = stage.vendor.counts[CHAT]
        assert chats == 3

    with open_stage(tmp_path, sounds, settings) as stage:
        assert ask(stage.device(device_id=talker), "hello").sentences == ["Enough for today"]
        assert ask(stage.device(device_id=other), "hello").sentences == ["Fine"]


def press(device: SimulatedDevice) -> None:
    """The button, pressed and released at once."""
    device.listen_start("manual")
    device.listen_stop()


def test_a_button_pressed_without_a_word_disturbs_nobody(stage: Stage, words: Words) -> None:
    device = stage.device()
    press(device)
    press(device)
    assert speak_to(device, words(QUESTION), "manual").stt == "what is up"
