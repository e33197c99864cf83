"""Bodies that hold several files, headers that lie about sizes, and codecs that only FFmpeg knows: nothing is cut."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest

from loadtest.vendors.sounds import Sounds, hum, wav
from tests.audio.test_decode import page, through
from xiaozhi.audio.decode import FileDecoder, Mp3Decoder, RawDecoder, WavDecoder, decoder_for
from xiaozhi.audio.file_marks import files_in, has_mark, is_mpeg, sniff

SECOND = hum(1.0)
PART = SECOND[:14_400]
SIZES = [1, 7, 44, 4_096, 1_000_000]
SOUNDS = Sounds()


def encoded(container: str, codec: str, *, rate: int = 24_000, seconds: float = 1.0, **options: str) -> bytes:
    """A tone in any format FFmpeg writes."""
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options) as target:
        stream = target.add_stream(codec, rate=rate)
        stream.layout = "mono"
        pcm = np.frombuffer(hum(seconds, rate), "<i2")[np.newaxis]
        frame = av.AudioFrame.from_ndarray(pcm, "s16", "mono")
        frame.rate = rate
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate)
        size = stream.codec_context.frame_size or 1_024
        fifo = av.AudioFifo()
        for piece in resampler.resample(frame):
            fifo.write(piece)
        while (piece := fifo.read(size) or fifo.read(0)) is not None and piece.samples:
            target.mux(stream.encode(piece))
        target.mux(stream.encode(None))
    return out.getvalue()


def seconds_of(pcm: bytes, rate: int) -> float:
    return len(pcm) / 2 / rate


# --- WAV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("claimed", [None, 0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_several_wav_files_in_one_body(size: int, claimed: int | None) -> None:
    body = wav(PART, 24_000, size=claimed) * 3
    assert through(WavDecoder(), body, size) == PART * 3


@pytest.mark.parametrize("size", SIZES)
def test_chunks_between_the_files_are_no_sound(size: int) -> None:
    between = b"LIST\x05\0\0\0INFOx\0" + b"id3 \x02\0\0\0ab"
    assert through(WavDecoder(), wav(PART, 24_000) + between + wav(PART, 24_000) + between, size) == PART * 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("claimed", [2, 1_000, 1_001])
def test_samples_that_the_header_has_not_counted_are_heard(size: int, claimed: int) -> None:
    assert through(WavDecoder(), wav(SECOND[:9_600], 24_000, size=claimed), size) == SECOND[:9_600]


def test_a_header_in_the_middle_of_a_sample_and_an_odd_end() -> None:
    body = wav(PART + b"\x01", 24_000, size=0xFFFFFFFF) + wav(PART, 24_000) + b"\x01"
    assert through(WavDecoder(), body, 1_000) == PART * 2


def test_files_at_different_rates_come_out_at_the_first_ones() -> None:
    body = wav(SECOND, 24_000) + wav(hum(1.0, 16_000), 16_000) + wav(SECOND, 24_000)
    decoder = WavDecoder()
    pcm = through(decoder, body, 5_000)
    assert decoder.sample_rate == 24_000
    assert 2.99 < seconds_of(pcm, 24_000) < 3.01
    assert pcm.startswith(SECOND) and pcm.endswith(SECOND[-20_000:])


def test_a_file_that_is_empty_does_not_decide_the_rate_of_none() -> None:
    decoder = WavDecoder()
    pcm = through(decoder, wav(b"", 16_000, size=0) + wav(SECOND, 24_000), 100_000)
    assert seconds_of(pcm, decoder.sample_rate) == pytest.approx(1.0, abs=0.01)


def test_sound_is_not_held_back_for_a_mark_that_does_not_come() -> None:
    head = wav(b"", 24_000, size=0xFFFFFFFF)
    assert WavDecoder().feed(head + PART) == PART
    decoder = WavDecoder()
    assert len(decoder.feed(head + PART + b"RIFF")) >= len(PART) - 12
    assert decoder.feed(b"no mark, but sound") + decoder.finish() != b""
    assert through(WavDecoder(), head + b"RIFF" * 100, 3) == b"RIFF" * 100


@pytest.mark.parametrize(
    ("codec", "rate"),
    [
        ("pcm_mulaw", 8_000),
        ("pcm_alaw", 8_000),
        ("pcm_f64le", 24_000),
        ("pcm_f32le", 24_000),
        ("pcm_s24le", 24_000),
        ("pcm_s32le", 24_000),
        ("pcm_u8", 24_000),
        ("adpcm_ms", 22_050),
        ("adpcm_ima_wav", 22_050),
        ("libmp3lame", 24_000),
    ],
)
@pytest.mark.parametrize("files", [1, 2])
def test_codecs_of_wav(codec: str, rate: int, files: int) -> None:
    decoder = decoder_for("wav", 0)
    pcm = through(decoder, encoded("wav", codec, rate=rate) * files, 10_000)
    assert decoder.sample_rate == rate
    assert seconds_of(pcm, rate) == pytest.approx(files, abs=0.1 * files)
    assert np.abs(np.frombuffer(pcm, "<i2")).max() > 5_000


def test_only_what_ffmpeg_decodes_is_not_cheap() -> None:
    decoder = WavDecoder()
    decoder.feed(wav(PART, 24_000))
    assert decoder.cheap
    decoder = WavDecoder()
    decoder.feed(encoded("wav", "pcm_mulaw", rate=8_000))
    assert not decoder.cheap


# --- others -----------------------------------------------------------------------------------------------------------

OTHERS = [
    ("flac", "flac", 24_000),
    ("aiff", "pcm_s16be", 24_000),
    ("w64", "pcm_s16le", 24_000),
    ("au", "pcm_s16be", 24_000),
    ("caf", "pcm_s16le", 24_000),
    ("adts", "aac", 24_000),
    ("webm", "libopus", 48_000),
    ("ipod", "aac", 24_000),
]


@pytest.mark.parametrize(("container", "codec", "rate"), OTHERS)
@pytest.mark.parametrize("files", [1, 2])
def test_several_files_of_other_formats(container: str, codec: str, rate: int, files: int) -> None:
    body = encoded(container, codec, rate=rate) * files
    assert sniff(body[:40]) == "other"
    decoder = FileDecoder()
    pcm = through(decoder, body, 10_000)
    assert seconds_of(pcm, decoder.sample_rate) == pytest.approx(files, abs=0.15 * files)


def test_a_mark_within_the_sound_of_a_file_does_no_harm() -> None:
    pcm = PART + b"RIFF\x10\0\0\0WAVEfmt " + PART
    body = wav(pcm, 24_000)
    assert len(files_in(body)) == 2
    assert through(FileDecoder(), body, 10_000).startswith(PART)


@pytest.mark.parametrize("size", [100, 4_096, 1_000_000])
def test_several_mp3_files_with_tags_between_and_other_rates(size: int) -> None:
    cover = b"\xff\xfb\x90\x64" * 500  # looks like frames
    tag = b"ID3\x03\0\0" + bytes([0, 0, len(cover) >> 7, len(cover) & 127]) + cover
    mp3 = SOUNDS.body("mp3", 1.0)
    decoder = Mp3Decoder()
    pcm = through(decoder, tag + mp3 + tag + mp3, size)
    assert 2.0 <= seconds_of(pcm, 24_000) < 2.3
    other = encoded("mp3", "libmp3lame", rate=16_000)
    pcm = through(Mp3Decoder(), mp3 + other, size)
    assert 2.0 <= seconds_of(pcm, 24_000) < 2.3


def test_the_rate_of_a_file_is_that_of_its_frames() -> None:
    body = encoded("adts", "aac", rate=24_000)
    decoder = FileDecoder(16_000)
    assert seconds_of(through(decoder, body, 5_000), 16_000) == pytest.approx(1.0, abs=0.1)


def test_a_file_that_is_cut_off_is_heard_as_far_as_it_goes() -> None:
    body = encoded("flac", "flac", seconds=6)
    assert 1.5 < seconds_of(through(FileDecoder(), body[: len(body) // 2], 5_000), 24_000) < 4


def test_a_chain_of_ogg_streams_is_taken_apart_where_the_next_one_begins() -> None:
    one = page([b"\x01vorbis"], flags=2) + page([b"theora"], flags=2, serial=8) + page([b"sound"])
    assert files_in(one * 2 + one) == [one] * 3


def test_raw_samples_of_two_channels() -> None:
    stereo = struct.pack("<4h", 100, 300, -100, -300)
    assert through(RawDecoder(24_000, 2), stereo + b"\x01", 3) == struct.pack("<2h", 200, -200)


def test_marks_of_letters_and_frames_that_only_look_like_it() -> None:
    mp3, aac = SOUNDS.body("mp3", 1.0), encoded("adts", "aac")
    assert is_mpeg(mp3[mp3.index(b"\xff\xf3") :][:4_096]) and is_mpeg(aac[:4_096])
    assert not is_mpeg(b"\xff\xfb\x90\x64" + bytes(4_096)) and not is_mpeg(mp3[:40])
    assert has_mark(wav(PART, 24_000)) and not has_mark(b"\xff\xfb\x90\x64")
    assert not has_mark(struct.pack("<4h", 60, 0, 1, 2))
