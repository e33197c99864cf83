"""Voices by one HTTP request per sentence: the blocks of existing files, what is asked for, what refusals mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import msgpack
import orjson
import pytest

from loadtest.vendors.http_vendor import Script, VendorAnswer
from tests.contract.speaking import pcm_of
from tests.fakes.inference import InlineInference
from tests.providers.spoken_services import CONTEXT, SAMPLES, Speak, asked, speaking
from tests.vendors.speech_services import (
    KEY,
    SpeechService,
    by_query,
)
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import OpusPackets
from xiaozhi.providers.registry import build, ignored, validate

spoken = pytest.fixture(speaking)


# --- existing blocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", SAMPLES)
def test_the_sample_block_speaks(spoken: Speak, type_name: str) -> None:
    seconds, vendor = spoken(type_name)
    assert 1.0 < seconds < 1.6
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("type_name", SAMPLES)
def test_keys_without_a_meaning_here_are_told(type_name: str) -> None:
    block = SAMPLES[type_name]
    told = {warning.split()[0].rpartition(".")[2] for warning in ignored("tts", "Mine", block)}
    assert told == {"output_dir", "save_path", "channels"} & set(block)


@pytest.mark.parametrize("type_name", SAMPLES)
def test_empty_values_of_consoles_count_as_absent(spoken: Speak, type_name: str) -> None:
    block = SAMPLES[type_name]
    needed = ("type", "access_token", "api_key", "group_id", "voice", "voice_id", "ref_audio_path", "params", "method")
    blanks = {key: "" for key in block if key not in needed and key not in ("protocol", "format")}
    assert spoken(type_name, **blanks)[0] > 1.0


@pytest.mark.parametrize(
    ("type_name", "block"),
    [
        ("siliconflow", {"access_token": "你的硅基流动API密钥"}),
        ("siliconflow", {"access_token": ""}),
        ("cozecn", {"access_token": "你的coze web key"}),
        ("fishspeech", {"api_key": "你的api_key"}),
        ("minimax_httpstream", {"api_key": "你的minimax平台接口密钥"}),
        ("minimax_httpstream", {"group_id": "你的minimax平台groupID"}),
        ("minimax_httpstream", {"voice_setting": {"speed": 5}}),
        ("minimax_httpstream", {"voice_setting": "{"}),
        ("minimax_httpstream", {"audio_setting": {"channel": 2}}),
        ("siliconflow", {"speed": 5}),
        ("siliconflow", {"gain": 11}),
        ("siliconflow", {"response_format": "flac"}),
        ("cozecn", {"speed": 101}),
        ("gpt_sovits_v2", {"ref_audio_path": ""}),
        ("gpt_sovits_v2", {"text_lang": "法语"}),
        ("gpt_sovits_v3", {"text_language": "xx"}),
        ("gpt_sovits_v3", {"url": "127.0.0.1:9880"}),
        ("custom", {"params": {"text": "nothing"}}),
        ("custom", {"params": "{"}),
        ("custom", {"params": ""}),
        ("custom", {"url": ""}),
        ("custom", {"method": "PUT"}),
        ("fishspeech", {"chunk_length": 20}),
        ("fishspeech", {"streaming": True, "response_format": "mp3"}),
        ("fishspeech", {"reference_audio": ["a.wav"]}),
        ("paddle_speech", {"protocol": "grpc"}),
        ("paddle_speech", {"protocol": "websocket", "proxy": "http://p"}),
        ("paddle_speech", {"url": "somewhere"}),
        ("paddle_speech", {"speed": 0}),
        ("elevenlabs", {"output_format": "ulaw_8000"}),
        ("elevenlabs", {"voice_id": ""}),
    ],
)
def test_wrong_blocks_are_refused(type_name: str, block: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        validate("tts", "Mine", {**SAMPLES[type_name], "url": "http://h/x", **block})
    assert all(fault.key.startswith("TTS.Mine") for fault in caught.value.faults)


# --- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_name", "block", "expected"),
    [
        ("siliconflow", {"private_voice": "speech:mine:1"}, {"voice": "speech:mine:1", "sample_rate": 24000}),
        ("siliconflow", {"speed": "1.5", "gain": 3}, {"speed": 1.5, "gain": 3.0, "stream": True}),
        ("siliconflow", {"ttsRate": 100, "ttsVolume": -50, "speed": 1.5}, {"speed": 4.0, "gain": -5.0}),
        ("siliconflow", {"response_format": "mp3"}, {"response_format": "mp3", "sample_rate": None}),
        ("siliconflow", {"response_format": "opus"}, {"response_format": "opus", "sample_rate": 48000}),
        ("cozecn", {}, {"voice_id": "7426720361733046281", "speed": 1.0, "loudness_rate": 0, "sample_rate": 24000}),
        ("cozecn", {"speed": "2", "loudness_rate": "50"}, {"speed": 2.0, "loudness_rate": 50}),
        ("cozecn", {"speed": 0}, {"speed": 1.0}),
        ("cozecn", {"speed": -50}, {"speed": 0.75}),
        ("cozecn", {"ttsRate": -100, "ttsVolume": 100}, {"speed": 0.5, "loudness_rate": 100}),
        ("gpt_sovits_v2", {"ref_audio": "a.wav", "ref_text": "hi"}, {"ref_audio_path": "a.wav", "prompt_text": "hi"}),
        ("gpt_sovits_v2", {"aux_ref_audio_paths": "a.wav;b.wav"}, {"aux_ref_audio_paths": ["a.wav", "b.wav"]}),
        ("gpt_sovits_v2", {"ttsRate": 100, "streaming_mode": 3}, {"speed_factor": 2.0, "streaming_mode": 3}),
        ("gpt_sovits_v2", {"text_lang": "", "language": "日语"}, {"text_lang": "ja"}),
        ("gpt_sovits_v2", {"text_lang": "粤语", "prompt_lang": "English"}, {"text_lang": "yue", "prompt_lang": "en"}),
        ("gpt_sovits_v3", {"ref_audio": "a.wav", "ref_text": "hi"}, {"refer_wav_path": "a.wav", "prompt_text": "hi"}),
        ("gpt_sovits_v3", {"ttsRate": -100, "inp_refs": "b.wav"}, {"speed": 0.5, "inp_refs": ["b.wav"]}),
        ("index_stream", {"private_voice": "xiao_he"}, {"character": "xiao_he", "text": "今天天气怎么样？"}),
        ("paddle_speech", {"private_voice": "3"}, {"spk_id": 3, "speed": 1.0, "volume": 1.0, "sample_rate": 0}),
        ("paddle_speech", {"ttsRate": 50, "ttsVolume": 100}, {"speed": 1.5, "volume": 3.0}),
        ("elevenlabs", {}, {"model_id": "eleven_flash_v2_5", "text": "今天天气怎么样？", "voice_settings": None}),
        ("elevenlabs", {"language": "中文", "ttsRate": 100}, {"language_code": "zh", "voice_settings": {"speed": 1.2}}),
        ("elevenlabs", {"voice_settings": {"stability": 0.4}, "seed": 7}, {"voice_settings": {"stability": 0.4}}),
        ("minimax_httpstream", {"language": "英语"}, {"language_boost": "English", "timber_weights": None}),
        ("minimax_httpstream", {"language": "英语", "language_boost": "auto"}, {"language_boost": "auto"}),
    ],
)
def test_what_is_asked_for(spoken: Speak, type_name: str, block: dict[str, Any], expected: dict[str, Any]) -> None:
    body = asked(spoken(type_name, **block)[1])
    assert {key: body.get(key) for key in expected} == expected


# What the vendors' own packages send (elevenlabs 2.78.0, cozepy of November 2026), taken once in an environment of
# their own: with all that they depend on they are too much for this one.


def test_elevenlabs_is_asked_as_by_its_own_package(spoken: Speak) -> None:
    _, vendor = spoken(
        "elevenlabs", language="zh", seed=7, voice_settings={"stability": 0.4, "speed": 1.1}, model="eleven_flash_v2_5"
    )
    request = vendor.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/text-to-speech/anna/stream?output_format=pcm_24000")
    assert request.headers["xi-api-key"] == KEY
    assert request.json() == {
        "text": "今天天气怎么样？",
        "model_id": "eleven_flash_v2_5",
        "language_code": "zh",
        "voice_settings": {"stability": 0.4, "speed": 1.1},
        "seed": 7,
    }


def test_coze_is_asked_as_by_its_own_package(spoken: Speak) -> None:
    request = spoken("cozecn", speed=1.5)[1].requests[0]
    theirs = {
        "input": "今天天气怎么样？",
        "voice_id": "7426720361733046281",
        "response_format": "wav",
        "speed": 1.5,
        "sample_rate": 24000,
    }
    assert (request.method, request.path) == ("POST", "/v1/audio/speech")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json() == theirs | {"loudness_rate": 0}


def test_elevenlabs_address(spoken: Speak) -> None:
    _, vendor = spoken("elevenlabs", private_voice="bella", output_format="opus_48000_32")
    assert vendor.requests[0].path == "/v1/text-to-speech/bella/stream?output_format=opus_48000_32"


def test_a_custom_get(spoken: Speak) -> None:
    block = {
        "method": "get",
        "params": '{"text": "{prompt_text}", "key": 1}',
        "format": "wav",
        "headers": '{"X-A": "b"}',
    }
    with SpeechService(by_query) as vendor:
        whole = {"type": "custom", "url": vendor.url + "/say", **block}
        tts = build("tts", "Mine", whole, Services(inference=InlineInference()))  # type: ignore[arg-type]
        assert list(tts.synthesize("a&b=c？", CONTEXT))
        tts.close()
        assert vendor.requests[0].headers["x-a"] == "b"
        assert "text=a%26b%3Dc" in vendor.requests[0].path
        assert vendor.refusals == []


def test_custom_parameters_are_filled_at_any_depth(spoken: Speak) -> None:
    params = {**SAMPLES["custom"]["params"], "nested": {"texts": ["<{prompt_text}>", 1]}}
    _, vendor = spoken("custom", params=params)
    assert asked(vendor)["nested"] == {"texts": ["<今天天气怎么样？>", 1]}
    assert asked(vendor)["return_download_link"] is True


@pytest.mark.parametrize("where", ["headers", "params"])
def test_secrets_of_a_custom_service_are_not_told(spoken: Speak, where: str) -> None:
    block: dict[str, Any] = {"headers": {"Authorization": "Bearer abc-9-def"}}
    if where == "params":
        block = {"params": {**SAMPLES["custom"]["params"], "access_token": "abc-9-def"}}
    with pytest.raises(VendorRejected) as caught:
        spoken("custom", script=Script(status=401, error="no such token: abc-9-def"), **block)
    assert "abc-9-def" not in f"{caught.value} {caught.value.details}"


# --- Fish Speech ------------------------------------------------------------------------------------------------------


def test_fish_reads_references_and_packs_them(spoken: Speak, tmp_path: Path) -> None:
    voice, words = tmp_path / "voice.wav", tmp_path / "words.txt"
    voice.write_bytes(b"RIFF sound")
    words.write_text("你好\n", "utf-8")
    _, vendor = spoken(
        "fishspeech",
        reference_audio=[str(voice), str(voice)],
        reference_text=["hello", str(words)],
        use_memory_cache=False,
        streaming=True,
        seed="7",
    )
    body = msgpack.unpackb(vendor.requests[0].body)  # another implementation than the client's
    assert body["references"] == [{"audio": b"RIFF sound", "text": "hello"}, {"audio": b"RIFF sound", "text": "你好"}]
    assert (body["use_memory_cache"], body["streaming"], body["seed"], body["text"]) == (
        "off",
        True,
        7,
        "今天天气怎么样？",
    )


def test_the_voice_of_a_device_comes_before_the_blocks(spoken: Speak, tmp_path: Path) -> None:
    own = tmp_path / "own.wav"
    own.write_bytes(b"own")
    _, vendor = spoken(
        "fishspeech",
        ref_audio=str(own),
        ref_text="mine",
        reference_audio=["no.wav"],
        reference_text=["no"],
        private_voice="me",
        reference_id="all",
        model="s1",
    )
    assert msgpack.unpackb(vendor.requests[0].body)["reference_id"] == "me"
    assert msgpack.unpackb(vendor.requests[0].body)["references"] == [{"audio": b"own", "text": "mine"}]
    assert vendor.requests[0].headers["model"] == "s1"


def test_a_missing_recording_is_a_fault(spoken: Speak, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.wav"):
        spoken("fishspeech", reference_audio=[str(tmp_path / "gone.wav")], reference_text="hello")


# --- refusals of the others -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_name", "answer", "expected"),
    [
        ("cozecn", {"code": 4100, "msg": "authentication is invalid"}, VendorRejected),
        ("cozecn", {"code": 4013, "msg": "rate limit"}, VendorBusy),
        ("cozecn", {"code": 5000, "msg": "internal"}, VendorUnavailable),
        ("cozecn", {"code": 0, "data": {}}, VendorGarbage),
        ("siliconflow", {"error": {"message": "Invalid token", "type": "auth"}}, VendorRejected),
        ("gpt_sovits_v2", {"message": "tts failed", "Exception": "x"}, VendorUnavailable),
        ("index_stream", {"status": "error", "error": "boom"}, VendorUnavailable),
        ("elevenlabs", {"detail": {"status": "quota_exceeded", "message": "no credits"}}, VendorRejected),
        ("elevenlabs", {"detail": {"status": "too_many_concurrent_requests", "message": "x"}}, VendorBusy),
        ("custom", {"audio": "base64"}, VendorGarbage),
        ("custom", ["x"], VendorGarbage),
        ("paddle_speech", {"success": False, "code": 400, "message": {"global": "parameter error"}}, VendorRejected),
        ("paddle_speech", {"success": False, "code": 500, "message": {}}, VendorUnavailable),
        ("paddle_speech", {"success": True, "result": {"audio": "?"}}, VendorGarbage),
        ("paddle_speech", [], VendorGarbage),
    ],
)
def test_json_in_place_of_sound(spoken: Speak, type_name: str, answer: Any, expected: type[VendorError]) -> None:
    with pytest.raises(VendorError) as caught:
        spoken(type_name, script=Script(answer=VendorAnswer(orjson.dumps(answer))))
    assert type(caught.value) is expected


def test_a_websocket_that_cannot_be_faster_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    block = {"type": "paddle_speech", "speed": 1.5}
    tts = build("tts", "Mine", block, Services(inference=InlineInference()))  # type: ignore[arg-type]
    tts.close()
    assert "speed and volume over http only" in "".join(capsys.readouterr())


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("。", 0.9), ("今天天气怎么样呢今天天气", 1.98), ("a" * 36, 1.98), ("好" * 1000, 30.0)]
)
def test_silence_lasts_as_long_as_reading(text: str, seconds: float) -> None:
    tts = build("tts", "Mine", {"type": "default"}, Services(inference=InlineInference()))  # type: ignore[arg-type]
    sounds = list(tts.synthesize(text, CONTEXT))
    assert all(isinstance(sound, OpusPackets) for sound in sounds)
    assert sum(len(sound.packets) for sound in sounds) * 0.06 == pytest.approx(seconds, abs=0.04)
    gevent.sleep(0)
    assert pcm_of(sounds, 24_000)[0].strip(b"\0") == b""
