"""Music files are read piece by piece, whatever they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.vendors.sounds import Sounds
from tests.fakes.sound import loudness, tone
from xiaozhi.audio.decode import DecodeError
from xiaozhi.audio.files import SoundFile, open_sound
from xiaozhi.audio.opus import Encoder

SECONDS = 3.0


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    return Sounds()


@pytest.mark.parametrize("form", ["wav", "mp3", "opus"])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_file_is_read_in_pieces_of_a_second(tmp_path: Path, sounds: Sounds, form: str, rate: int) -> None:
    path = tmp_path / f"song.{form}"
    path.write_bytes(sounds.body(form, SECONDS))
    sound = open_sound(path, rate)
    pieces = []
    while piece := sound.read():
        assert isinstance(piece, bytes)
        pieces.append(len(piece) / 2 / rate)

    assert len(pieces) == 3
    assert max(pieces) < 1.2
    assert sum(pieces) == pytest.approx(SECONDS, abs=0.1)
    assert sound.read() == b"", "the end stays the end"


def test_packets_of_a_p3_file_come_as_they_are(tmp_path: Path) -> None:
    path, packets = p3(tmp_path)
    sound = open_sound(path, 24_000)
    read: list[bytes] = []
    while piece := sound.read():
        assert isinstance(piece, list)
        assert len(piece) <= 16
        read += piece

    assert read == packets


@pytest.mark.parametrize("name", ["song.mp3", "song.wav", "song.p3"])
@pytest.mark.parametrize("content", [b"this is no sound, " * 50, b"\xff", b"RIFF\0\0\0\0WAVEfmt "])
def test_what_is_no_sound_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DecodeError):
        open_sound(path, 24_000).read()


@pytest.mark.parametrize("name", ["song.mp3", "song.p3"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError):
        open_sound(tmp_path / name, 24_000)


def test_a_file_that_is_cut_off_is_heard_as_far_as_it_goes(tmp_path: Path, sounds: Sounds) -> None:
    path = tmp_path / "song.mp3"
    body = sounds.body("mp3", SECONDS)
    path.write_bytes(body[: len(body) // 2])
    sound = open_sound(path, 24_000)
    heard = 0
    while piece := sound.read():
        heard += len(piece)

    assert 1.0 < heard / 48_000 < 2.0


@pytest.mark.parametrize("name", ["pipe.mp3", "pipe.p3"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DecodeError, match="no regular file"):
        open_sound(tmp_path / name, 16_000)


def pcm_of(sound: SoundFile) -> bytes:
    """All of it."""
    pcm = bytearray()
    while piece := sound.read():
        assert isinstance(piece, bytes)
        pcm += piece
    return bytes(pcm)


@pytest.mark.parametrize("form", ["wav", "mp3", "opus"])
def test_a_file_is_read_from_a_time_on(tmp_path: Path, sounds: Sounds, form: str) -> None:
    path = tmp_path / f"song.{form}"
    path.write_bytes(sounds.body(form, SECONDS))

    sound = open_sound(path, 24_000, start_ms=1_200)

    assert sound.start_ms == 1_200
    assert len(pcm_of(sound)) / 48_000 == pytest.approx(SECONDS - 1.2, abs=0.15)
    assert len(pcm_of(open_sound(path, 24_000, start_ms=60_000))) / 48_000 < 0.5, "behind its end there is nothing"


def test_what_is_skipped_is_not_decoded(tmp_path: Path, sounds: Sounds) -> None:
    path = tmp_path / "song.wav"
    body = sounds.body("wav", SECONDS)
    path.write_bytes(body)

    assert pcm_of(open_sound(path, sounds.sample_rate, start_ms=2_000)) == body[-sounds.sample_rate * 2 :]


def test_packets_of_a_p3_file_from_a_time_on(tmp_path: Path) -> None:
    path, packets = p3(tmp_path)

    sound = open_sound(path, 24_000, start_ms=130)

    assert sound.start_ms == 180, "packets are not cut"
    assert sound.read() == packets[3:19]
    assert open_sound(path, 24_000, start_ms=99_000).read() == []


def p3(folder: Path) -> tuple[Path, list[bytes]]:
    """A file of 50 packets."""
    packets = Encoder(16_000, 60).encode(tone(3_000))
    path = folder / "song.p3"
    path.write_bytes(b"".join(bytes([0, 0]) + len(packet).to_bytes(2, "big") + packet for packet in packets))
    return path, packets


@pytest.mark.parametrize("form", ["wav", "p3"])
def test_half_the_gain_is_half_the_amplitude(tmp_path: Path, sounds: Sounds, form: str) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(sounds.body("wav", SECONDS))
    if form == "p3":
        path, _ = p3(tmp_path)

    loud, quiet = (pcm_of(open_sound(path, 16_000, gain=gain)) for gain in (0.999, 0.5))

    assert len(quiet) == len(loud)
    assert loudness(quiet) == pytest.approx(loudness(loud) / 2, rel=0.01)
    assert loudness(pcm_of(open_sound(path, 16_000, gain=0.0))) == 0
