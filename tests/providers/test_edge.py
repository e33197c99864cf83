"""Edge's voice: its messages against those of the package edge-tts, its token and a wrong clock, its options."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from edge_tts.communicate import get_headers_and_data, mkssml, ssml_headers_plus_data
from edge_tts.data_classes import TTSConfig
from edge_tts.drm import DRM
from gevent import subprocess

from tests.contract.speaking import pcm_of
from tests.fakes.inference import InlineInference
from tests.vendors.edge_vendor import EdgeVendor
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import CallContext
from xiaozhi.errors import SettingsError, VendorGarbage, VendorRejected, VendorSilent, VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families import edge_messages
from xiaozhi.providers.families.edge_messages import BadMessage
from xiaozhi.providers.registry import ignored, validate
from xiaozhi.providers.tts.edge import EdgeTts

CONTEXT = CallContext(device_id="aa:bb")
XIAOXIAO = "Microsoft Server Speech Text to Speech Voice (zh-CN, XiaoxiaoNeural)"
SAMPLE = {"type": "edge", "voice": "zh-CN-XiaoxiaoNeural", "output_dir": "tmp/"}
"""The block of the existing server's config.yaml."""


@pytest.fixture(autouse=True)
def right_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DRM, "clock_skew_seconds", 0.0)


@pytest.fixture
def vendor() -> Iterator[EdgeVendor]:
    with EdgeVendor() as running:
        yield running
        assert running.faults == []


@pytest.fixture
def made() -> Iterator[list[EdgeTts]]:
    voices: list[EdgeTts] = []
    yield voices
    for voice in voices:
        voice.close()


def voice_of(vendor: EdgeVendor, made: list[EdgeTts], **block: Any) -> EdgeTts:
    options = validate("tts", "EdgeTTS", {**SAMPLE, "ws_url": vendor.ws_url, "timeout": 1, **block})
    made.append(EdgeTts(options, Services(inference=InlineInference())))  # type: ignore[arg-type]
    return made[-1]


def say(tts: EdgeTts, text: str = "今天天气怎么样？") -> float:
    """Seconds of sound."""
    return pcm_of(list(tts.synthesize(text, CONTEXT)), tts.traits.sample_rate)[1]


# --- a second opinion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "voice", ["zh-CN-XiaoxiaoNeural", "zh-CN-liaoning-XiaobeiNeural", "fil-PH-AngeloNeural", XIAOXIAO]
)
def test_the_request_is_the_one_of_the_package(voice: str) -> None:
    text, escaped = "Tom & Jerry's <b>\x0bend</b>", "Tom &amp; Jerry's &lt;b&gt; end&lt;/b&gt;"
    theirs = mkssml(TTSConfig(voice, "+10%", "-5%", "+2Hz", "SentenceBoundary"), escaped)
    ours = edge_messages.ssml(text, edge_messages.full_voice_name(voice), "+10%", "-5%", "+2Hz")
    assert ours == theirs
    then = "Mon Nov 04 2024 15:20:12 GMT+0000 (Coordinated Universal Time)"
    expected = ssml_headers_plus_data("0" * 32, then, theirs)
    assert edge_messages.ssml_message("0" * 32, ours, 1_730_733_612) == expected


def test_messages_are_read_as_the_package_reads_them() -> None:
    head = b"X-RequestId:1\r\nContent-Type:audio/mpeg\r\nPath:audio\r\n"
    message = len(head).to_bytes(2, "big") + head + b"\xff\xf3sound"
    headers, body = get_headers_and_data(message, len(head))
    ours = edge_messages.parse(message)
    assert (ours.path.encode(), ours.content_type.encode(), ours.body) == (
        headers[b"Path"],
        headers[b"Content-Type"],
        body,
    )


def test_the_package_itself_is_understood_and_asks_for_the_same(vendor: EdgeVendor, made: list[EdgeTts]) -> None:
    code = (
        "import edge_tts.communicate as c, sys\n"
        "c.WSS_URL = sys.argv[1] + '?TrustedClientToken=6A5AA1D4EAFF4E9FB37E23D68491D6F4'\n"
        "spoken = c.Communicate('你好 & bye', 'zh-CN-XiaoxiaoNeural', rate='+10%', pitch='-3Hz')\n"
        "print(sum(len(piece['data']) for piece in spoken.stream_sync() if piece['type'] == 'audio'))\n"
    )
    theirs = subprocess.run(
        [sys.executable, "-c", code, vendor.ws_url], capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert int(theirs.stdout) > 1_000, theirs.stderr.decode()
    say(voice_of(vendor, made, rate="+10%", pitch=-3), "你好 & bye")
    assert vendor.asked[0] == vendor.asked[1]
    assert vendor.configurations[0] == vendor.configurations[1]


@pytest.mark.parametrize("message", ["turn.end", "\r\n\r\n", b"", b"\x00\x09Path:a", b"\x00\x01x"])
def test_what_is_no_message(message: str | bytes) -> None:
    with pytest.raises(BadMessage):
        edge_messages.parse(message)


# --- token and clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [3_600.0, -3_600.0])
def test_a_wrong_clock_is_corrected_once(made: list[EdgeTts], ahead: float) -> None:
    with EdgeVendor(ahead=ahead) as vendor:
        tts = voice_of(vendor, made)
        assert say(tts) > 0.5
        assert say(tts) > 0.5
        assert vendor.refused == 1


def test_all_who_find_the_clock_wrong_at_once_speak(made: list[EdgeTts]) -> None:
    with EdgeVendor(ahead=7_200) as vendor:
        tts = voice_of(vendor, made)
        speakers = [gevent.spawn(say, tts) for _ in range(4)]
        gevent.joinall(speakers, timeout=PATIENCE_S, raise_error=True)
        assert all(speaker.value > 0.5 for speaker in speakers)


def test_a_refusal_that_is_not_about_the_clock_is_told(vendor: EdgeVendor, made: list[EdgeTts]) -> None:
    vendor.fail("403")
    with pytest.raises(VendorRejected) as caught:
        say(voice_of(vendor, made))
    assert "edge-tts" in str(caught.value)
    assert caught.value.asked_at == vendor.ws_url
    assert vendor.connections == 1
    assert "TrustedClientToken" not in str(caught.value)


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_the_sample_block(vendor: EdgeVendor, made: list[EdgeTts]) -> None:
    assert say(voice_of(vendor, made), "你好，世界。") > 0.5
    assert vendor.asked == [
        {
            "text": "你好，世界。",
            "voice": XIAOXIAO,
            "rate": "+0%",
            "volume": "+0%",
            "pitch": "+0Hz",
            "format": "audio-24khz-48kbitrate-mono-mp3",
        }
    ]
    (warning,) = ignored("tts", "EdgeTTS", {**SAMPLE, "voice": "x"})
    assert "output_dir" in warning


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"rate": "+10%", "volume": "-20%", "pitch": "-5Hz"}, ("+10%", "-20%", "-5Hz")),
        ({"rate": 10, "volume": "20", "pitch": "+5hz"}, ("+10%", "-60%", "+5Hz")),
        ({"rate": "-10", "volume": 50, "pitch": 0}, ("-10%", "+0%", "+0Hz")),
        ({"volume": "+20"}, ("+0%", "+20%", "+0Hz")),
        ({"rate": "", "volume": None, "pitch": " 7 "}, ("+0%", "+0%", "+7Hz")),
        ({"ttsRate": -100, "ttsVolume": 50, "ttsPitch": "-30", "rate": "+9%"}, ("-50%", "+50%", "-30Hz")),
        ({"ttsRate": 0, "rate": "+9%"}, ("+9%", "+0%", "+0Hz")),
    ],
)
def test_how_it_is_said(
    vendor: EdgeVendor, made: list[EdgeTts], block: dict[str, Any], expected: tuple[str, ...]
) -> None:
    say(voice_of(vendor, made, **block))
    said = vendor.asked[0]
    assert (said["rate"], said["volume"], said["pitch"]) == expected


def test_text_arrives_as_it_is(vendor: EdgeVendor, made: list[EdgeTts]) -> None:
    tts = voice_of(vendor, made, private_voice="en-GB-SoniaNeural", format="audio-24khz-96kbitrate-mono-mp3")
    say(tts, "a < b & \"c\" > 'd'\x00")
    said = vendor.asked[0]
    assert said["text"] == "a < b & \"c\" > 'd' "
    assert "SoniaNeural" in said["voice"]
    assert "96kbit" in said["format"]


@pytest.mark.parametrize(
    "block",
    [
        {"voice": "Xiaoxiao"},
        {"voice": "zh-CN-'/><x>Neural"},
        {"rate": "fast"},
        {"rate": "10Hz"},
        {"volume": 101.5},
        {"pitch": "10%"},
        {"format": "wav"},
        {"ws_url": "https://x"},
        {"ttsRate": 101},
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        validate("tts", "EdgeTTS", {**SAMPLE, **block})


# --- what comes -------------------------------------------------------------------------------------------------------


def test_each_sentence_has_a_connection_that_is_closed(vendor: EdgeVendor, made: list[EdgeTts]) -> None:
    tts = voice_of(vendor, made)
    for _ in range(3):
        say(tts)
    assert vendor.connections == 3
    wait_for(lambda: not vendor.open)


def test_sound_is_passed_on_before_the_rest_comes(vendor: EdgeVendor, made: list[EdgeTts]) -> None:
    vendor.fail("stall_after")
    sound = voice_of(vendor, made).synthesize("今天天气怎么样？", CONTEXT)
    assert next(sound)
    sound.close()  # type: ignore[attr-defined]
    assert vendor.wait_gone()


@pytest.mark.parametrize(("fault", "expected"), [("silent", VendorSilent), ("short", VendorGarbage)])
def test_no_sound(vendor: EdgeVendor, made: list[EdgeTts], fault: str, expected: type[Exception]) -> None:
    vendor.fail(fault)
    with pytest.raises(expected):
        say(voice_of(vendor, made))


def test_closing_the_voice_ends_what_is_said(vendor: EdgeVendor, made: list[EdgeTts]) -> None:
    vendor.fail("stall_before")
    tts = voice_of(vendor, made)
    speaker = gevent.spawn(lambda: pytest.raises(VendorUnavailable, say, tts))
    wait_for(lambda: vendor.asked)
    tts.close()
    speaker.get(timeout=PATIENCE_S)
