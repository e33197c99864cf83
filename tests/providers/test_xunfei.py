"""Xunfei against strict services: the published signature, frames, corrections, pauses, every error code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.vendors.sounds import Sounds, hum
from tests.fakes.inference import InlineInference
from tests.fakes.voice import speech_of
from tests.providers.streamed import hear, speak, texts
from tests.vendors.xunfei_vendor import IAT, TTS, XunfeiVendor
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
from xiaozhi.providers.asr.xunfei_stream import CorrectedText
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins
from xiaozhi.providers.families.xunfei import failure, signed
from xiaozhi.providers.registry import build, ignored, validate

CONTEXT = CallContext()
SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]
PCM = hum(0.5, 16_000)
SENTENCES = ("今天天气真不错呀呀呀。", "我们一起去公园散步吧！", "Good.")
Build = Callable[..., Any]


@pytest.fixture
def vendor() -> Iterator[XunfeiVendor]:
    with XunfeiVendor() as running:
        yield running
        assert running.faults == []


@pytest.fixture
def make(vendor: XunfeiVendor) -> Iterator[Build]:
    made: list[Any] = []

    def make(kind: str, **block: Any) -> Any:
        base = {
            "type": "xunfei_stream",
            "api_url": vendor.url + {"asr": IAT, "tts": TTS}[kind],
            "app_id": vendor.app,
            "api_key": vendor.key,
            "api_secret": vendor.secret,
        }
        made.append(build(kind, "Xf", base | block, SERVICES))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


def use(kind: str, provider: Any) -> Any:
    stream = provider.open(CONTEXT)
    return hear(stream, PCM).text if kind == "asr" else texts(speak(stream, "你好。"))


WHOLE: dict[str, Any] = {"asr": "现在几点了？", "tts": ["你好。"]}

# --- blocks -----------------------------------------------------------------------------------------------------------

# From the existing server's config.yaml, with keys filled in.
ASR_BLOCK = {
    "type": "xunfei_stream",
    "app_id": 12345678,
    "api_key": "k",
    "api_secret": "s",
    "domain": "slm",
    "language": "zh_cn",
    "accent": "mandarin",
    "output_dir": "tmp/",
}
TTS_BLOCK = {
    "type": "xunfei_stream",
    "api_url": "wss://cbm01.cn-huabei-1.xf-yun.com/v1/private/mcd9m97e6",
    "app_id": "a",
    "api_secret": "s",
    "api_key": "k",
    "voice": "x5_lingxiaoxuan_flow",
    "output_dir": "tmp/",
}


@pytest.mark.parametrize(("kind", "block"), [("asr", ASR_BLOCK), ("tts", TTS_BLOCK)])
def test_the_blocks_of_existing_servers_work_unchanged(kind: str, block: dict[str, Any]) -> None:
    validate(kind, "Xf", block)
    warned = ignored(kind, "Xf", block)
    assert len(warned) == 1
    assert "output_dir" in warned[0]
    validate(kind, "Xf", block | dict.fromkeys(("private_voice", "ttsRate", "volume", "accent", "spark_assist"), ""))
    validate(kind, "Xf", block | {"spark_assist": "1", "oral_level": "high", "speed": "60"})
    for key in ("app_id", "api_key", "api_secret"):
        for value in ("", "你的APPID"):
            with pytest.raises(SettingsError) as caught:
                validate(kind, "Xf", block | {key: value})
            assert [fault.key.rpartition(".")[2] for fault in caught.value.faults] == [key]


def test_formats_that_nobody_could_play_are_refused_at_the_start() -> None:
    for fault in ({"format": "speex"}, {"speed": 101}, {"sample_rate": 48_000}, {"oral_level": "max"}):
        with pytest.raises(SettingsError):
            validate("tts", "Xf", TTS_BLOCK | fault)


# --- the signature ----------------------------------------------------------------------------------------------------


def test_the_published_example() -> None:
    # xfyun.cn/doc/spark/spark_zh_iat.html, "interface authentication".
    url = signed(
        "wss://iat.xf-yun.com/v1",
        "keyxxxxxxxx8ee279348519exxxxxxxx",
        "secretxxxxxxxx2df7900c09xxxxxxxx",
        datetime(2024, 5, 14, 16, 46, 48, tzinfo=timezone(timedelta(hours=8))),
    )
    query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
    assert query == {
        "authorization": (
            "YXBpX2tleT0ia2V5eHh4eHh4eHg4ZWUyNzkzNDg1MTlleHh4eHh4eHgiLCBhbGdvcml0aG09ImhtYWMtc2hhMjU2IiwgaGVhZGVycz0i"
            "aG9zdCBkYXRlIHJlcXVlc3QtbGluZSIsIHNpZ25hdHVyZT0iUzY2RmVxVEpsdmtkK0tmSmcrYTczQkFhYm9jd1JnMnNjS2ZsT05JOG84"
            "MD0i"
        ),
        "date": "Tue, 14 May 2024 08:46:48 GMT",
        "host": "iat.xf-yun.com",
    }
    assert url.startswith("wss://iat.xf-yun.com/v1?")


@pytest.mark.parametrize("kind", ["asr", "tts"])
def test_a_wrong_secret_or_clock_is_refused_and_not_told(vendor: XunfeiVendor, make: Build, kind: str) -> None:
    with pytest.raises(VendorRejected) as caught:
        use(kind, make(kind, api_secret="another-secret"))
    vendor.late = 301
    with pytest.raises(VendorRejected) as late:
        use(kind, make(kind))
    for error in (caught.value, late.value):
        told = f"{error} {error.details} {error.asked_at}"
        assert not any(secret in told for secret in ("another-secret", vendor.secret, "authorization", "signature"))
    vendor.late = 299
    assert use(kind, make(kind)) == WHOLE[kind]


# --- hearing ----------------------------------------------------------------------------------------------------------


def test_text_is_corrected_while_it_grows(vendor: XunfeiVendor, make: Build) -> None:
    stream = make("asr").open(CONTEXT)
    for start, expected in ((0, "现在"), (2560, "现在见"), (5120, "现在几点")):
        stream.feed(PCM[start : start + 2560])
        wait_for(lambda expected=expected: stream.partial == expected, expected)
    stream.feed(PCM[7680:])
    assert stream.finish() == Transcript("现在几点了？")
    assert bytes(vendor.audio) == PCM
    asked = vendor.parameters[0]
    assert (asked["domain"], asked["language"], asked["accent"], asked["eos"]) == ("slm", "zh_cn", "mandarin", 60_000)
    assert asked["dwa"] == "wpgs"
    wait_for(lambda: not vendor.open, "the connection to be closed")


def test_other_languages_are_not_corrected(vendor: XunfeiVendor, make: Build) -> None:
    vendor.pieces = [("Hello ", None), ("there.", None)]
    assert hear(make("asr", language="en_us").open(CONTEXT), PCM).text == "Hello there."
    assert "dwa" not in vendor.parameters[0]


def test_a_vendor_that_stops_to_listen_has_heard_enough(vendor: XunfeiVendor, make: Build) -> None:
    vendor.once.append("early")
    stream = make("asr").open(CONTEXT)
    stream.feed(PCM[:5120])
    wait_for(lambda: not vendor.open, "the vendor to end it")
    wait_for(lambda: stream.partial == "现在几点了？", "the text")
    stream.feed(PCM[5120:])
    assert stream.finish().text == "现在几点了？"


def piece(number: int, text: str, **more: Any) -> dict[str, Any]:
    return {"sn": number, "ws": [{"cw": [{"w": letter}]} for letter in text]} | more


def test_corrections() -> None:
    text = CorrectedText()
    text.add(piece(1, "今天", pgs="apl"))
    text.add(piece(2, "天", pgs="apl"))
    text.add(piece(3, "气", pgs="apl"))
    assert text.whole() == "今天天气"
    text.add(piece(4, "天气好", pgs="rpl", rg=[2, 3]))
    assert text.whole() == "今天天气好"
    text.add({"sn": 5, "pgs": "rpl", "rg": [1, 4], "ws": [{"cw": [{"w": "晴"}, {"w": "情"}]}, {"cw": []}]})
    assert text.whole() == "晴"
    text.add({"sn": 6})
    assert text.whole() == "晴"
    for broken in ({}, {"sn": "x"}, piece(7, "a", pgs="rpl"), piece(7, "a", pgs="rpl", rg=[1])):
        with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
            text.add(broken)


@given(st.lists(st.tuples(st.text("ab", max_size=3), st.integers(0, 3)), max_size=12))
def test_a_correction_replaces_exactly_its_range(steps: list[tuple[str, int]]) -> None:
    text = CorrectedText()
    shown: list[tuple[int, str]] = []
    for number, (said, back) in enumerate(steps, 1):
        if back:
            text.add(piece(number, said, pgs="rpl", rg=[number - back, number - 1]))
            shown = [kept for kept in shown if kept[0] < number - back]
        else:
            text.add(piece(number, said, pgs="apl"))
        shown.append((number, said))
    assert text.whole() == "".join(said for _, said in shown)


# --- speaking ---------------------------------------------------------------------------------------------------------


def test_sentences_and_sound(vendor: XunfeiVendor, make: Build) -> None:
    events = speak(make("tts").open(CONTEXT), *SENTENCES)
    assert texts(events) == list(SENTENCES)
    assert all(len(event.data) % 2 == 0 and event.rate == 24_000 for event in events if isinstance(event, Pcm))
    whole = sum(len(event.data) for event in events if isinstance(event, Pcm)) / 48_000
    assert whole == pytest.approx((10 + 10 + 1.6) * 0.19 + 3 * 0.3, abs=0.01)
    assert vendor.texts == [SENTENCES[0], SENTENCES[1], "Good. "]
    assert vendor.connections == 1


def test_the_consoles_scales(vendor: XunfeiVendor, make: Build) -> None:
    voice = make("tts", private_voice="x4_a", ttsRate=100, ttsVolume=-50, ttsPitch="20", stop_split=1, format="lame")
    assert texts(speak(voice.open(CONTEXT), "你好。")) == ["你好。"]
    tts = vendor.parameters[0]["tts"]
    assert (tts["vcn"], tts["speed"], tts["volume"], tts["pitch"]) == ("x4_a", 100, 25, 60)
    assert tts["audio"] == {"encoding": "lame", "sample_rate": 24000, "channels": 1, "bit_depth": 16, "frame_size": 0}
    assert vendor.parameters[0]["oral"] == {"oral_level": "mid", "spark_assist": 1, "stop_split": 1, "remain": 0}


def test_mp3_is_decoded_to_its_last_sample(vendor: XunfeiVendor, make: Build) -> None:
    events = speak(make("tts", format="lame").open(CONTEXT), SENTENCES[1])
    decoder = decoder_for("mp3", 24_000)
    whole = decoder.feed(Sounds().body("mp3", 10 * 0.19 + 0.3)) + decoder.finish()
    assert sum(len(event.data) for event in events if isinstance(event, Pcm)) == len(whole)


def test_a_short_sentence_is_heard_although_nothing_follows(vendor: XunfeiVendor, make: Build) -> None:
    stream = make("tts", text_pause=0.05).open(CONTEXT)
    with contextlib.closing(stream):
        events = speech_of(stream)
        stream.say("等一下。")
        assert next(events) == SentenceBegins("等一下。")
        assert isinstance(next(events), Pcm)
        wait_for(lambda: not vendor.open, "the end of the first session")
        stream.say("好了。")
        stream.finish()
        assert texts(list(events)) == ["好了。"]
    assert vendor.connections == 2


def test_nothing_said(vendor: XunfeiVendor, make: Build) -> None:
    assert speak(make("tts").open(CONTEXT)) == []
    assert vendor.wait_gone()
    assert vendor.parameters == []


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (10005, VendorRejected),
        (10163, VendorRejected),
        (10313, VendorRejected),
        (11200, VendorRejected),
        (10010, VendorBusy),
        (11201, VendorBusy),
        (11202, VendorBusy),
        (11203, VendorBusy),
        (10114, VendorTimeout),
        (10200, VendorTimeout),
        (26005, VendorTimeout),
        (10700, VendorUnavailable),
        (11503, VendorUnavailable),
        (100001, VendorUnavailable),
    ],
)
def test_error_codes(code: int, expected: type[VendorError]) -> None:
    error = failure("xf", code, "no (secret-key)", ("secret-key",))
    assert type(error) is expected
    assert str(code) in error.message
    assert "secret-key" not in str(error) + error.details


@pytest.mark.parametrize("kind", ["asr", "tts"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("code:11200", VendorRejected),
        ("code:11203", VendorBusy),
        ("code:10700", VendorUnavailable),
        ("stall_before", VendorTimeout),
        ("stall_after", VendorTimeout),
        ("drop", VendorUnavailable),
        ("garbage", VendorGarbage),
        ("garbage_text", VendorGarbage),
    ],
)
def test_faults(vendor: XunfeiVendor, make: Build, kind: str, fault: str, expected: type[VendorError]) -> None:
    provider = make(kind, timeout=0.2)
    vendor.once.append(fault)
    with pytest.raises(expected) as caught:
        use(kind, provider)
    assert vendor.secret not in str(caught.value)
    wait_for(lambda: not vendor.open, "the connection to be closed")
    assert use(kind, provider) == WHOLE[kind]


def test_dates_are_those_of_greenwich() -> None:
    url = signed("wss://h/p", "k", "s", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert parse_qs(urlsplit(url).query)["date"] == ["Fri, 02 Jan 2026 03:04:05 GMT"]
