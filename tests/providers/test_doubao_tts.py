"""Doubao's HTTP voices against a strict service: what is asked for by the kind of voice, sound as it arrives, codes by
remedy; and the blocks of existing files."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from loadtest.vendors.http_vendor import HttpVendor, VendorAnswer
from tests.fakes.inference import InlineInference
from tests.vendors.volcengine_voice import DoubaoVoice
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorSilent,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, Sound
from xiaozhi.providers.families.sound_in_json import NoSoundInJson, SoundInJson
from xiaozhi.providers.families.volcengine_account import resource_for
from xiaozhi.providers.registry import build, ignored, validate
from xiaozhi.providers.tts.doubao import DoubaoTts, DoubaoTtsOptions

LARGE, OLD, CLONED = "zh_female_wanwanxiaohe_moon_bigtts", "BV001_streaming", "S_abc123"
SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]


@contextmanager
def voice(answer: Any, **block: object) -> Iterator[DoubaoTts]:
    with HttpVendor(answer) as vendor:
        base = {
            "type": "doubao",
            "api_url": vendor.url + "/api/v1/tts",
            "appid": 6468123456,
            "access_token": "secret-key",
            "voice": LARGE,
            "timeout": 2,
        }
        with closing(build("tts", "Doubao", base | block, SERVICES)) as tts:
            yield tts


def doubao() -> DoubaoVoice:
    return DoubaoVoice(appid="6468123456")


def said(tts: DoubaoTts, text: str = "你好，很高兴见到你。") -> list[Sound]:
    return list(tts.synthesize(text, CallContext(device_id="aa:bb")))


@pytest.mark.parametrize("form", ["wav", "pcm", "mp3"])
@pytest.mark.parametrize("slashes", [False, True])
def test_sound_in_every_form(form: str, slashes: bool) -> None:
    vendor = doubao()
    vendor.slashes = slashes
    with voice(vendor, format=form) as tts:
        sounds = said(tts)
    assert sum(len(sound.data) / 2 / (sound.rate or 24_000) for sound in sounds if isinstance(sound, Pcm)) > 1
    assert vendor.seen[0]["audio"]["encoding"] == form
    assert vendor.seen[0]["user"]["uid"] == "aa:bb"


def test_opus_is_passed_on_as_it_is() -> None:
    with voice(doubao(), format="ogg_opus") as tts:
        assert all(isinstance(sound, OpusPackets) for sound in said(tts))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"voice": LARGE}, {"speed_ratio": 1, "loudness_ratio": 1}),
        ({"voice": LARGE, "ttsRate": -100, "ttsVolume": 100}, {"speed_ratio": 0.8, "loudness_ratio": 2}),
        ({"voice": LARGE, "speed_ratio": 0.5, "volume_ratio": "3"}, {"speed_ratio": 0.8, "loudness_ratio": 2}),
        ({"voice": OLD}, {"speed_ratio": 1, "volume_ratio": 1, "pitch_ratio": 1}),
        (
            {"voice": OLD, "ttsRate": "100", "ttsVolume": -100, "ttsPitch": 50},
            {"speed_ratio": 3, "volume_ratio": 0.1, "pitch_ratio": 2},
        ),
        (
            {"voice": OLD, "speed_ratio": 0.5, "volume_ratio": "", "pitch_ratio": 1.2},
            {"speed_ratio": 0.5, "volume_ratio": 1, "pitch_ratio": 1.2},
        ),
        ({"voice": OLD, "private_voice": LARGE}, {"speed_ratio": 1, "loudness_ratio": 1}),
        ({"voice": CLONED}, {"speed_ratio": 1, "loudness_ratio": 1}),
    ],
)
def test_how_it_speaks_by_the_kind_of_voice(block: dict[str, object], expected: dict[str, float]) -> None:
    vendor = doubao()
    with voice(vendor, **block) as tts:
        assert said(tts)
    audio = vendor.seen[0]["audio"]
    assert {key: value for key, value in audio.items() if key.endswith("_ratio")} == expected


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"voice": LARGE, "ttsPitch": 20}, 1),
        ({"voice": LARGE, "pitch_ratio": 1.0}, 0),
        ({"voice": OLD, "ttsPitch": 20}, 0),
    ],
)
def test_a_pitch_that_the_voice_does_not_have_is_told(block: dict[str, object], told: int) -> None:
    with capture_logs() as logs, voice(doubao(), **block):
        assert [entry["voice"] for entry in logs] == [LARGE] * told


def test_emotion_and_cluster() -> None:
    vendor = doubao()
    with voice(vendor, emotion="happy") as tts:
        said(tts)
    assert (vendor.seen[0]["audio"]["emotion"], vendor.seen[0]["app"]["cluster"]) == ("happy", "volcano_tts")
    with voice(vendor, voice=CLONED) as tts:
        said(tts)
    assert vendor.seen[1]["app"]["cluster"] == "volcano_icl"


@pytest.mark.parametrize(
    ("code", "message", "status", "expected"),
    [
        (3001, "authenticate request: load grant: requested grant not found", 401, VendorRejected),
        (3001, "extract request resource id: get resource id: access denied", 403, VendorRejected),
        (3001, "quota exceeded for types: xxxxxxxxx_lifetime", 200, VendorRejected),
        (3001, "quota exceeded for types: concurrency", 400, VendorBusy),
        (3003, "too busy for secret-key", 500, VendorBusy),
        (3005, "backend busy", 200, VendorUnavailable),
        (3011, "illegal input text!", 400, VendorSilent),
        (3030, "processing timeout", 200, VendorTimeout),
        (3031, "Init Engine Instance failed", 500, VendorRejected),
        (3040, "backend connection", 200, VendorUnavailable),
        (3050, "no such voice", 200, VendorRejected),
    ],
)
def test_codes_by_remedy_whatever_the_status(code: int, message: str, status: int, expected: type[VendorError]) -> None:
    vendor = doubao()
    with voice(vendor) as tts:
        vendor.refuse = code, message, status
        with pytest.raises(VendorError) as caught:
            said(tts)
        assert type(caught.value) is expected
        assert str(code) in str(caught.value) and "secret-key" not in str(caught.value)
        assert caught.value.status == (status if status != 200 else 0)
        assert caught.value.asked_at.endswith("/api/v1/tts")
        assert said(tts)


def test_nothing_to_say_is_not_held_against_the_vendor() -> None:
    with voice(doubao()) as tts, pytest.raises(VendorSilent):
        said(tts, "……")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[]", VendorGarbage),
        (b'{"code": 3000, "data": "!!!!"}', VendorGarbage),
        (b'{"code": 3000, "data": "AAAA', VendorGarbage),
        (b'{"code": 3000, "data": null, "message": "Success"}', VendorSilent),
        (b'{"error": {"err_code": -10001, "message": "no such api key: secret-key"}}', VendorRejected),
        (b'{"error": "insufficient balance for secret-key"}', VendorRejected),
        (b'{"code": "3000"}', VendorGarbage),
        (b'{"data": "' + base64.b64encode(b"this is no sound at all").rjust(200, b"A") + b'"}', VendorGarbage),
    ],
)
def test_answers_that_make_no_sense(body: bytes, expected: type[VendorError]) -> None:
    with voice(lambda request: VendorAnswer(body)) as tts, pytest.raises(expected) as caught:
        said(tts)
    assert "secret-key" not in f"{caught.value} {caught.value.details}"


# --- blocks --------------------------------------------------------------------------------------------------------

EXISTING = """
DoubaoTTS:
  type: doubao
  api_url: https://openspeech.bytedance.com/api/v1/tts
  voice: BV001_streaming
  output_dir: tmp/
  authorization: "Bearer;"
  appid: 6468123456
  access_token: secret-key
  cluster: volcano_tts
  speed_ratio: 1.0
  volume_ratio: 1.0
  pitch_ratio: 1.0
TTS302AI:
  type: doubao
  api_url: https://api.302ai.cn/doubao/tts_hd
  authorization: "Bearer "
  voice: "zh_female_wanwanxiaohe_moon_bigtts"
  output_dir: tmp/
  access_token: "secret-key"
"""
"""As the existing server ships them, with keys filled in."""


@pytest.mark.parametrize(
    ("name", "authorization", "appid"),
    [("DoubaoTTS", "Bearer;secret-key", "6468123456"), ("TTS302AI", "Bearer secret-key", "")],
)
def test_blocks_of_existing_files(name: str, authorization: str, appid: str) -> None:
    block = yaml.safe_load(EXISTING)[name]
    options = validate("tts", name, block)
    assert isinstance(options, DoubaoTtsOptions) and options.api_url == block["api_url"]
    assert [warning for warning in ignored("tts", name, block) if "output_dir" not in warning] == []
    vendor = DoubaoVoice(authorization, appid)
    with HttpVendor(vendor) as running:
        with closing(build("tts", name, block | {"api_url": running.url + "/x"}, SERVICES)) as tts:
            assert said(tts)


@pytest.mark.parametrize(
    ("block", "key"),
    [
        ({"voice": LARGE}, "TTS.X.access_token"),
        ({"voice": LARGE, "access_token": "你的火山引擎语音合成服务access_token"}, "TTS.X.access_token"),
        ({"voice": LARGE, "access_token": "t", "appid": "你的火山引擎语音合成服务appid"}, "TTS.X.appid"),
        ({"voice": "", "access_token": "t"}, "TTS.X.voice"),
        ({"voice": LARGE, "access_token": "t", "speed_ratio": 9}, "TTS.X.speed_ratio"),
        ({"voice": LARGE, "access_token": "t", "api_url": "wss://x"}, "TTS.X.api_url"),
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate("tts", "X", {"type": "doubao", **block})
    assert key in {fault.key for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("speaker", "resource", "wanted"),
    [
        ("zh_female_xiaohe_uranus_bigtts", "volc.service_type.10029", "seed-tts-2.0"),
        ("zh_female_xiaohe_uranus_bigtts", "seed-tts-2.0", ""),
        (LARGE, "seed-tts-2.0", "volc.service_type.10029"),
        (LARGE, "seed-tts-1.0-concurr", ""),
        ("zh_male_lengkugege_emo_v2_mars_bigtts", "seed-tts-2.0", "volc.service_type.10029"),
        ("BV120_streaming", "seed-tts-2.0", "volc.service_type.10029"),
        ("S_abc", "volc.service_type.10029", "seed-icl-1.0 or seed-icl-2.0"),
        ("S_abc", "seed-icl-1.0", ""),
        ("S_abc", "volc.megatts.default", ""),
        ("somebody_new", "seed-tts-2.0", ""),
        (LARGE, "some.new.resource", ""),
    ],
)
def test_which_resource_a_voice_belongs_to(speaker: str, resource: str, wanted: str) -> None:
    assert resource_for(speaker, resource) == wanted


# --- sound in JSON -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.lists(st.integers(0, 300)), st.booleans())
def test_sound_comes_out_whole_however_it_is_cut(sound: bytes, cuts: list[int], slashes: bool) -> None:
    coded = base64.b64encode(sound)
    body = b'{"code": 3000, "data" : "%s", "more": {"a": "b"}}' % (coded.replace(b"/", b"\\/") if slashes else coded)
    decoder = SoundInJson("data")
    places = sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    pieces = [body[start:end] for start, end in itertools.pairwise(places)]
    assert b"".join(map(decoder.feed, pieces)) == sound
    assert decoder.answer() == {"code": 3000, "data": "", "more": {"a": "b"}}


def test_sound_comes_out_before_all_of_it_is_there() -> None:
    decoder = SoundInJson("data")
    assert decoder.feed(b'{"data": "' + base64.b64encode(b"123456")[:7]) == b"123"
    with pytest.raises(NoSoundInJson):
        decoder.answer()


def test_an_answer_without_end_is_not_kept() -> None:
    with pytest.raises(NoSoundInJson):
        SoundInJson("data").feed(b'{"other": "' + b"A" * 100_000)
