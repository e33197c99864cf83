"""Bodies of vendors' speech: the content decides what they are, whatever the headers say."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.vendors.sounds import Sounds, hum, wav
from tests.audio.test_joined_files import encoded
from tests.fakes.inference import InlineInference
from xiaozhi.errors import VendorBusy, VendorError, VendorGarbage, VendorSilent, VendorUnavailable
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, Sound
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.sound import sounds

SOUNDS = Sounds()
PCM = hum(0.5)


def heard(body: bytes | list[bytes], expected: str = "wav", content_type: str = "", rate: int = 24_000) -> list[Sound]:
    chunks = [body] if isinstance(body, bytes) else body

    def refusal(answer: Any) -> VendorError | None:
        return error_in_answer("v", answer["error"]) if isinstance(answer, dict) and answer.get("error") else None

    return list(
        sounds(
            chunks,
            vendor="v",
            expected=expected,
            sample_rate=rate,
            inference=InlineInference(),  # type: ignore[arg-type]
            content_type=content_type,
            refusal=refusal,
        )
    )


def pcm_of(found: list[Sound]) -> bytes:
    return b"".join(sound.data for sound in found if isinstance(sound, Pcm))


BEGINNINGS = [
    *(struct.pack("<h", ord(char)) for char in '<{["'),
    b"<h",
    b'{"',
    b"[1",
    b"<html>",
    b'{"error": ',
    b"\xff\xfb\x90\x64",
    b"\xff\xf1\x50\x80",
    b"RIF",
    b"ID",
    b"OggX",
]


@pytest.mark.parametrize("begins", BEGINNINGS)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize("content_type", ["audio/pcm", "application/json", "text/html", ""])
def test_raw_pcm_may_begin_like_anything(begins: bytes, pieces: str, content_type: str) -> None:
    body = begins + PCM[len(begins) & ~1 : 9_000]
    chunks = [body] if pieces == "whole" else [body[at : at + 1] for at in range(len(body))]
    assert pcm_of(heard(chunks, "pcm", content_type)) == body[: len(body) & ~1]


@pytest.mark.parametrize("begins", [b"", *BEGINNINGS])
@pytest.mark.parametrize("content_type", ["audio/wav", "audio/pcm", "audio/mpeg", "application/octet-stream", ""])
def test_raw_pcm_where_a_wav_was_asked_for(begins: bytes, content_type: str) -> None:
    if content_type in ("application/octet-stream", "") and len(begins) > 2:
        begins = b""  # too loud a beginning to be believed without a word from the vendor
    if begins[1:2] > b"\x40":
        content_type = "audio/wav"
    body = begins + PCM[len(begins) & ~1 :]
    assert pcm_of(heard(body, "wav", content_type)) == body[: len(body) & ~1]


def test_noise_is_not_taken_for_raw_pcm() -> None:
    noise = bytes(range(256)) * 8
    for expected, content_type in (("wav", "application/octet-stream"), ("wav", ""), ("mp3", "audio/mpeg")):
        with pytest.raises(VendorGarbage):
            heard(noise, expected, content_type)


@pytest.mark.parametrize(
    ("content_type", "rate"),
    [
        ("audio/L16;rate=16000", 16_000),
        ("audio/l16; codec=pcm; rate=8000", 8_000),
        ('audio/pcm;rate="48000"', 48_000),
        ("audio/pcm", 24_000),
        ("audio/pcm; rate=7", 24_000),
    ],
)
@pytest.mark.parametrize("expected", ["pcm", "wav", "mp3"])
def test_the_content_type_knows_the_rate_of_raw_pcm(content_type: str, rate: int, expected: str) -> None:
    found = heard(PCM, expected, content_type)
    assert {sound.rate for sound in found if isinstance(sound, Pcm)} == {rate}
    assert pcm_of(found) == PCM


def test_the_content_type_knows_the_channels_of_raw_pcm() -> None:
    assert pcm_of(heard(struct.pack("<4h", 1, 3, 5, 7) * 40, "pcm", "audio/L16;rate=16000;channels=2")) == (
        struct.pack("<2h", 2, 6) * 40
    )


@pytest.mark.parametrize("content_type", ["audio/mpeg", "audio/wav", "application/json", "text/html", "audio/pcm", ""])
@pytest.mark.parametrize("asked", ["wav", "mp3", "opus", "pcm", "flac"])
@pytest.mark.parametrize("given", ["wav", "mp3", "opus", "flac", "adts"])
def test_headers_that_lie(content_type: str, asked: str, given: str) -> None:
    body = encoded(given, "aac" if given == "adts" else given) if given in ("flac", "adts") else SOUNDS.body(given, 0.5)
    found = heard(body, asked, content_type)
    assert isinstance(found[0], OpusPackets if given == "opus" else Pcm)
    if given == "opus":
        assert sum(len(sound.packets) * sound.frame_ms for sound in found if isinstance(sound, OpusPackets)) > 450
    else:
        assert len(pcm_of(found)) > 0.4 * 24_000 * 2


def test_several_files_in_one_body() -> None:
    assert pcm_of(heard(wav(PCM, 24_000) * 2)) == PCM * 2
    one, two = heard(SOUNDS.body("opus", 0.5), "opus"), heard(SOUNDS.body("opus", 0.5) * 2, "opus")
    count = [sum(len(sound.packets) for sound in found if isinstance(sound, OpusPackets)) for found in (one, two)]
    assert count[1] == 2 * count[0]


ERRORS = [
    (b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', VendorBusy),
    (b'\xef\xbb\xbf  {"error": {"message": "slow down", "code": 429}}', VendorBusy),
    (b'{"detail": "no such voice"}', VendorGarbage),
    (b'["no"]', VendorGarbage),
    (b'{"error": "' + b"x" * 10_000 + b'", "code', VendorGarbage),
    (b"<!DOCTYPE html><p>" + b"no " * 5_000, VendorGarbage),
    (b"<?xml version='1.0'?><Error/>", VendorGarbage),
    (b"Internal Server Error", VendorGarbage),
    ("服务暂时不可用".encode(), VendorGarbage),
]


@pytest.mark.parametrize(("body", "error"), ERRORS)
@pytest.mark.parametrize("content_type", ["audio/wav", "audio/pcm", "audio/mpeg", "application/json", ""])
@pytest.mark.parametrize("expected", ["pcm", "wav", "mp3", "opus"])
def test_text_in_place_of_sound_is_an_error(
    body: bytes, error: type[Exception], content_type: str, expected: str
) -> None:
    with pytest.raises(error):
        heard(body, expected, content_type)
    with pytest.raises(error):
        heard([body[at : at + 1] for at in range(len(body))], expected, content_type)


@pytest.mark.parametrize("expected", ["pcm", "wav", "mp3"])
def test_nothing_at_all_is_silence_of_the_vendor(expected: str) -> None:
    for body in (b"", wav(b"", 24_000)):
        with pytest.raises(VendorSilent):
            heard(body, expected)


@pytest.mark.parametrize("form", ["wav", "mp3", "pcm", "flac"])
def test_sound_that_came_before_the_vendor_broke_off_is_heard(form: str) -> None:
    body = encoded("flac", "flac", seconds=6) if form == "flac" else SOUNDS.body(form, 6.0)

    def broken() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise VendorUnavailable("v", "answer broke off")

    found: list[Sound] = []
    with pytest.raises(VendorUnavailable):
        for sound in sounds(
            broken(),
            vendor="v",
            expected=form,
            sample_rate=24_000,
            inference=InlineInference(),  # type: ignore[arg-type]
        ):
            found.append(sound)
    assert 1.5 < len(pcm_of(found)) / 48_000 < 4
