"""ElevenLabs over its WebSocket: where sentences begin in the sound, what is asked for, what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.voice import speech_of
from tests.vendors.elevenlabs_vendor import KEY, ElevenlabsVendor, seconds_for
from tests.waiting import wait_for
from xiaozhi.chat import CallContext
from xiaozhi.errors import SettingsError, VendorBusy, VendorError, VendorRejected
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins
from xiaozhi.providers.registry import validate
from xiaozhi.providers.tts.elevenlabs_stream import ElevenlabsStreamTts

SENTENCES = ("Hello, how are you today?", "你好，世界。", "好。", "The last one, and a longer one too.")
BLOCK: dict[str, Any] = {"type": "elevenlabs_stream", "api_key": KEY, "voice_id": "anna"}


@pytest.fixture
def vendor() -> Iterator[ElevenlabsVendor]:
    with ElevenlabsVendor() as running:
        yield running
        assert running.faults == []


def spoken(vendor: ElevenlabsVendor, *sentences: str, **block: Any) -> dict[str, float]:
    """Seconds of sound by sentence, in the order in which they came."""
    options = validate("tts", "E", {**BLOCK, "ws_url": vendor.url, **block})
    tts = ElevenlabsStreamTts(options)  # type: ignore[arg-type]
    seconds: dict[str, float] = {}
    try:
        with contextlib.closing(tts.open(CallContext())) as stream:
            for sentence in sentences:
                stream.say(sentence)
            stream.finish()
            for event in speech_of(stream):
                if isinstance(event, SentenceBegins):
                    seconds[event.text] = 0.0
                elif isinstance(event, Pcm):
                    seconds[list(seconds)[-1]] += len(event.data) / 2 / 24_000
    finally:
        tts.close()
    return seconds


@pytest.mark.parametrize("joins", [False, True])
def test_sentences_are_found_in_the_sound(vendor: ElevenlabsVendor, joins: bool) -> None:
    vendor.joins = joins
    found = spoken(vendor, *SENTENCES)
    assert list(found) == list(SENTENCES)
    assert found == pytest.approx({text: seconds_for(text + " ") for text in SENTENCES}, abs=0.002)


def test_without_alignment_every_sentence_is_announced(vendor: ElevenlabsVendor) -> None:
    vendor.aligns = False
    found = spoken(vendor, *SENTENCES)
    assert list(found) == list(SENTENCES)
    assert sum(found.values()) == pytest.approx(sum(seconds_for(text + " ") for text in SENTENCES), abs=0.01)


def test_what_is_asked_for(vendor: ElevenlabsVendor) -> None:
    spoken(vendor, "你好。", language="中文", voice_settings={"stability": 0.4}, ttsRate=-100)
    assert vendor.asked == [
        {
            "model_id": "eleven_flash_v2_5",
            "output_format": "pcm_24000",
            "language_code": "zh",
            "auto_mode": "true",
            "sync_alignment": "true",
            "inactivity_timeout": "180",
            "voice_settings": {"stability": 0.4, "speed": 0.7},
            "texts": ["你好。 "],
        }
    ]
    wait_for(lambda: not vendor.open)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("quota_exceeded", VendorRejected), ("invalid_api_key", VendorRejected), ("system_busy", VendorBusy)],
)
def test_its_errors(vendor: ElevenlabsVendor, fault: str, expected: type[VendorError]) -> None:
    vendor.fail(fault)
    with pytest.raises(expected) as caught:
        spoken(vendor, "你好。")
    assert fault in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_wrong_key(vendor: ElevenlabsVendor) -> None:
    with pytest.raises(VendorRejected):
        spoken(vendor, "你好。", api_key="another-key")


@pytest.mark.parametrize(
    "block",
    [
        {"output_format": "mp3_22050_32"},
        {"ws_url": "https://x"},
        {"voice_id": ""},
        {"proxy": "http://p"},
        {"api_key": "你的密钥"},
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        validate("tts", "E", {**BLOCK, **block})
