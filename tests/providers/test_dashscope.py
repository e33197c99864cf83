"""DashScope against strict services: what is sent, what comes back, kept connections, interrupts, every error code.

The official client's messages were taken once from the package dashscope 2.0.2 (it is too big for the tests)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from loadtest.vendors.sounds import Sounds, hum
from tests.fakes.inference import InlineInference
from tests.fakes.voice import speech_of
from tests.providers.dashscope_blocks import COSYVOICE, PARAFORMER, QWEN
from tests.providers.streamed import hear, seconds_by_sentence, speak, texts
from tests.vendors.dashscope_vendor import DashscopeVendor
from tests.waiting import wait_for
from xiaozhi.audio.decode import decoder_for
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.asr.aliyunbl_stream import AliyunBlStreamAsrOptions
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceBegins
from xiaozhi.providers.families.dashscope import failure, language_code
from xiaozhi.providers.registry import build, ignored, validate

CONTEXT = CallContext()
SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]
PCM = hum(1.05, 16_000)
SENTENCES = ("今天天气真不错。", "我们一起去公园散步吧！", "Good. ")
Build = Callable[..., Any]


@pytest.fixture
def vendor() -> Iterator[DashscopeVendor]:
    with DashscopeVendor() as running:
        yield running
        assert running.faults == []


@pytest.fixture
def make(vendor: DashscopeVendor) -> Iterator[Build]:
    made: list[Any] = []

    def make(kind: str, **block: Any) -> Any:
        type_name = {"asr": "aliyunbl_stream", "tts": "alibl_stream"}[kind]
        base = {"type": type_name, "api_key": "secret-key", "ws_url": vendor.ws_url}
        made.append(build(kind, "Dash", base | block, SERVICES))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


# --- blocks ---------------------------------------------------------------------------------------------------------


# From the existing server's config.yaml, with keys filled in.
@pytest.mark.parametrize(("kind", "block"), [("asr", PARAFORMER), ("asr", QWEN), ("tts", COSYVOICE)])
def test_the_blocks_of_existing_servers_work_unchanged(kind: str, block: dict[str, Any]) -> None:
    validate(kind, "Dash", block)
    warned = ignored(kind, "Dash", block)
    assert len(warned) == 1
    assert "output_dir" in warned[0]
    consoles = dict.fromkeys(("workspace", "language", "vocabulary_id", "private_voice", "ttsRate", "context"), "")
    validate(kind, "Dash", block | consoles)
    for key in ("", None, "你的阿里云百炼API密钥"):
        with pytest.raises(SettingsError) as caught:
            validate(kind, "Dash", block | {"api_key": key})
        assert caught.value.faults[0].key.endswith("Dash.api_key")


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("asr", {"format": "mp3"}),
        ("asr", {"sample_rate": 48_000}),
        ("asr", {"max_sentence_silence": 100}),
        ("asr", {"ws_url": "https://x/"}),
        ("asr", {"idle_seconds": 60}),
        ("tts", {"volume": 101}),
        ("tts", {"rate": 0.4}),
        ("tts", {"format": "flac"}),
    ],
)
def test_what_the_vendor_would_refuse_is_refused_at_the_start(kind: str, fault: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(kind, "Dash", (PARAFORMER if kind == "asr" else COSYVOICE) | fault)
    assert caught.value.faults[0].key.endswith(next(iter(fault)))


# --- the official client --------------------------------------------------------------------------------------------

OFFICIAL_ASR = (
    '{"header": {"streaming": "duplex", "task_id": "b5f55ae3a73d413685225b9368514764", "action": "run-task"}, '
    '"payload": {"model": "paraformer-realtime-v2", "parameters": {"sample_rate": 16000, "format": "pcm", '
    '"semantic_punctuation_enabled": false, "max_sentence_silence": 200, "multi_threshold_mode_enabled": false, '
    '"punctuation_prediction_enabled": true, "inverse_text_normalization_enabled": true, "vocabulary_id": "vocab-1", '
    '"language_hints": ["zh", "en"], "disfluency_removal_enabled": false}, "input": {}, "task": "asr", '
    '"task_group": "audio", "function": "recognition"}}'
)
OFFICIAL_TTS = (
    '{"header": {"action": "run-task", "task_id": "00000000000000000000000000000000", "streaming": "duplex"}, '
    '"payload": {"model": "cosyvoice-v2", "task_group": "audio", "task": "tts", "function": "SpeechSynthesizer", '
    '"input": {}, "parameters": {"voice": "longcheng_v2", "volume": 60, "text_type": "PlainText", '
    '"sample_rate": 24000, "rate": 1.2, "format": "pcm", "pitch": 0.9, "seed": 0, "type": 0}}}'
)


def test_run_task_is_what_the_official_client_sends(vendor: DashscopeVendor, make: Build) -> None:
    hear(make("asr", vocabulary_id="vocab-1", language_hints=["zh", "en"]).open(CONTEXT), PCM)
    assert vendor.tasks[0].request == json.loads(OFFICIAL_ASR)["payload"]
    voice = make("tts", voice="longcheng_v2", volume=60, rate=1.2, pitch="0.9")
    speak(voice.open(CONTEXT), "你好。")
    official = json.loads(OFFICIAL_TTS)["payload"]
    assert (official["parameters"].pop("seed"), official["parameters"].pop("type")) == (0, 0)  # what they are anyway
    assert vendor.tasks[1].request == official
    assert vendor.headers["authorization"] == "Bearer secret-key"
    assert vendor.headers["x-dashscope-datainspection"] == "enable"


# --- hearing --------------------------------------------------------------------------------------------------------


def test_sentences_grow_and_are_joined(vendor: DashscopeVendor, make: Build) -> None:
    stream = make("asr").open(CONTEXT)
    partials: list[str] = []
    for number, start in enumerate(range(0, len(PCM), 3200)):
        stream.feed(PCM[start : start + 3200])
        if number in (1, 3):
            before = partials[-1] if partials else ""
            wait_for(lambda before=before: stream.partial not in (before, before + "现", before + "几"), "a sentence")
            partials.append(stream.partial)
    assert partials == ["现在", "现在几点了？"]
    assert stream.finish() == Transcript("现在几点了？")
    task = vendor.tasks[0]
    assert bytes(task.audio) == PCM
    assert set(task.pieces[:-1]) == {3200}
    assert task.pieces[-1] == len(PCM) % 3200


def test_sentences_of_scripts_with_blanks(vendor: DashscopeVendor, make: Build) -> None:
    vendor.sentences = ["Hello.", "How are you?"]
    assert hear(make("asr").open(CONTEXT), PCM).text == "Hello. How are you?"


def test_models_for_8_khz_get_8_khz(vendor: DashscopeVendor, make: Build) -> None:
    asr = make("asr", model="paraformer-realtime-8k-v2", sample_rate="8000")
    assert hear(asr.open(CONTEXT), PCM).text == "现在几点了？"
    heard = np.frombuffer(bytes(vendor.tasks[0].audio), "<i2")
    assert len(heard) == len(PCM) // 4
    assert vendor.tasks[0].request["parameters"]["sample_rate"] == 8000
    # It sounds the same: as loud as every second sample of what was said.
    assert np.abs(heard).mean() == pytest.approx(np.abs(np.frombuffer(PCM, "<i2")[::2]).mean(), rel=0.05)


def test_other_models_get_what_the_block_sets(vendor: DashscopeVendor, make: Build) -> None:
    hear(make("asr", model="fun-asr-realtime", max_sentence_silence=800, language="zh").open(CONTEXT), PCM)
    assert vendor.tasks[0].request["parameters"] == {
        "format": "pcm",
        "sample_rate": 16000,
        "max_sentence_silence": 800,
        "language_hints": ["zh"],
    }
    options = validate("asr", "Dash", PARAFORMER | {"model": "fun-asr-realtime", "language_hints": "auto"})
    assert isinstance(options, AliyunBlStreamAsrOptions)
    sent = options.request()["parameters"]
    assert "language_hints" not in sent
    assert sent["punctuation_prediction_enabled"] is True  # it is in the block


@pytest.mark.parametrize("code", ["NO_INPUT_AUDIO_ERROR", "NO_VALID_AUDIO_ERROR"])
def test_nobody_spoke(vendor: DashscopeVendor, make: Build, code: str) -> None:
    vendor.once.append(f"failed:{code}")
    assert hear(make("asr").open(CONTEXT), PCM[:3200]) == Transcript("")


@pytest.mark.parametrize(
    ("language", "code"),
    [("zh", "zh"), ("zh-CN", "zh"), ("en_US", "en"), ("英语", "en"), ("四川话", ""), ("auto", ""), ("", "")],
)
def test_languages(language: str, code: str) -> None:
    assert language_code(language) == code


# --- speaking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marked", [True, False])
def test_sentences_and_sound(vendor: DashscopeVendor, make: Build, marked: bool) -> None:
    vendor.marked = marked
    events = speak(make("tts").open(CONTEXT), *SENTENCES)
    assert texts(events) == list(SENTENCES)
    exact = {SENTENCES[0]: 7 * 0.19 + 0.3, SENTENCES[1]: 10 * 0.19 + 0.3, SENTENCES[2]: 4 * 0.4 * 0.19 + 0.3}
    assert seconds_by_sentence(events) == pytest.approx(exact, abs=0.01 if marked else 0.4)
    assert all(len(event.data) % 2 == 0 and event.rate == 24_000 for event in events if isinstance(event, Pcm))
    assert vendor.tasks[0].texts == [SENTENCES[0], SENTENCES[1], SENTENCES[2] + " "]
    assert vendor.tasks[0].end == "finished"


def test_marks_are_better_than_the_pace(vendor: DashscopeVendor, make: Build) -> None:
    vendor.slowness = 3.0  # by the sound alone, the second sentence would begin in the first one
    events = speak(make("tts").open(CONTEXT), *SENTENCES)
    exact = {SENTENCES[0]: 7 * 0.57 + 0.3, SENTENCES[1]: 10 * 0.57 + 0.3, SENTENCES[2]: 4 * 0.4 * 0.57 + 0.3}
    assert seconds_by_sentence(events) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("form", ["opus", "mp3", "wav"])
def test_other_formats(vendor: DashscopeVendor, make: Build, form: str) -> None:
    events = speak(make("tts", format=form).open(CONTEXT), "今天天气真不错。")
    assert any(isinstance(event, OpusPackets) for event in events) is (form == "opus")
    spoken = sum(seconds_by_sentence(events).values())
    assert spoken == pytest.approx(7 * 0.19 + 0.3, abs=0.2)
    if form == "mp3":  # to the last sample
        decoder = decoder_for("mp3", 24_000)
        whole = decoder.feed(Sounds().body("mp3", 7 * 0.19 + 0.3)) + decoder.finish()
        assert spoken == pytest.approx(len(whole) / 48_000, abs=0.001)


def test_the_consoles_scales_and_languages(vendor: DashscopeVendor, make: Build) -> None:
    voice = make(
        "tts",
        private_voice="v-1",
        voice="v-0",
        ttsRate=100,
        ttsVolume="-50",
        ttsPitch=-100,
        language="英语",
        parameters={"instruction": "cheerful"},
    )
    speak(voice.open(CONTEXT), "Hello.")
    sent = vendor.tasks[0].request["parameters"]
    assert (sent["voice"], sent["rate"], sent["volume"], sent["pitch"]) == ("v-1", 2.0, 25, 0.5)
    assert (sent["language_hints"], sent["instruction"]) == (["en"], "cheerful")
    speak(make("tts", language="四川话").open(CONTEXT), "你好。")
    assert "language_hints" not in vendor.tasks[1].request["parameters"]


def test_no_task_is_finished_without_text(vendor: DashscopeVendor, make: Build) -> None:
    assert speak(make("tts").open(CONTEXT)) == []
    wait_for(lambda: vendor.tasks[0].end == "lost", "the end of the task")


# --- connections ----------------------------------------------------------------------------------------------------


def use(kind: str, provider: Any) -> Any:
    stream = provider.open(CONTEXT)
    return hear(stream, PCM).text if kind == "asr" else texts(speak(stream, "你好。"))


WHOLE: dict[str, Any] = {"asr": "现在几点了？", "tts": ["你好。"]}


@pytest.mark.parametrize("kind", ["asr", "tts"])
def test_connections_are_used_again(vendor: DashscopeVendor, make: Build, kind: str) -> None:
    provider = make(kind)
    for _ in range(3):
        assert use(kind, provider) == WHOLE[kind]
    assert vendor.connections == 1
    assert len({task.id for task in vendor.tasks}) == 3
    provider.close()
    wait_for(lambda: not vendor.open, "the connection to be closed")


@pytest.mark.parametrize("kind", ["asr", "tts"])
def test_messages_of_another_task_are_passed_over(vendor: DashscopeVendor, make: Build, kind: str) -> None:
    vendor.fault = "stale"
    assert use(kind, make(kind)) == WHOLE[kind]


@pytest.mark.parametrize("kind", ["asr", "tts"])
def test_connections_are_given_up_before_the_vendor_does(vendor: DashscopeVendor, make: Build, kind: str) -> None:
    assert use(kind, make(kind, idle_seconds=0.05)) == WHOLE[kind]
    wait_for(lambda: not vendor.open, "the connection to be closed")
    assert use(kind, make(kind, idle_connections=0)) == WHOLE[kind]
    wait_for(lambda: not vendor.open, "the connection to be closed")


@pytest.mark.parametrize("kind", ["asr", "tts"])
def test_a_dead_idle_connection_is_replaced(vendor: DashscopeVendor, make: Build, kind: str) -> None:
    vendor.fault = "drop_idle"
    provider = make(kind)
    for _ in range(3):
        assert use(kind, provider) == WHOLE[kind]
    assert vendor.connections == 3


def test_a_task_that_fails_at_its_start_is_tried_on_a_new_connection(vendor: DashscopeVendor, make: Build) -> None:
    asr = make("asr")
    assert use("asr", asr) == WHOLE["asr"]
    vendor.once.append("start:InternalError")
    assert use("asr", asr) == WHOLE["asr"]
    assert vendor.connections == 2
    vendor.once.extend(["start:InternalError", "start:InternalError"])
    with pytest.raises(VendorUnavailable):
        use("asr", asr)


def test_a_task_that_is_over_leaves_its_connection_alone(vendor: DashscopeVendor, make: Build) -> None:
    voice = make("tts")
    task = voice.duplex.start(voice.options.request())
    task.send_text("你好。")
    task.send_end()
    assert bytes in map(type, list(voice.duplex.read(task)))
    task.hang_up()
    for late in (task.send_end, lambda: task.send_text("再见。"), lambda: task.send_sound(b"12")):
        with pytest.raises(VendorUnavailable):
            late()
    assert use("tts", voice) == WHOLE["tts"]
    assert vendor.connections == 1


def test_a_task_is_ended_where_text_pauses(vendor: DashscopeVendor, make: Build) -> None:
    stream = make("tts", text_pause=0.05).open(CONTEXT)
    with contextlib.closing(stream):
        events = speech_of(stream)
        stream.say("等一下。")
        assert next(events) == SentenceBegins("等一下。")
        wait_for(lambda: vendor.tasks[0].end == "finished", "the end of the first task")
        stream.say("好了。")
        stream.finish()
        assert texts(list(events)) == ["好了。"]
    assert len(vendor.tasks) == 2
    assert vendor.connections == 1


def test_an_interrupt_hangs_up(vendor: DashscopeVendor, make: Build) -> None:
    vendor.fault = "stall_after"
    voice = make("tts")
    stream = voice.open(CONTEXT)
    stream.say(SENTENCES[0])
    events = speech_of(stream)
    assert next(events) == SentenceBegins(SENTENCES[0])
    stream.close()
    wait_for(lambda: vendor.tasks[0].end == "lost", "the vendor to notice")
    vendor.fault = ""
    assert use("tts", voice) == WHOLE["tts"]


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("InvalidApiKey", "Invalid API-key provided.", VendorRejected),
        ("Arrearage", "Access denied, please make sure your account is in good standing.", VendorRejected),
        ("AccessDenied.Unpurchased", "Access to model denied.", VendorRejected),
        ("AllocationQuota.FreeTierOnly", "The free tier of the model has been exhausted.", VendorRejected),
        ("ModelNotFound", "Model can not be found.", VendorRejected),
        ("InvalidParameter", "[tts:]Engine return error code: 418", VendorRejected),
        ("DataInspectionFailed", "Input data may contain inappropriate content.", VendorRejected),
        ("CLIENT_ERROR", "no valid audio", VendorRejected),
        ("Throttling.RateQuota", "Requests rate limit exceeded, please try again later.", VendorBusy),
        ("Throttling", "Too many requests.", VendorBusy),
        ("CLIENT_ERROR", "Requests rate limit exceeded", VendorBusy),
        ("CLIENT_ERROR", "request timeout after 23 seconds.", VendorTimeout),
        ("RequestTimeOut", "Request timed out, please try again later.", VendorTimeout),
        ("ResponseTimeout", "Response timeout!", VendorTimeout),
        ("InternalError.Algo", "An internal error has occured.", VendorUnavailable),
        ("ModelUnavailable", "Model is unavailable, please try again later.", VendorUnavailable),
        ("SomethingNew", "", VendorUnavailable),
    ],
)
def test_error_codes(code: str, message: str, expected: type[VendorError]) -> None:
    error = failure("dash", code, f"{message} (secret-key)", ("secret-key",))
    assert type(error) is expected
    assert code in error.message
    assert "secret-key" not in str(error) + error.details


@pytest.mark.parametrize("kind", ["asr", "tts"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("start:InvalidApiKey", VendorRejected),
        ("failed:ModelNotFound", VendorRejected),
        ("failed:Throttling.RateQuota", VendorBusy),
        ("failed:InternalError", VendorUnavailable),
        ("stall_start", VendorTimeout),
        ("stall_before", VendorTimeout),
        ("stall_after", VendorTimeout),
        ("drop", VendorUnavailable),
        ("garbage", VendorGarbage),
        ("garbage_json", VendorGarbage),
        ("sound_first", VendorGarbage),
    ],
)
def test_faults(vendor: DashscopeVendor, make: Build, kind: str, fault: str, expected: type[VendorError]) -> None:
    provider = make(kind, timeout=0.2, connect_timeout=0.3)
    vendor.once.append(fault)
    with pytest.raises(expected) as caught:
        use(kind, provider)
    assert "secret-key" not in str(caught.value)
    wait_for(lambda: not vendor.open, "the connection to be closed")
    assert use(kind, provider) == WHOLE[kind]


# --- Qwen3-ASR-Flash ------------------------------------------------------------------------------------------------
