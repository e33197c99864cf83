"""Answers are prepared during a pause, thrown away without a trace when speech goes on, and released when the silence
is long enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import ASR
from tests.e2e.stage import CHAT, TTS, Script, Stage, ask, hear_nothing_more, open_stage, utter
from tests.waiting import wait_for
from xiaozhi.runtime.watchdog import Shed

Words = Callable[[str], Speech]
FIRST, SECOND = "tell me a long story", "and one more thing please"
PAUSE = 300
"""Silence (ms) that is a pause here, but not an end."""
EARS = {"VAD": {"Ears": {"min_silence_duration_ms": 800, "pause_ms": 100}}}


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    return {**EARS, "conversation": {"speculative": "llm"}}


@pytest.fixture(scope="module")
def asr_stage(tmp_path_factory: pytest.TempPathFactory, sounds: Any) -> Any:
    with open_stage(
        tmp_path_factory.mktemp("data"), sounds, {**EARS, "conversation": {"speculative": "asr"}}
    ) as opened:
        yield opened


@pytest.fixture
def by_asr(asr_stage: Stage, _no_leaks: None) -> Any:
    asr_stage.reset()
    yield asr_stage
    asr_stage.close_devices()


def test_speech_goes_on_while_the_recogniser_works(by_asr: Stage, words: Words) -> None:
    """`asr`: the request about the first half is broken off; the whole utterance is asked and answered, once."""
    stage = by_asr
    device = stage.device()
    turns = sum(stage.outcomes().values())
    stage.vendor.script(ASR, Script(stall="before"))
    utter(device, words(FIRST), silence_ms=PAUSE)
    stage.wait_for(ASR)

    utter(device, words(SECOND), silence_ms=0, start=False)

    gone = stage.vendor.wait_gone()
    assert stage.vendor.kind(gone) == ASR
    device.send_silence(1_000, realtime=False)
    answer = device.collect_answer()
    assert answer.stt == "what is up"
    assert [message.type for message in answer.messages].count("stt") == 1
    whole = [request for request in stage.vendor.requests if stage.vendor.kind(request) == ASR][-1]
    assert len(whole.body) > len(gone.body) + len(words(SECOND).pcm) * 0.8
    assert stage.said() == [("user", "what is up")]
    assert stage.vendor.counts == {ASR: 2, CHAT: 1, TTS: stage.vendor.counts.get(TTS, 0)}
    assert sum(stage.outcomes().values()) == turns + 1
    hear_nothing_more(device, 0.1)


def test_asr_alone_asks_no_model_before_the_release(by_asr: Stage, words: Words) -> None:
    stage = by_asr
    device = stage.device()

    utter(device, words(FIRST), silence_ms=PAUSE)
    stage.wait_for(ASR)
    device.ping()
    assert stage.vendor.counts.get(CHAT, 0) == 0

    device.send_silence(1_000, realtime=False)
    assert device.collect_answer().sentences == ["Fine"]
    assert stage.vendor.counts[ASR] == 1, "what was prepared is used"


def test_speech_goes_on_while_the_model_answers(stage: Stage, words: Words) -> None:
    """`llm`: chat and speech of the first half are prepared and thrown away: no stt, no sound, no memory of it."""
    device = stage.device()
    discarded = stage.count("xiaozhi_speculations_total", fate="discarded")
    stage.vendor.script(ASR, Script(answer="the first half"), Script(answer="the whole question"))
    stage.vendor.script(
        CHAT, Script(answer="A wrong answer. It is long.", gap=0.05), Script(answer="The right answer.")
    )
    stage.vendor.script(TTS, Script(answer=("wav", 10.0), delay=0.2))
    utter(device, words(FIRST), silence_ms=PAUSE)
    stage.wait_for(TTS)
    assert not device.replies.messages, "nothing leaves the server before the release"

    utter(device, words(SECOND), start=False, silence_ms=0)
    gone = stage.vendor.wait_gone()
    assert stage.vendor.kind(gone) in (CHAT, TTS)
    device.send_silence(1_200, realtime=False)

    answer = device.collect_answer()
    assert answer.stt == "the whole question"
    assert answer.sentences == ["The right answer"]
    assert stage.said() == [("user", "the whole question")]
    assert stage.count("xiaozhi_speculations_total", fate="discarded") == discarded + 1
    ask(device, "and then?")
    assert stage.said() == [("user", "the whole question"), ("assistant", "The right answer."), ("user", "and then?")]
    hear_nothing_more(device, 0.1)


def test_what_was_prepared_is_released(stage: Stage, words: Words) -> None:
    """Speech is ready before the silence is long enough; then it comes with stt and tts start in front, and nothing is
    asked twice."""
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer="Prepared in time. And more. And still more."))
    utter(device, words(FIRST), silence_ms=PAUSE)
    stage.wait_for(TTS)
    device.ping()
    assert not device.replies.messages
    assert stage.spoken() == ["Prepared in time."], "one sentence is enough to begin with"

    device.send_silence(1_000, realtime=False)

    answer = device.collect_answer()
    kinds = [message.data.get("state") or message.type for message in answer.messages]
    assert kinds == ["stt", "start", "llm", "sentence_start", "sentence_start", "sentence_start", "stop"]
    assert answer.sentences == ["Prepared in time", "And more", "And still more"]
    assert stage.vendor.counts == {ASR: 1, CHAT: 1, TTS: 3}
    assert device.replies.stray == []


def test_tool_calls_wait_for_the_release(stage: Stage, words: Words) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "get_time", "arguments": "{}"}}
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[{"tool_calls": [call]}]), Script(answer="It is late."))
    utter(device, words(FIRST), silence_ms=PAUSE)
    stage.wait_for(CHAT)
    device.ping()
    assert stage.vendor.counts[CHAT] == 1, "the model is not asked with the result of a tool that must not run yet"

    device.send_silence(1_000, realtime=False)

    assert device.collect_answer().sentences == ["It is late"]
    assert [message["role"] for message in stage.messages()] == ["system", "user", "assistant", "tool"]


def test_a_prepared_answer_that_is_thrown_away_costs_no_allowance(tmp_path: Any, sounds: Any, words: Words) -> None:
    settings = {**EARS, "conversation": {"speculative": "llm"}, "device_max_output_size": 1_000}
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device()
        stage.forget_requests()
        stage.vendor.script(CHAT, Script(answer="Twelve chars. Twelve chars."), Script(answer="Four."))
        utter(device, words(FIRST), silence_ms=PAUSE)
        stage.wait_for(TTS)
        utter(device, words(SECOND), start=False, silence_ms=1_200)
        assert device.collect_answer().sentences == ["Four"]

        quota = stage.server.services.quota
        wait_for(lambda: quota.left(device.device_id) != 1_000, "the count")
        assert quota.left(device.device_id) == 1_000 - len("Four.")


def test_an_exit_command_is_not_answered_though_an_answer_was_prepared(
    tmp_path: Any, sounds: Any, words: Words
) -> None:
    with open_stage(
        tmp_path, sounds, {**EARS, "conversation": {"speculative": "llm"}, "exit_commands": ["go away"]}
    ) as stage:
        device = stage.device()
        stage.vendor.stand(ASR, Script(answer="Go away!"))
        utter(device, words(FIRST), silence_ms=1_200)

        assert device.wait_closed()[0] == 1000
        assert [message.type for message in device.replies.messages] == ["stt"]
        assert device.replies.frames_received == 0


def test_speculation_can_be_switched_off(tmp_path: Any, sounds: Any, words: Words) -> None:
    with open_stage(tmp_path, sounds, {**EARS, "conversation": {"speculative": "off"}}) as stage:
        device = stage.device()
        utter(device, words(FIRST), silence_ms=PAUSE)
        device.ping()
        assert stage.vendor.counts.get(ASR, 0) == 0

        device.send_silence(1_000, realtime=False)

        device.collect_answer()
        assert stage.vendor.counts[ASR] == 1


# --- what people have: a file with an end silence of 200 ms and no pause ----------------------------------------------

EXISTING = {"VAD": {"Ears": {"min_silence_duration_ms": 200, "pause_ms": None}}}
HINT_MS = 180
"""Silence in which the voice detector falls below its threshold, and not long enough to end an utterance."""


@pytest.mark.parametrize("speculative", ["asr", "llm"])
def test_an_existing_file_prepares_before_the_silence_is_over(
    tmp_path: Any, sounds: Any, words: Words, speculative: str
) -> None:
    with open_stage(tmp_path, sounds, {**EXISTING, "conversation": {"speculative": speculative}}) as stage:
        device = stage.device()
        stage.forget_requests()
        utter(device, words(FIRST), silence_ms=HINT_MS)
        stage.wait_for(TTS if speculative == "llm" else ASR)
        device.ping()
        assert not device.replies.messages
        assert stage.vendor.counts.get(CHAT, 0) == (speculative == "llm")

        device.send_silence(600, realtime=False)

        assert device.collect_answer().sentences == ["Fine"]
        assert stage.vendor.counts == {ASR: 1, CHAT: 1, TTS: 1}, "what was prepared is used"
        ask(device, "and then?")
        assert stage.said() == [("user", "what is up"), ("assistant", "Fine."), ("user", "and then?")]


def test_speech_with_pauses_costs_at_most_half_a_recognition_more(tmp_path: Any, sounds: Any, words: Words) -> None:
    """Somebody who hesitates twice in each sentence, for 60 to 240 ms beyond what the detector notices."""
    parts = [words(FIRST), words(SECOND), words(FIRST)]
    with open_stage(tmp_path, sounds, {"VAD": {"Ears": {"min_silence_duration_ms": 700, "pause_ms": 32}}}) as stage:
        device = stage.device()
        stage.forget_requests()
        sentences = 8
        for number in range(sentences):
            device.replies.forget_answers()
            device.listen_start()
            for part, hesitation in zip(parts, (300 + 60 * (number % 4), 240, 0), strict=True):
                device.send_frames(part.packets(device.frame_ms), realtime=False)
                if hesitation:
                    device.send_silence(hesitation, realtime=False)
            device.send_silence(1_200, realtime=False)
            device.collect_answer()

        discarded = stage.count("xiaozhi_speculations_total", fate="discarded")
        assert stage.outcomes() == {"answered": sentences}
        assert 1 <= discarded <= sentences / 2
        assert sentences < stage.vendor.counts[ASR] <= 1.5 * sentences


def test_an_abort_throws_away_what_was_prepared(stage: Stage, words: Words) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer="A wrong answer."))
    utter(device, words(FIRST), silence_ms=PAUSE)
    stage.wait_for(TTS)

    device.abort()
    device.listen_start()
    device.ping()

    assert ask(device, "something else").sentences == ["Fine"]
    assert stage.said() == [("user", "something else")]
    hear_nothing_more(device, 0.1)


def test_a_tool_that_a_discarded_preparation_wanted_is_never_run(stage: Stage, words: Words) -> None:
    """Not even told to the model again, nor remembered."""
    call = {"index": 0, "id": "c1", "function": {"name": "get_time", "arguments": "{}"}}
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[{"content": "Let me look. "}, {"tool_calls": [call]}]))
    utter(device, words(FIRST), silence_ms=PAUSE)
    stage.wait_for(TTS)
    device.ping()

    utter(device, words(SECOND), start=False, silence_ms=1_200)

    assert device.collect_answer().sentences == ["Fine"]
    assert stage.vendor.counts[CHAT] == 2
    assert [message["role"] for message in stage.messages()] == ["system", "user"]
    ask(device, "and then?")
    assert [message["role"] for message in stage.messages()] == ["system", "user", "assistant", "user"]


def test_nothing_is_prepared_while_load_is_shed(
    tmp_path: Any, sounds: Any, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_stage(tmp_path, sounds, {**EARS, "conversation": {"speculative": "llm"}}) as stage:
        device = stage.device()
        stage.forget_requests()
        monkeypatch.setattr(type(stage.server.watchdog), "shedding", Shed.TURNS)
        utter(device, words(FIRST), silence_ms=PAUSE)
        device.ping()

        device.send_silence(1_000, realtime=False)

        device.collect_answer()
        assert stage.outcomes() == {"overloaded": 1}
        assert stage.vendor.counts.get(CHAT, 0) == 0
        assert stage.count("xiaozhi_speculations_total", fate="discarded") == 0
