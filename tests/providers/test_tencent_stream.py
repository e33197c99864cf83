"""Tencent Cloud's speech over a WebSocket against a strict service: the signed address, sentences, every error."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.voice import speech_of
from tests.vendors.tencent_vendor import (
    APPID,
    PAUSE_S,
    SECRET,
    SECRET_ID,
    STREAM,
    SYLLABLE_S,
    TencentStreamVendor,
)
from tests.waiting import wait_for
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins, SpeechEvent
from xiaozhi.providers.families.tencent import signed_url
from xiaozhi.providers.registry import validate
from xiaozhi.providers.tts.tencent_stream import TencentStreamTts

CONTEXT = CallContext(device_id="aa:bb")
BLOCK = {
    "type": "tencent_stream",
    "appid": APPID,
    "secret_id": SECRET_ID,
    "secret_key": SECRET,
    "region": "ap-guangzhou",
    "voice": 101001,
}

Make = Callable[..., TencentStreamTts]


@pytest.fixture
def vendor() -> Iterator[TencentStreamVendor]:
    with TencentStreamVendor() as running:
        yield running
        assert running.faults == []


@pytest.fixture
def make(vendor: TencentStreamVendor) -> Iterator[Make]:
    """Builds voices that are closed at the end."""
    made: list[TencentStreamTts] = []

    def build_one(**more: Any) -> TencentStreamTts:
        block = BLOCK | {"ws_url": vendor.url + STREAM} | more
        made.append(TencentStreamTts(validate("tts", "Tencent", block)))  # type: ignore[arg-type]
        return made[-1]

    yield build_one
    for tts in made:
        tts.close()


def speak(tts: TencentStreamTts, *sentences: str) -> list[SpeechEvent]:
    with contextlib.closing(tts.open(CONTEXT)) as stream:
        for sentence in sentences:
            stream.say(sentence)
        stream.finish()
        return list(speech_of(stream))


def test_an_address_is_signed_as_the_vendors_own_client_does_it() -> None:
    """The address that tencentcloud-speech-sdk-python (tts/flowing_speech_synthesizer.py) made of these parameters; it
    is not on a package registry."""
    parameters: dict[str, Any] = {
        "Action": "TextToStreamAudioWSv2",
        "AppId": 1300000000,
        "SecretId": "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE",
        "ModelType": 1,
        "VoiceType": 101001,
        "Codec": "pcm",
        "SampleRate": 24000,
        "Speed": 3,
        "Volume": -2.5,
        "SessionId": "a1b2c3",
        "EnableSubtitle": 0,
        "Timestamp": 1551113065,
        "Expired": 1551199465,
    }
    url = signed_url("wss://tts.cloud.tencent.com/stream_wsv2", parameters, "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE")
    assert url.startswith("wss://tts.cloud.tencent.com/stream_wsv2?")
    assert url.endswith("&Signature=D7Z1XujNOAN36OVlWXos419NldE%3D")
    given = dict(urllib.parse.parse_qsl(url.partition("?")[2]))
    assert {key: given[key] for key in parameters} == {key: str(value) for key, value in parameters.items()}


SENTENCES = ("今天天气真不错。", "我们一起去公园散步吧！", "Fine then.", "好。")
COUNTS = {"今天天气真不错。": 7.0, "我们一起去公园散步吧！": 10.0, "Fine then.": 3.2, "好。": 1.0}


def test_sentences_are_found_in_the_sound(vendor: TencentStreamVendor, make: Make) -> None:
    seconds: dict[str, float] = {}
    current = ""
    for event in speak(make(), *SENTENCES):
        if isinstance(event, SentenceBegins):
            current = event.text
            seconds[current] = 0.0
        elif isinstance(event, Pcm):
            seconds[current] += len(event.data) / 2 / event.rate
    assert list(seconds) == list(SENTENCES)
    assert seconds == pytest.approx({text: count * SYLLABLE_S + PAUSE_S for text, count in COUNTS.items()}, abs=0.12)
    assert vendor.sessions[0].end == "final"


def test_a_sentence_in_latin_script_sounds_before_the_next_one_is_said(vendor: TencentStreamVendor, make: Make) -> None:
    with contextlib.closing(make().open(CONTEXT)) as stream:
        stream.say("Today is a fine day.")
        events = speech_of(stream)
        assert next(events) == SentenceBegins("Today is a fine day.")
        assert isinstance(next(events), Pcm)


def test_a_voice_as_it_is_asked_for(vendor: TencentStreamVendor, make: Make) -> None:
    assert speak(make(ttsVolume=25, ttsRate=-100, private_voice="WCHN-1a2b", sample_rate=16_000), "你好。")
    given = vendor.sessions[0].parameters
    kept = ("VoiceType", "FastVoiceType", "Speed", "Volume", "SampleRate", "Codec", "AppId")
    assert [given[key] for key in kept] == ["200000000", "WCHN-1a2b", "-2", "2.5", "16000", "pcm", APPID]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"appid": "你的腾讯云AppId"}, "appid"),
        ({"appid": ""}, "appid"),
        ({"secret_key": "你的腾讯云SecretKey"}, "sample text"),
        ({"ws_url": "https://tts.cloud.tencent.com/stream_wsv2"}, "ws_url"),
    ],
)
def test_what_is_missing_is_said(change: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        validate("tts", "Tencent", BLOCK | change)


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [("10003", VendorRejected, 401), ("10002", VendorBusy, 0), ("10099", VendorUnavailable, 0)],
)
def test_codes_by_remedy(
    vendor: TencentStreamVendor, make: Make, code: str, kind: type[VendorError], status: int
) -> None:
    vendor.once.append(code)
    with pytest.raises(kind, match=code) as caught:
        make().open(CONTEXT)
    assert type(caught.value) is kind and caught.value.status == status
    for secret in (SECRET, SECRET_ID, "Signature"):
        assert secret not in str(caught.value) + caught.value.details + caught.value.asked_at


def test_a_wrong_key_is_refused_by_the_vendor(make: Make) -> None:
    with pytest.raises(VendorRejected) as caught:
        make(secret_key="other-key").open(CONTEXT)
    assert caught.value.status == 401 and "other-key" not in str(caught.value)


def test_a_vendor_that_is_never_ready_is_given_up(vendor: TencentStreamVendor, make: Make) -> None:
    vendor.once.append("stall_ready")
    with pytest.raises(VendorTimeout):
        make(connect_timeout=0.1).open(CONTEXT)
    wait_for(lambda: vendor.sessions[0].end == "lost", "the vendor to notice")


def test_a_vendor_that_ends_by_itself_has_failed(vendor: TencentStreamVendor, make: Make) -> None:
    vendor.once.append("ended")
    with contextlib.closing(make().open(CONTEXT)) as stream:
        stream.say("你好。")
        with pytest.raises(VendorUnavailable, match="ended the session"):
            list(speech_of(stream))
