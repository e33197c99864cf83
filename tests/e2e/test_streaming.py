"""The same conversation with vendors that stream: FunASR hears while the user speaks, Volcengine speaks while the model
writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds, hum
from tests.e2e.stage import (
    CHAT,
    Script,
    Stage,
    a_tool,
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
from tests.vendors.funasr_vendor import FunAsrVendor
from tests.vendors.volcengine_vendor import VolcengineVendor
from tests.waiting import wait_for
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome

Words = Callable[[str], Speech]
FIRST, SECOND = "tell me a long story", "and one more thing please"
APOLOGY = "So."


class QuickVoice(VolcengineVendor):
    """Speaks fast: `seconds` of sound per sentence, and no pause."""

    seconds = 0.12
    sounds: Sounds

    def sound_of(self, sentence: str, audio: dict[str, Any]) -> list[bytes]:
        if audio["format"] == "ogg_opus":
            return [self.sounds.body("opus", 0.25)]
        pcm = hum(self.seconds, audio["sample_rate"])
        return [pcm[start : start + 1_001] for start in range(0, len(pcm), 1_001)]


class Ensemble:
    """The stage and its two streaming vendors."""

    def __init__(self, stage: Stage, ears: FunAsrVendor, voice: QuickVoice) -> None:
        self.stage = stage
        self.ears = ears
        self.voice = voice


@contextmanager
def open_ensemble(directory: Path, sounds: Sounds, **voice: Any) -> Iterator[Ensemble]:
    with FunAsrVendor(sentences=["what ", "is up"]) as ears, QuickVoice(access_key="secret-key") as mouth:
        assert isinstance(mouth, QuickVoice)
        mouth.sounds = sounds
        block = {
            "type": "huoshan_double_stream",
            "ws_url": mouth.ws_url,
            "appid": "app",
            "access_token": "secret-key",
            "speaker": "zh_female_wanwanxiaohe_moon_bigtts",
            "enable_ws_reuse": False,  # so that every socket that is left after a test is a leak
            **voice,
        }
        settings = {
            "selected_module": {"ASR": "Fun", "TTS": "Huoshan"},
            "ASR": {"Fun": {"type": "fun_server", "host": "127.0.0.1", "port": ears.port, "is_ssl": False}},
            "TTS": {"Huoshan": block},
            "VAD": {"Ears": {"min_silence_duration_ms": 800, "pause_ms": 100}},
            "conversation": {"speculative": "llm"},
            "system_error_response": APOLOGY,
            "tts_timeout": 0.6,
            "ai_providers": {"tts": {"timeout": 0.5}, "asr": {"timeout": 0.5}},
        }
        with open_stage(directory, sounds, settings) as stage:
            yield Ensemble(stage, ears, mouth)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Ensemble]:
    with open_ensemble(tmp_path_factory.mktemp("data"), sounds) as ensemble:
        yield ensemble


@pytest.fixture
def ensemble(opened: Ensemble, _no_leaks: None) -> Iterator[Ensemble]:
    opened.stage.reset()
    opened.voice.sessions.clear()
    opened.voice.seconds = QuickVoice.seconds
    opened.ears.sentences = ["what ", "is up"]
    yield opened
    opened.stage.close_devices()
    assert opened.ears.faults == []
    assert opened.voice.faults == []


def texts(ensemble: Ensemble) -> list[list[str]]:
    """What each session of the voice was given to say."""
    return [session.texts for session in ensemble.voice.sessions]


def test_a_conversation(ensemble: Ensemble, words: Words) -> None:
    stage = ensemble.stage
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer="One. Two. Three.", gap=0.02))

    answer = speak_to(device, words(FIRST))

    assert answer.stt == "what is up"
    assert answer.sentences == ["One", "Two", "Three"]
    assert texts(ensemble) == [["One.", "Two.", "Three."]], "one session per reply"
    assert len(answer.frames) == 6
    assert bytes(ensemble.ears.audio)
    hear_nothing_more(device, 0.1)


def test_the_greeting_is_ready_made_here_too(ensemble: Ensemble) -> None:
    device = ensemble.stage.device()

    for _ in range(2):
        assert ask(device, "hello robot").frames

    assert ensemble.voice.sessions == []


def test_an_interrupt_cancels_the_session(ensemble: Ensemble) -> None:
    stage = ensemble.stage
    device = stage.device()
    stage.vendor.script(
        CHAT, Script(answer="Once upon a time there was a very old robot. It lived in a very small house in the woods.")
    )
    ensemble.voice.seconds = 5.0
    device.detect("tell me a story")
    wait_for_sound(device)

    device.abort()

    device.collect_answer()
    wait_for(lambda: ensemble.voice.sessions[0].end, "the end of the session")
    ensemble.voice.seconds = QuickVoice.seconds
    hear_nothing_more(device)
    assert ask(device, "and now").sentences == ["Fine"]
    assert stage.said()[1][0] == "assistant"
    assert stage.said()[1][1].startswith("Once upon a time")
    assert "small house" not in stage.said()[1][1]


def test_speech_that_goes_on_is_recognised_as_a_whole(ensemble: Ensemble, words: Words) -> None:
    stage = ensemble.stage
    device = stage.device()
    ensemble.ears.sentences = ["the first half"]
    stage.vendor.script(CHAT, Script(answer="A wrong answer, and a long one.", gap=0.05))
    utter(device, words(FIRST), silence_ms=300)
    stage.wait_for(CHAT)
    half = len(words(FIRST).pcm)
    assert not device.replies.messages

    ensemble.ears.sentences = ["the whole question"]
    utter(device, words(SECOND), start=False, silence_ms=1_200)

    answer = device.collect_answer()
    assert answer.stt == "the whole question"
    assert answer.sentences == ["Fine"]
    assert len(ensemble.ears.audio) > half + len(words(SECOND).pcm) * 0.8, (
        "the second recogniser hears the first half too"
    )
    assert stage.said() == [("user", "the whole question")]
    hear_nothing_more(device, 0.1)


def slowly(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
    """Takes longer than the voice may be silent."""
    gevent.sleep(1.2)  # sleep: the tool is slow
    return ToolOutcome(Action.ASK_LLM, "found")


def test_a_slow_tool_is_no_fault_of_the_voice(ensemble: Ensemble) -> None:
    """Not all vendors say where a sentence ends; while the voice waits for more words, all it has said is heard."""
    stage = ensemble.stage
    ensemble.voice.seconds = 0.65
    with stage.tools(a_tool("look", slowly)):
        device = stage.device()
        stage.vendor.script(CHAT, Script(answer=["Let me look.", tool_call("look")]), Script(answer="Here it is."))

        answer = ask(device, "where is it")

    assert answer.sentences == ["Let me look", "Here it is"]
    assert texts(ensemble) == [["Let me look.", "Here it is."]]
    first = [at for at in answer.arrivals if at < answer.arrivals[0] + 1.1]
    assert len(first) >= 10, "all 0.65 s of it came before the tool had ended, the last syllable included"


@pytest.mark.parametrize(
    "fault", ["session_failed", "stall_session", "stall_before", "drop", "stall_after", "garbage", "quota"]
)
def test_a_voice_that_fails(ensemble: Ensemble, fault: str) -> None:
    stage = ensemble.stage
    device = stage.device()
    ensemble.voice.once.append(fault)

    answer = ask(device, "hello")

    assert answer.sentences[-1] == shown(APOLOGY)
    assert answer.frames
    assert ask(device, "again").sentences == ["Fine"]


@pytest.mark.parametrize("fault", ["stall_before", "drop", "drop_at_end", "garbage_json"])
def test_ears_that_fail(ensemble: Ensemble, words: Words, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = ensemble.stage
    generation = stage.generation
    asr = generation.agent.providers.asr.inner  # type: ignore[attr-defined]
    monkeypatch.setattr(asr, "options", asr.options.model_copy(update={"timeout": 0.4}))
    device = stage.device()
    ensemble.ears.once.append(fault)

    answer = speak_to(device, words(FIRST))

    assert answer.sentences == [shown(APOLOGY)]
    assert speak_to(device, words(FIRST)).sentences == ["Fine"]


def test_opus_of_a_streaming_voice_is_passed_on(tmp_path: Path, sounds: Sounds) -> None:
    with open_ensemble(tmp_path, sounds, audio_params={"format": "ogg_opus", "sample_rate": 24_000}) as ensemble:
        stage = ensemble.stage
        device = stage.device()
        settle_phrases(stage)
        jobs = stage.server.inference.counts["codec"].done if "codec" in stage.server.inference.counts else 0

        answer = ask(device, "hello")

        assert answer.sentences == ["Fine"]
        assert len(answer.frames) >= 5
        done = stage.server.inference.counts["codec"].done if "codec" in stage.server.inference.counts else 0
        assert done == jobs
