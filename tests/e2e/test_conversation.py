"""A question is heard, answered and played: in every mode, framing, frame length and format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import VendorRequest
from loadtest.vendors.openai_vendor import ASR, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import (
    CHAT,
    QUARTER,
    SHORT,
    TTS,
    Script,
    Stage,
    ask,
    hear_nothing_more,
    open_stage,
    speak_to,
    utter,
)
from tests.subtitles import shown
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import packet_duration_ms

Words = Callable[[str], Speech]
QUESTION = "what is up with you"
HALF_A_SECOND = Script(answer=("wav", 0.5))


@pytest.mark.parametrize("mode", ["auto", "manual", "realtime"])
def test_every_mode_completes_and_the_next_question_too(stage: Stage, words: Words, mode: str) -> None:
    device = stage.device()
    stage.vendor.stand(TTS, QUARTER)
    stage.vendor.stand(CHAT, Script(answer="I am fine. How are you?"))

    for _ in range(2):
        answer = speak_to(device, words(QUESTION), mode)

        assert answer.stt == "what is up"
        assert answer.sentences == ["I am fine", "How are you?"]
        assert len(answer.frames) == 10, "two sentences of a quarter of a second"
        kinds = [message.data.get("state") or message.type for message in answer.messages]
        assert kinds == ["stt", "start", "llm", "sentence_start", "sentence_start", "stop"]
    hear_nothing_more(device, 0.1)


def test_the_recogniser_gets_the_whole_utterance(stage: Stage, words: Words) -> None:
    speak_to(stage.device(), words(QUESTION))

    heard = next(request for request in stage.vendor.requests if stage.vendor.kind(request) == ASR)
    seconds = (len(heard.body) - 44) / 32_000
    assert words(QUESTION).duration_ms / 1000 < seconds < words(QUESTION).duration_ms / 1000 + 1.5, (
        "the voice, pre-roll and some silence"
    )


def test_typed_text_is_answered(stage: Stage) -> None:
    answer = ask(stage.device(), "what is one and one")

    assert answer.stt == "what is one and one"
    assert answer.sentences == ["Fine"]
    assert stage.said() == [("user", "what is one and one")]


def test_sentences_come_in_order_while_the_next_ones_are_made(stage: Stage) -> None:
    """The second sentence is ready long before the first and third: it must not overtake the first, nor leave the third
    behind."""
    stage.vendor.stand(CHAT, Script(answer="One is here. Two is here. Three is here.", gap=0.01))
    stage.vendor.script(TTS, replace(SHORT, delay=0.3), SHORT, replace(SHORT, delay=0.1))

    answer = ask(stage.device(), "count")

    assert answer.sentences == ["One is here", "Two is here", "Three is here"]
    assert sorted(map(shown, stage.spoken())) == sorted(answer.sentences)


def test_speech_starts_before_the_model_has_finished(stage: Stage) -> None:
    """The first sentence is played while the model is silent in the middle of its answer."""
    device = stage.device()
    thinking = Event()

    def pieces() -> Iterator[str]:
        yield "Wait a moment. Let me think"
        thinking.wait(timeout=PATIENCE_S)
        yield " about that."

    stage.vendor.script(CHAT, Script(answer=pieces()))
    device.detect("think hard")

    device.wait_until(lambda: device.replies.frames_received, PATIENCE_S, "the first sentence")
    assert device.replies.answer.sentences == ["Wait a moment"]
    thinking.set()
    assert device.collect_answer().sentences == ["Wait a moment", "Let me think about that"]


def test_the_last_words_are_heard(stage: Stage) -> None:
    """tts stop comes when the device has had time to play the last frame, not when the last frame was sent."""
    device = stage.device()
    stage.vendor.stand(TTS, HALF_A_SECOND)
    stage.vendor.stand(CHAT, Script(answer="These are my last words."))

    answer = ask(device, "speak")

    assert answer.stopped_at is not None
    played_until = answer.arrivals[0] + len(answer.frames) * 0.060
    assert answer.stopped_at >= played_until - 0.02


@pytest.mark.parametrize("frame_ms", [20, 40, 60])
def test_frame_durations(stage: Stage, words: Words, frame_ms: int) -> None:
    stage.vendor.stand(TTS, HALF_A_SECOND)
    stage.vendor.stand(CHAT, Script(answer=f"This is about {frame_ms}."))
    device = stage.device(frame_ms=frame_ms)
    assert device.hello_reply is not None
    assert device.hello_reply.frame_ms == frame_ms

    answer = speak_to(device, words(QUESTION))

    assert {packet_duration_ms(frame) for frame in answer.frames} == {frame_ms}
    assert 0.5 <= len(answer.frames) * frame_ms / 1000 <= 0.62
    assert len(answer.pcm()) / 2 / 24_000 == pytest.approx(len(answer.frames) * frame_ms / 1000)


@pytest.mark.parametrize(
    "framing", [{"protocol_version": 1}, {"protocol_version": 2}, {"protocol_version": 3}, {"gateway": True}]
)
def test_framings(stage: Stage, words: Words, framing: dict[str, object]) -> None:
    device = stage.device(**framing)

    answer = speak_to(device, words(QUESTION))

    assert answer.stt == "what is up"
    assert len(answer.pcm()) >= 24_000 * 2 * 0.06
    assert device.replies.bad_frames == []


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_device_that_speaks_and_hears_pcm(stage: Stage, words: Words, rate: int) -> None:
    import soxr

    device = stage.device(audio_params={"format": "pcm", "sample_rate": rate, "channels": 1, "frame_duration": 60})
    assert device.hello_reply is not None
    assert (device.hello_reply.audio_format, device.hello_reply.sample_rate) == ("pcm", 24_000)
    import numpy as np

    pcm = soxr.resample(np.frombuffer(words(QUESTION).pcm, "<i2"), 16_000, rate).astype("<i2").tobytes() + bytes(rate)
    size = rate * 60 // 1000 * 2

    device.listen_start("auto")
    for start in range(0, len(pcm), size):
        device.send_binary(pcm[start : start + size])
    answer = device.collect_answer()

    assert answer.stt == "what is up"
    assert {len(frame) for frame in answer.frames} == {24_000 * 60 // 1000 * 2}
    assert 0.06 <= len(answer.pcm()) / 48_000 <= 0.13


@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 48_000])
def test_downlink_sample_rates(tmp_path: Path, sounds: Sounds, rate: int) -> None:
    with open_stage(tmp_path, sounds, {"xiaozhi": {"audio_params": {"sample_rate": rate}}}) as stage:
        device = stage.device()
        stage.vendor.stand(TTS, QUARTER)
        assert device.hello_reply is not None
        assert device.hello_reply.sample_rate == rate

        answer = ask(device, "speak")

        assert answer.sample_rate == rate
        assert 0.25 <= len(answer.pcm()) / 2 / rate <= 0.37


def test_two_devices_at_once_get_their_own_answers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_by_question(self: OpenAiVendor, request: VendorRequest, script: Script) -> object:
        question = request.json()["messages"][-1]["content"]
        return original(self, request, Script(answer=f"You said {question}."))

    original = OpenAiVendor.chat
    monkeypatch.setattr(OpenAiVendor, "chat", answer_by_question)
    devices = {name: stage.device() for name in ("apple", "banana", "cherry")}

    answers = {name: gevent.spawn(ask, device, name) for name, device in devices.items()}
    gevent.joinall(answers.values(), raise_error=True)

    for name, asked in answers.items():
        assert asked.value.stt == name
        assert asked.value.sentences == [f"You said {name}"]


def test_a_short_noise_is_no_question(stage: Stage, words: Words) -> None:
    device = stage.device()
    noise = words(QUESTION).packets()[:6]

    device.listen_start("auto")
    device.send_frames(noise, realtime=False)
    device.send_silence(2_000, realtime=False)
    device.ping()

    assert stage.vendor.counts.get(ASR, 0) == 0
    assert speak_to(device, words(QUESTION)).stt == "what is up"


def test_speech_that_nobody_understands_is_not_answered(stage: Stage, words: Words) -> None:
    device = stage.device()
    stage.vendor.script(ASR, Script(answer=""))
    before = stage.outcomes().get("unheard", 0)

    utter(device, words(QUESTION))
    stage.wait_for(ASR)
    device.ping()
    answer = speak_to(device, words(QUESTION))

    assert answer.sentences == ["Fine"]
    assert stage.vendor.counts[CHAT] == 1
    assert stage.outcomes()["unheard"] == before + 1


def test_hello_again_begins_anew(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(TTS, Script(answer=("wav", 10.0)))
    device.detect("tell me a story")
    device.wait_until(lambda: device.replies.frames_received >= 3, PATIENCE_S, "sound")

    device.hello(audio_params={"frame_duration": 20})

    device.next_json("tts", state="stop")
    answer = ask(device, "and now")
    assert {packet_duration_ms(frame) for frame in answer.frames} == {20}
    hear_nothing_more(device, 0.1)
