"""Speech: what is asked for, and sound of every format as it really arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer
from loadtest.vendors.openai_vendor import TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds, wav
from tests.audio.test_decode import page, stream
from tests.contract.speaking import pcm_of
from tests.fakes.inference import InlineInference
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import Encoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, SettingsError, VendorGarbage, VendorRejected
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm
from xiaozhi.providers.registry import validate
from xiaozhi.providers.sound import sounds
from xiaozhi.providers.tts.openai import OpenAiTts
from xiaozhi.runtime.inference import InferencePool

SOUNDS = Sounds()
TEXT = "今天天气怎么样"


@pytest.fixture
def vendor() -> Iterator[OpenAiVendor]:
    with OpenAiVendor(sounds=SOUNDS) as running:
        yield running


def tts_for(url: str, inference: Any = None, **block: Any) -> OpenAiTts:
    services = Services(inference=inference or InlineInference())
    return OpenAiTts(validate("tts", "T", {"type": "openai", "api_url": url, **block}), services)  # type: ignore[arg-type]


def say(tts: OpenAiTts, text: str = TEXT) -> list[Any]:
    return list(tts.synthesize(text, CallContext()))


def test_what_is_asked_for(vendor: OpenAiVendor) -> None:
    tts = tts_for(
        vendor.base_url,
        api_key="k",
        model="m",
        voice="v",
        speed="1.5",
        format="wav",
        output_dir="tmp/",
        instructions="whisper",
    )
    say(tts)
    request = vendor.requests[0]
    assert request.path == "/v1/audio/speech"
    assert request.json() == {
        "model": "m",
        "input": TEXT,
        "voice": "v",
        "response_format": "wav",
        "speed": 1.5,
        "instructions": "whisper",
    }
    tts.close()


def test_a_voice_of_ones_own_comes_before_the_public_one(vendor: OpenAiVendor) -> None:
    tts = tts_for(vendor.base_url, voice="public", private_voice="mine", speed="")
    say(tts)
    assert vendor.requests[0].json()["voice"] == "mine"
    tts.close()


def test_formats_of_existing_blocks() -> None:
    def form(**block: Any) -> str:
        return tts_for("http://h/v1/audio/speech", **block).form

    assert form() == "wav"
    assert form(format="mp3") == "mp3"
    assert form(response_format="opus") == "opus"
    assert tts_for("https://api.openai.com/v1/audio/speech").form == "opus"
    assert tts_for("https://api.openai.com/v1/audio/speech", format="pcm").form == "pcm"
    for block in ({"speed": 9}, {"format": "aiff"}, {"ttsRate": 300}):
        with pytest.raises(SettingsError):
            tts_for("http://h", **block)
    with pytest.raises(SettingsError):
        tts_for("h")


@pytest.mark.parametrize("asked", ["wav", "mp3", "opus"])
@pytest.mark.parametrize("given", ["wav", "mp3", "opus"])
def test_sound_is_judged_by_what_it_is(vendor: OpenAiVendor, asked: str, given: str) -> None:
    vendor.script(TTS, Script(answer=(given, 1.0)))
    tts = tts_for(vendor.base_url, response_format=asked)
    sound = say(tts)
    assert isinstance(sound[0], OpusPackets if given == "opus" else Pcm)
    _, seconds = pcm_of(sound, tts.traits.sample_rate)
    assert 0.95 < seconds < 1.15
    tts.close()


def test_opus_is_not_touched_and_nothing_cheap_goes_to_the_pool(vendor: OpenAiVendor) -> None:
    inference = InlineInference()
    for form in ("opus", "wav", "pcm"):
        tts = tts_for(vendor.base_url, inference, response_format=form)
        assert {type(sound) for sound in say(tts)} == {OpusPackets if form == "opus" else Pcm}
        tts.close()
    assert inference.calls == []
    tts = tts_for(vendor.base_url, inference, response_format="mp3")
    say(tts)
    assert {kind for kind, _, _ in inference.calls} == {"codec"}
    tts.close()


def test_raw_pcm_has_the_rate_of_the_block_and_whole_samples(vendor: OpenAiVendor) -> None:
    tts = tts_for(vendor.base_url, response_format="pcm", sample_rate=16_000)
    assert tts.traits.sample_rate == 16_000
    vendor.script(TTS, Script(answer=b"\xff\xfb\x90\x64" * 501))  # samples that look like the start of an MP3
    assert b"".join(sound.data for sound in say(tts)) == b"\xff\xfb\x90\x64" * 501
    vendor.script(TTS, Script(answer=b"abc" * 33_333, gap=0.001))
    sound = say(tts)
    assert len(sound) > 1
    assert {sound.rate for sound in sound} == {16_000}
    assert b"".join(piece.data for piece in sound) == (b"abc" * 33_333)[:-1]
    tts.close()


def test_a_wav_tells_its_own_rate_whatever_its_header_claims_of_sizes(vendor: OpenAiVendor) -> None:
    tts = tts_for(vendor.base_url)
    vendor.script(TTS, Script(answer=wav(bytes(range(100)) * 16, 22_050, size=0xFFFFFFFF)))
    assert say(tts) == [Pcm(bytes(range(100)) * 16, 22_050)]
    tts.close()


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (
            b'{"error": {"message": "no such voice", "type": "invalid_request_error"}}',
            "application/json",
            VendorRejected,
        ),
        (b'{"audio": "base64..."}', "application/json", VendorGarbage),
        (b"<html>no</html>" * 10, "text/html", VendorGarbage),
        (b"", "audio/wav", VendorGarbage),
        (b"RIFF\0\0\0\0WAVEjunk", "audio/wav", VendorGarbage),
        (wav(b"", 24_000), "audio/wav", VendorGarbage),
        (SOUNDS.body("opus", 1.0)[:-5], "audio/ogg", VendorGarbage),
        (b"ID3" + bytes(5000), "audio/mpeg", VendorGarbage),
        (b"just some text that is no sound at all, long enough to be looked at", "audio/wav", VendorGarbage),
    ],
)
def test_what_is_no_sound(body: bytes, content_type: str, expected: type[Exception]) -> None:
    with HttpVendor(lambda request: VendorAnswer(body, content_type)) as vendor:
        tts = tts_for(vendor.url)
        with pytest.raises(expected):
            say(tts)
        raw = tts_for(vendor.url, response_format="pcm")
        if content_type in ("application/json", "text/html") or not body:
            with pytest.raises(expected):
                say(raw)
        tts.close()
        raw.close()


def _ogg(*packets: bytes) -> bytes:
    return stream(page(list(packets)))


def test_packets_of_other_durations() -> None:
    sixty = Encoder(24_000, 60).encode(bytes(2 * 24 * 60 * 2))
    twenty = Encoder(24_000, 20).encode(bytes(2 * 24 * 60))
    found = list(
        sounds([_ogg(*twenty, *sixty)], vendor="v", expected="opus", sample_rate=24_000, inference=InlineInference())
    )  # type: ignore[arg-type]
    assert [(len(sound.packets), sound.frame_ms) for sound in found] == [(len(twenty), 20), (len(sixty), 60)]
    hundred_and_twenty = bytes([11 << 3 | 1]) + b"\0" * 2  # two SILK frames of 60 ms (RFC 6716, table 2 and code 1)
    found = list(
        sounds([_ogg(hundred_and_twenty)], vendor="v", expected="opus", sample_rate=24_000, inference=InlineInference())
    )  # type: ignore[arg-type]
    assert isinstance(found[0], Pcm) and len(found[0].data) == 120 * 24 * 2
    with pytest.raises(VendorGarbage):
        list(sounds([_ogg(b"\xff")], vendor="v", expected="opus", sample_rate=24_000, inference=InlineInference()))  # type: ignore[arg-type]


def test_a_full_pool_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    inference = InlineInference()
    inference.full = True
    mp3 = SOUNDS.body("mp3", 0.5)
    gevent.spawn_later(0.05, setattr, inference, "full", False)
    assert list(sounds([mp3], vendor="v", expected="mp3", sample_rate=0, inference=inference))  # type: ignore[arg-type]
    inference.full = True
    monkeypatch.setattr("xiaozhi.providers.sound.DECODE_DEADLINE_S", 0.05)
    with pytest.raises(Overloaded):
        list(sounds([mp3], vendor="v", expected="mp3", sample_rate=0, inference=inference))  # type: ignore[arg-type]


@pytest.mark.leaks("the pool's threads are native and end a moment after close")
def test_mp3_through_the_real_pool(vendor: OpenAiVendor) -> None:
    pool = InferencePool(workers=2)
    tts = tts_for(vendor.base_url, pool, response_format="mp3")
    users = [gevent.spawn(say, tts) for _ in range(4)]
    gevent.joinall(users, timeout=PATIENCE_S, raise_error=True)
    for user in users:
        _, seconds = pcm_of(user.value, tts.traits.sample_rate)
        assert 1.0 < seconds < 1.6
    tts.close()
    assert pool.close()
