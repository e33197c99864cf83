"""Containers cut at every place, lying headers, noise: sound comes out whole or a DecodeError says why."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.vendors.sounds import Sounds, hum, wav
from xiaozhi.audio.decode import (
    DecodeError,
    FileDecoder,
    Mp3Decoder,
    RawDecoder,
    SoundDecoder,
    WavDecoder,
    decode_file,
    decoder_for,
    sniff,
)
from xiaozhi.audio.ogg import OggOpusDemuxer
from xiaozhi.audio.opus import Decoder, packet_duration_ms

SOUNDS = Sounds()
PCM = hum(1.0)
MP3, OGG, WAV = (SOUNDS.body(form, 1.0) for form in ("mp3", "opus", "wav"))


def through(decoder: SoundDecoder, data: bytes, size: int) -> bytes:
    pieces = [decoder.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join(pieces) + decoder.finish()


def test_sniff_knows_the_marks_and_does_not_guess() -> None:
    assert sniff(WAV) == "wav"
    assert sniff(OGG) == "ogg_opus"
    assert sniff(MP3) == "mp3"
    assert sniff(MP3[len(MP3) - 4000 :]) in ("mp3", "")
    assert sniff(b"fLaC") == sniff(b"....ftypM4A ") == sniff(b"OggS" + b"\0" * 24 + b"\x01vorbis") == "other"
    for unknown in (b"", b"\0", b"\xff", b"\xff\xff\xff\xff", b"<html>", b'{"error"', PCM[:40], PCM[5000:5040]):
        assert sniff(unknown) == ""


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
def test_raw_keeps_samples_whole(size: int) -> None:
    decoder = decoder_for("pcm", 24_000)
    assert isinstance(decoder, RawDecoder)
    assert through(decoder, PCM + b"\x01", size) == PCM
    assert decoder.sample_rate == 24_000


@pytest.mark.parametrize("size", [1, 3, 43, 44, 45, 4096, 1_000_000])
@pytest.mark.parametrize("claimed", [None, 0, 0xFFFFFFFF])
def test_wav_with_honest_and_streaming_headers(size: int, claimed: int | None) -> None:
    decoder = WavDecoder()
    assert through(decoder, wav(PCM[:9_600], 24_000, size=claimed), size) == PCM[:9_600]
    assert decoder.sample_rate == 24_000


def _wav(kind: int, bits: int, channels: int, data: bytes, *, before: bytes = b"", extensible: bool = False) -> bytes:
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, 16_000, 0, bits // 8 * channels, bits)
    if extensible:
        form += struct.pack("<HHIH", 22, bits, 0, kind) + b"\0" * 14
    chunks = before + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks + b"LIST\x04\0\0\0junk"


SAMPLES = np.array([0, 1000, -1000, 32767, -32768, 12345], "<i2")


@pytest.mark.parametrize(
    ("kind", "bits", "data"),
    [
        (1, 16, SAMPLES.tobytes()),
        (1, 32, (SAMPLES.astype("<i4") << 16).tobytes()),
        (1, 24, b"".join(b"\0" + sample.tobytes() for sample in SAMPLES)),
        (3, 32, (SAMPLES.astype("<f4") / 32768).tobytes()),
    ],
)
@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_wav_sample_formats(kind: int, bits: int, data: bytes, extensible: bool, size: int) -> None:
    decoder = WavDecoder()
    file = _wav(kind, bits, 1, data, before=b"LIST\x03\0\0\0abc\0", extensible=extensible)
    assert through(decoder, file, size) == SAMPLES.tobytes()
    assert decoder.sample_rate == 16_000


def test_wav_of_eight_bits_and_of_two_channels() -> None:
    assert (
        through(WavDecoder(), _wav(1, 8, 1, bytes([0, 128, 255])), 2) == np.array([-32768, 0, 32512], "<i2").tobytes()
    )
    stereo = np.array([[100, 300], [-100, -300]], "<i2")
    assert through(WavDecoder(), _wav(1, 16, 2, stereo.tobytes()), 3) == np.array([200, -200], "<i2").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"not a wav at all, sorry",
        _wav(99, 8, 1, b"abc"),
        _wav(1, 16, 0, b"abcd"),
        wav(PCM, 100),
        b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd",
        b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0abcddata\0\0\0\0",
        b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f" + b"\0" * 1_100_000,
    ],
)
def test_wav_that_is_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        through(WavDecoder(), data, 100_000)


@pytest.mark.parametrize("size", [1, 100, 4096, 1_000_000])
def test_mp3_frame_by_frame(size: int) -> None:
    decoder = decoder_for("mp3", 0)
    pcm = through(decoder, MP3, size)
    assert decoder.sample_rate == 24_000
    assert 1.0 <= len(pcm) / 2 / 24_000 < 1.15
    assert np.abs(np.frombuffer(pcm, "<i2")).max() > 5_000


def test_mp3_sound_comes_before_the_end() -> None:
    decoder = Mp3Decoder()
    assert len(decoder.feed(MP3[: len(MP3) // 2])) > 12_000


@pytest.mark.parametrize(
    "data", [b"", b"ID3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"x" * 100, bytes(range(256)) * 100, b"<html>" * 1000]
)
def test_mp3_that_is_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        through(Mp3Decoder(), data, 1000)


def test_decoding_starts_no_threads() -> None:
    before = len(os.listdir("/proc/self/task"))
    decoder = Mp3Decoder()
    decoder.feed(MP3)
    assert decode_file(MP3, 16_000) and decode_file(OGG, 16_000)
    assert len(os.listdir("/proc/self/task")) == before
    decoder.finish()


def test_any_file_at_any_rate() -> None:
    for body in (MP3, OGG, WAV):
        pcm = decode_file(body, 16_000)
        assert 0.95 < len(pcm) / 2 / 16_000 < 1.15
    decoder = decoder_for("other", 0)
    assert isinstance(decoder, FileDecoder)
    assert through(decoder, WAV, 999) == PCM
    assert decoder.sample_rate == 24_000
    for nonsense in (b"", b"nonsense", bytes(range(256)) * 50):
        with pytest.raises(DecodeError):
            decode_file(nonsense, 16_000)


# --- Ogg -----------------------------------------------------------------------------------------------------------


def page(packets: list[bytes], *, flags: int = 0, serial: int = 7, sequence: int = 0, open_end: bool = False) -> bytes:
    """An Ogg page holding these packets; `open_end`: the last one continues on the next page (its length is a multiple
    of 255)."""
    lacing = bytearray()
    for packet in packets:
        lacing += b"\xff" * (len(packet) // 255)
        lacing.append(len(packet) % 255)
    if open_end:
        assert lacing.pop() == 0
    head = (
        b"OggS\0"
        + bytes([flags])
        + b"\0" * 8
        + struct.pack("<II", serial, sequence)
        + b"\0\0\0\0"
        + bytes([len(lacing)])
    )
    return head + bytes(lacing) + b"".join(packets)


HEAD = b"OpusHead\x01\x01\x38\x01\xc0\x5d\0\0\0\0\0"
TAGS = b"OpusTags\x04\0\0\0test\0\0\0\0"


def stream(*pages: bytes, serial: int = 7) -> bytes:
    return page([HEAD], flags=2, serial=serial) + page([TAGS], serial=serial, sequence=1) + b"".join(pages)


def demuxed(chunks: Sequence[bytes]) -> list[bytes]:
    demuxer = OggOpusDemuxer()
    packets = [packet for chunk in chunks for packet in demuxer.feed(chunk)]
    demuxer.finish()
    return packets


def test_the_packets_of_a_real_file_decode() -> None:
    packets = demuxed([OGG])
    assert {packet_duration_ms(packet) for packet in packets} == {20.0}
    decoder = Decoder(24_000)
    pcm = b"".join(map(decoder.decode, packets))
    assert 1.0 <= len(pcm) / 2 / 24_000 < 1.1
    assert np.abs(np.frombuffer(pcm, "<i2")).max() > 5_000


@given(st.lists(st.integers(1, 400), max_size=40))
def test_any_cut_gives_the_same_packets(cuts: list[int]) -> None:
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(OGG[at : at + cut])
        at += cut
    pieces.append(OGG[at:])
    assert demuxed(pieces) == demuxed([OGG])


def test_packets_within_one_page() -> None:
    demuxer = OggOpusDemuxer()
    assert demuxer.feed(stream(page([b"one", b"two" * 100, b"x" * 255], flags=4))) == [b"one", b"two" * 100, b"x" * 255]
    demuxer.finish()


def test_packets_over_several_pages() -> None:
    long = bytes(range(255)) * 3
    data = stream(page([b"a", long[:510]], open_end=True), page([long[510:] + b"end", b"b"], flags=1))
    assert OggOpusDemuxer().feed(data) == [b"a", long + b"end", b"b"]
    tags = TAGS + b"p" * (255 * 4 - len(TAGS))
    data = page([HEAD], flags=2) + page([tags], open_end=True) + page([b"more tags"], flags=1) + page([b"sound"])
    assert OggOpusDemuxer().feed(data) == [b"sound"]


def test_lost_beginnings_and_ends_cost_only_their_packet() -> None:
    lost_start = stream(page([b"tail of something", b"whole"], flags=1))
    assert OggOpusDemuxer().feed(lost_start) == [b"whole"]
    lost_end = stream(page([b"x" * 255], open_end=True), page([b"whole"]))
    assert OggOpusDemuxer().feed(lost_end) == [b"whole"]


def test_chained_and_interleaved_streams() -> None:
    chained = (
        stream(page([b"one"], flags=4))
        + stream(page([b"two"], serial=8, flags=4), serial=8)
        + stream(page([b"three"]), serial=7)
    )
    demuxer = OggOpusDemuxer()
    assert demuxer.feed(chained) == [b"one", b"two", b"three"]
    demuxer.finish()
    unclosed = stream(page([b"one"])) + stream(page([b"two"], serial=8), serial=8)
    assert OggOpusDemuxer().feed(unclosed) == [b"one", b"two"]
    video = page([b"theora"], flags=2, serial=99)
    mixed = page([HEAD], flags=2) + video + page([TAGS]) + page([b"frame"], serial=99) + page([b"sound"])
    assert OggOpusDemuxer().feed(mixed) == [b"sound"]


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"OggX" + b"\0" * 40,
        b"OggS\x01" + b"\0" * 40,
        page([HEAD], flags=2) + page([b"no tags here"]),
        page([HEAD[:12]], flags=2) + page([TAGS]),
        page([HEAD[:8] + b"\x21" + HEAD[9:]], flags=2) + page([TAGS]),
        stream(page([b"ok"])) + b"garbage between pages",
        stream(*(page([b"x" * 255 * 200], flags=flags, open_end=True) for flags in (0, 1, 1))),
    ],
)
def test_broken_pages_are_errors(data: bytes) -> None:
    with pytest.raises(DecodeError):
        OggOpusDemuxer().feed(data)


def test_finish_tells_a_cut_stream_from_a_whole_one() -> None:
    for cut in (
        b"",
        page([HEAD], flags=2),
        stream(page([b"one"]))[:-1],
        stream(page([b"x" * 255], open_end=True)),
        page([b"v"], flags=2),
    ):
        demuxer = OggOpusDemuxer()
        demuxer.feed(cut)
        with pytest.raises(DecodeError):
            demuxer.finish()


@given(st.binary(max_size=300), st.sampled_from([OGG, WAV[:3000], MP3[:3000]]), st.integers(0, 200))
def test_noise_ends_in_sound_or_a_decode_error(noise: bytes, body: bytes, at: int) -> None:
    data = body[:at] + noise + body[at + len(noise) :]
    for decoder in (WavDecoder(), Mp3Decoder()):
        try:
            through(decoder, data, 500)
        except DecodeError:
            pass
    try:
        demuxed([data])
    except DecodeError:
        pass
