"""Volcengine's bidirectional speech against a strict service: frames, sessions, reuse, interrupts, both generations,
every fault."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gevent
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fakes.voice import speech_of
from tests.providers.streamed import seconds_by_sentence, speak, texts
from tests.vendors.volcengine_vendor import VolcengineVendor
from tests.waiting import PATIENCE_S, wait_for
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
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceBegins
from xiaozhi.providers.families.sentence_boundaries import Boundaries
from xiaozhi.providers.registry import validate
from xiaozhi.providers.tts.huoshan_double_stream import HuoshanTts

CONTEXT = CallContext(device_id="aa:bb")
V2 = {"resource_id": "seed-tts-2.0", "speaker": "zh_female_xiaohe_uranus_bigtts"}


@pytest.fixture
def vendor() -> Iterator[VolcengineVendor]:
    with VolcengineVendor() as running:
        yield running
        assert running.faults == []


@pytest.fixture
def closing() -> Iterator[list[HuoshanTts]]:
    made: list[HuoshanTts] = []
    yield made
    for tts in made:
        tts.close()


def tts_for(vendor: VolcengineVendor, closing: list[HuoshanTts], **block: object) -> HuoshanTts:
    base = {
        "type": "huoshan_double_stream",
        "ws_url": vendor.ws_url,
        "appid": "app",
        "access_token": "token-123",
        "speaker": "zh_female_wanwanxiaohe_moon_bigtts",
    }
    tts = HuoshanTts(validate("tts", "Huoshan", base | block))  # type: ignore[arg-type]
    closing.append(tts)
    return tts


SENTENCES = ("今天天气真不错。", "我们一起去公园散步吧！", "好。")
# What the vendor makes of them: 0.19 s per character and 0.3 s of pause.
EXACT = {"今天天气真不错。": 7 * 0.19 + 0.3, "我们一起去公园散步吧！": 10 * 0.19 + 0.3, "好。": 0.19 + 0.3}


def test_first_generation_sentences_and_sound(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    events = speak(tts_for(vendor, closing).open(CONTEXT), *SENTENCES)
    assert isinstance(events[0], SentenceBegins)
    assert all(len(event.data) % 2 == 0 and event.rate == 24_000 for event in events if isinstance(event, Pcm))
    assert texts(events) == list(SENTENCES)
    assert seconds_by_sentence(events) == pytest.approx(EXACT, abs=0.01)
    session = vendor.sessions[0]
    assert session.texts == list(SENTENCES)
    assert session.end == "finished"
    assert session.request["audio_params"]["format"] == "pcm"


def test_second_generation_finds_the_sentences_in_the_sound(
    vendor: VolcengineVendor, closing: list[HuoshanTts]
) -> None:
    events = speak(tts_for(vendor, closing, **V2).open(CONTEXT), *SENTENCES)
    assert texts(events) == list(SENTENCES)
    assert seconds_by_sentence(events) == pytest.approx(EXACT, abs=0.35)


def test_sound_comes_while_text_is_still_going_in(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    stream = tts_for(vendor, closing).open(CONTEXT)
    events = speech_of(stream)
    stream.say(SENTENCES[0])
    assert next(events) == SentenceBegins(SENTENCES[0])
    assert isinstance(next(events), Pcm)
    stream.say(SENTENCES[1])
    stream.finish()
    assert texts(list(events)) == [SENTENCES[1]]
    stream.close()


@pytest.mark.parametrize("block", [{}, V2])
def test_sentences_the_vendor_joins_are_all_announced_in_order(
    vendor: VolcengineVendor, closing: list[HuoshanTts], block: dict[str, str]
) -> None:
    vendor.merge = True
    events = speak(tts_for(vendor, closing, **block).open(CONTEXT), *SENTENCES)
    assert texts(events) == list(SENTENCES)
    assert seconds_by_sentence(events) == pytest.approx(EXACT, abs=0.5)


def test_opus_is_passed_through(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    tts = tts_for(vendor, closing, audio_params={"format": "ogg_opus"})
    events = speak(tts.open(CONTEXT), *SENTENCES)
    assert texts(events) == list(SENTENCES)
    assert {event.frame_ms for event in events if isinstance(event, OpusPackets)} == {20.0}
    assert seconds_by_sentence(events) == pytest.approx(EXACT, abs=0.3)


def test_compressed_payloads(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    vendor.zip = True
    assert texts(speak(tts_for(vendor, closing).open(CONTEXT), *SENTENCES)) == list(SENTENCES)


def test_connections_are_used_again(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    tts = tts_for(vendor, closing)
    for _ in range(3):
        speak(tts.open(CONTEXT), "你好。")
    assert vendor.connections == 1
    assert len({session.id for session in vendor.sessions}) == 3
    first, second = tts.open(CONTEXT), tts.open(CONTEXT)
    assert vendor.connections == 2
    speak(first, "一。")
    speak(second, "二。")
    tts.close()
    tts.close()
    assert {session.end for session in vendor.sessions} == {"finished"}


def test_no_reuse_when_it_is_switched_off_or_too_many_rest(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    tts = tts_for(vendor, closing, enable_ws_reuse="false")
    for _ in range(2):
        speak(tts.open(CONTEXT), "你好。")
    assert vendor.connections == 2
    few = tts_for(vendor, closing, idle_connections=1)
    streams = [few.open(CONTEXT) for _ in range(3)]
    for stream in streams:
        speak(stream, "你好。")
    wait_for(lambda: vendor.open == 1)


def test_idle_connections_are_given_up_in_time(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    speak(tts_for(vendor, closing, idle_seconds=0.1).open(CONTEXT), "你好。")
    wait_for(lambda: not vendor.open)


def test_a_dead_idle_connection_is_replaced(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    vendor.fault = "drop_idle"
    tts = tts_for(vendor, closing)
    for _ in range(3):
        assert texts(speak(tts.open(CONTEXT), "你好。")) == ["你好。"]
    assert vendor.connections == 3


@pytest.mark.parametrize("block", [{}, V2])
def test_an_interrupt_cancels_the_session_and_keeps_the_connection(
    vendor: VolcengineVendor, closing: list[HuoshanTts], block: dict[str, str]
) -> None:
    tts = tts_for(vendor, closing, **block)
    vendor.fault = "stall_after"
    stream = tts.open(CONTEXT)
    stream.say(SENTENCES[0])
    events = speech_of(stream)
    assert next(events) == SentenceBegins(SENTENCES[0])
    stream.close()
    stream.close()
    with pytest.raises(VendorUnavailable):
        next(events)
    with pytest.raises(VendorUnavailable):
        stream.say(SENTENCES[1])
    wait_for(lambda: vendor.sessions[0].end == "canceled" and tts.lines.idle)
    vendor.fault = ""
    assert texts(speak(tts.open(CONTEXT), SENTENCES[1])) == [SENTENCES[1]]
    assert vendor.connections == 1


def test_an_interrupt_after_the_last_text_hangs_up(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    vendor.fault = "stall_before"
    stream = tts_for(vendor, closing).open(CONTEXT)
    stream.say("你好。")
    stream.finish()
    stream.close()
    assert vendor.wait_gone()
    assert vendor.sessions[0].end == "lost"
    with pytest.raises(VendorUnavailable):
        stream.receive(1)


def test_killing_the_reader_frees_the_vendor(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    vendor.fault = "stall_after"
    stream = tts_for(vendor, closing).open(CONTEXT)
    stream.say("你好。")
    began = gevent.event.Event()

    def receive() -> None:
        with contextlib.closing(stream):
            for _ in speech_of(stream):
                began.set()

    reader = gevent.spawn(receive)
    assert began.wait(PATIENCE_S)
    reader.kill()
    wait_for(lambda: vendor.sessions[0].end == "canceled")


def test_the_vendor_is_given_few_sentences_ahead(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    vendor.merge = True  # it takes text, and speaks at the end
    with contextlib.closing(tts_for(vendor, closing).open(CONTEXT)) as stream:
        for number in range(30):
            stream.say(f"这是第{number}句话。")
        wait_for(lambda: len(vendor.sessions[0].texts) == 8)
        assert stream.receive(0.05) is None
        assert len(vendor.sessions[0].texts) == 8


def test_an_empty_reply(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    assert speak(tts_for(vendor, closing).open(CONTEXT)) == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("connection_failed", VendorRejected),
        ("session_failed", VendorRejected),
        ("quota", VendorBusy),
        ("stall_session", VendorTimeout),
        ("stall_before", VendorTimeout),
        ("stall_after", VendorTimeout),
        ("drop", VendorUnavailable),
        ("garbage", VendorGarbage),
        ("error_frame", VendorUnavailable),
        ("text_frame", VendorUnavailable),
        ("ended", VendorUnavailable),
    ],
)
@pytest.mark.parametrize("block", [{}, V2])
def test_faults(closing: list[HuoshanTts], fault: str, expected: type[VendorError], block: dict[str, str]) -> None:
    with VolcengineVendor() as vendor:
        vendor.fault = fault
        tts = tts_for(vendor, closing, timeout=0.2, connect_timeout=0.5, **block)
        with pytest.raises(expected) as caught:
            with contextlib.closing(tts.open(CONTEXT)) as stream:
                stream.say(SENTENCES[0])
                if fault != "ended":
                    stream.finish()
                list(speech_of(stream))
        assert "token-123" not in str(caught.value)
        vendor.fault = ""
        assert texts(speak(tts.open(CONTEXT), "你好。")) == ["你好。"]
        tts.close()


@pytest.mark.parametrize(("status", "expected"), [(401, VendorRejected), (429, VendorBusy), (500, VendorUnavailable)])
def test_a_refused_connection(
    vendor: VolcengineVendor, closing: list[HuoshanTts], status: int, expected: type[VendorError]
) -> None:
    vendor.reject.append(status)
    with pytest.raises(expected):
        tts_for(vendor, closing).open(CONTEXT)


def test_wrong_credentials_and_the_new_consoles_key(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    with pytest.raises(VendorRejected):
        tts_for(vendor, closing, access_token="wrong").open(CONTEXT)
    with pytest.raises(VendorRejected):
        tts_for(vendor, closing, resource_id="no.such.resource").open(CONTEXT)
    vendor.api_key = "new-key"
    tts = tts_for(vendor, closing, api_key="new-key", appid="", access_token="")
    assert texts(speak(tts.open(CONTEXT), "你好。")) == ["你好。"]


def test_closing_the_provider_ends_open_streams_with_an_error(
    vendor: VolcengineVendor, closing: list[HuoshanTts]
) -> None:
    vendor.fault = "stall_after"
    tts = tts_for(vendor, closing)
    stream = tts.open(CONTEXT)
    stream.say("你好。")
    reader = gevent.spawn(lambda: pytest.raises(VendorUnavailable, list, speech_of(stream)))
    gevent.sleep(0)  # it waits now
    tts.close()
    reader.get(timeout=PATIENCE_S)


def test_the_block_of_existing_files_and_consoles(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    tts = tts_for(
        vendor,
        closing,
        resource_id="volc.service_type.10029",
        enable_ws_reuse=True,
        cluster="unused",
        authorization="Bearer;",
        audio_params={"speech_rate": 10, "loudness_rate": 0, "emotion": "happy"},
        additions={"post_process": {"pitch": 0}, "cache_config": {}},
        mix_speaker={"speakers": []},
        ttsVolume=50,
        ttsRate=-100,
        ttsPitch="50",
        private_voice="zh_male_moon_bigtts",
    )
    speak(tts.open(CONTEXT), "你好。")
    request = vendor.sessions[0].request
    audio = request["audio_params"]
    assert (audio["speech_rate"], audio["loudness_rate"], audio["emotion"]) == (-50, 50, "happy")
    assert request["speaker"] == "zh_male_moon_bigtts"
    assert request["additions"] == '{"post_process":{"pitch":6},"cache_config":{}}'
    assert tts.speed == 0.5


MIXTURE = [
    {"source_speaker": "zh_male_bvlazysheep", "mix_factor": 0.3},
    {"source_speaker": "BV120_streaming", "mix_factor": "0.3"},
    {"source_speaker": "zh_male_ahu_conversation_wvae_bigtts", "mix_factor": 0.4},
]


def test_a_mixture_of_voices_and_an_emotion(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    audio = {"emotion": "sad", "emotion_scale": 5, "bit_rate": ""}
    tts = tts_for(vendor, closing, speaker="custom_mix_bigtts", mix_speaker={"speakers": MIXTURE}, audio_params=audio)
    assert texts(speak(tts.open(CONTEXT), "你好。")) == ["你好。"]
    request = vendor.sessions[0].request
    assert [speaker["mix_factor"] for speaker in request["mix_speaker"]["speakers"]] == [0.3, 0.3, 0.4]
    assert (request["audio_params"]["emotion"], request["audio_params"]["emotion_scale"]) == ("sad", 5)
    assert "bit_rate" not in request["audio_params"]


def test_a_mixture_that_another_voice_leaves_aside_is_told(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    with capture_logs() as logs:
        tts = tts_for(vendor, closing, mix_speaker={"speakers": MIXTURE})
    assert [entry["wanted"] for entry in logs] == ["custom_mix_bigtts"]
    assert texts(speak(tts.open(CONTEXT), "你好。")) == ["你好。"]
    assert "mix_speaker" not in vendor.sessions[0].request


def test_the_second_generation_has_emotions_too(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    tts = tts_for(vendor, closing, **V2, audio_params={"emotion": "happy", "speech_rate": "10"})
    assert texts(speak(tts.open(CONTEXT), "你好。")) == ["你好。"]
    assert vendor.sessions[0].request["audio_params"]["speech_rate"] == 10


def test_a_voice_of_another_resource_is_our_fault(vendor: VolcengineVendor, closing: list[HuoshanTts]) -> None:
    vendor.fault = "mismatch"
    with pytest.raises(VendorRejected, match="mismatched with speaker"):
        tts_for(vendor, closing, speaker="somebody_new").open(CONTEXT)
    vendor.fault = ""


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (
            {"speaker": "zh_female_xiaohe_uranus_bigtts"},
            "TTS.Huoshan.speaker: 'zh_female_xiaohe_uranus_bigtts' - this voice belongs to resource_id seed-tts-2.0, "
            "not to volc.service_type.10029",
        ),
        (
            {"resource_id": "seed-tts-2.0", "private_voice": "zh_female_wanwanxiaohe_moon_bigtts"},
            "this voice belongs to resource_id volc.service_type.10029, not to seed-tts-2.0",
        ),
        ({"speaker": "S_1"}, "this voice belongs to resource_id seed-icl-1.0 or seed-icl-2.0"),
        (
            {"speaker": "custom_mix_bigtts"},
            "TTS.Huoshan.mix_speaker: None - expected the speakers that custom_mix_bigtts consists of",
        ),
        (
            {"speaker": "custom_mix_bigtts", "resource_id": "seed-tts-2.0", "mix_speaker": {"speakers": MIXTURE}},
            "voices of the second generation cannot be mixed",
        ),
        ({"mix_speaker": {"speakers": MIXTURE[:2]}}, "1 in sum; here it is 0.6"),
        ({"mix_speaker": {"speakers": [*MIXTURE, *MIXTURE]}}, "mix_speaker.speakers"),
        ({"mix_speaker": {"speakers": [{"mix_factor": 1}]}}, "source_speaker: missing"),
        ({"appid": "你的火山引擎语音合成服务appid"}, "TTS.Huoshan.appid"),
    ],
)
def test_what_cannot_work_is_told_in_plain_words(block: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate("tts", "Huoshan", {"type": "huoshan_double_stream", "speaker": "BV001_streaming", **block})
    assert words in str(caught.value)


EXISTING = """
HuoshanDoubleStreamTTS:
  type: huoshan_double_stream
  appid: 6468123456
  access_token: token-123
  resource_id: volc.service_type.10029
  speaker: zh_female_wanwanxiaohe_moon_bigtts
  enable_ws_reuse: True
  audio_params:
    speech_rate: 0
    loudness_rate: 0
  additions:
    post_process:
      pitch: 0
HuoshanDoubleStreamTTSV2:
  type: huoshan_double_stream
  appid: 6468123456
  access_token: token-123
  resource_id: seed-tts-2.0
  speaker: zh_female_xiaohe_uranus_bigtts
  enable_ws_reuse: True
  audio_params:
    speech_rate: 0
    loudness_rate: 0
  additions:
    post_process:
      pitch: 0
"""
"""As the existing server ships them, with keys filled in (and another address)."""


@pytest.mark.parametrize("name", yaml.safe_load(EXISTING))
def test_blocks_of_existing_files(name: str, closing: list[HuoshanTts]) -> None:
    with VolcengineVendor(app_key="6468123456") as vendor:
        tts = tts_for(vendor, closing, **yaml.safe_load(EXISTING)[name])
        assert texts(speak(tts.open(CONTEXT), *SENTENCES)) == list(SENTENCES)
        assert vendor.faults == []
        tts.close()


@pytest.mark.parametrize(
    "block",
    [
        {"speaker": ""},
        {"access_token": "你的火山引擎"},
        {"ws_url": "http://x"},
        {"audio_params": {"format": "wav"}},
        {"ttsRate": 200},
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        validate("tts", "Huoshan", {"type": "huoshan_double_stream", "speaker": "s", **block})


# --- frames --------------------------------------------------------------------------------------------------------

# --- boundaries ----------------------------------------------------------------------------------------------------


def test_marked_sentences_are_matched_even_when_rewritten() -> None:
    boundaries = Boundaries(marked=True)
    for text in ("现在是2025年。", "温度是25度。", "再见。"):
        boundaries.said(text)
    assert boundaries.vendor_begins("现在是二零二五年。") == ["现在是2025年。"]
    assert boundaries.sound(1.0) == []
    assert boundaries.vendor_ends() == []
    assert boundaries.vendor_begins("温度是二十五度。") == ["温度是25度。"]
    assert boundaries.unbegun == 1, "the vendor has not come to it"


def test_a_long_sentence_the_vendor_cuts_begins_once() -> None:
    boundaries = Boundaries(marked=True)
    boundaries.said("从前有一座山，山上有一座庙，庙里有一个老和尚。")
    boundaries.said("他在讲故事。")
    assert boundaries.vendor_begins("从前有一座山，") == ["从前有一座山，山上有一座庙，庙里有一个老和尚。"]
    assert boundaries.vendor_begins("山上有一座庙，") == []
    assert boundaries.vendor_begins("庙里有一个老和尚。") == []
    assert boundaries.vendor_begins("他在讲故事。") == ["他在讲故事。"]


@given(
    st.lists(st.text("今天天气好abc12。！", max_size=12), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(0.01, 1.0), st.lists(st.booleans(), max_size=40)), max_size=30),
    st.booleans(),
)
def test_no_sentence_is_lost_or_out_of_order(
    said: list[str], sounds: list[tuple[float, list[bool]]], marked: bool
) -> None:
    boundaries = Boundaries(marked=marked)
    began: list[str] = []
    for number, (seconds, loud) in enumerate(sounds):
        if number < len(said):
            boundaries.said(said[number])
            if marked:
                began += boundaries.vendor_begins(said[number])
        began += boundaries.sound(seconds, loud)
        if marked and number % 3 == 0:
            began += boundaries.vendor_ends()
    for text in said[len(sounds) :]:
        boundaries.said(text)
    assert began == said[: len(began)]
    assert boundaries.unbegun == len(said) - len(began)
