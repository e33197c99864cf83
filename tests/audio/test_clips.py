from __future__ import annotations

import math
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from xiaozhi.audio.clips import ClipFormat, Clips, chime, load, to_frames
from xiaozhi.audio.decode import decode_file
from xiaozhi.audio.opus import Decoder


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(float)


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_the_chime_is_short_soft_and_begins_and_ends_in_silence(rate: int) -> None:
    wave = samples(chime(rate))
    assert 0.3 < len(wave) / rate < 0.6
    assert 0.15 < np.abs(wave).max() / 32_768 < 0.3
    assert abs(wave[0]) < 50 and np.abs(wave[-rate // 1000 :]).max() < 200
    # Two notes: the strongest pitch of the beginning and of the end differ, and are where they should be.
    for part, pitch in ((wave[: rate // 10], 987.77), (wave[rate // 5 :], 1318.51)):
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * rate))
        assert abs(np.argmax(spectrum) / 8 - pitch) < 20


@pytest.mark.parametrize("frame_ms", [20, 40, 60])
def test_the_chime_as_opus_decodes_to_sound(frame_ms: int) -> None:
    frames = Clips(lambda data, rate: b"").frames("", ClipFormat("opus", 24_000, frame_ms))
    decoder = Decoder(24_000)
    heard = [decoder.decode(frame) for frame in frames]
    assert all(len(pcm) == 24 * frame_ms * 2 for pcm in heard)
    assert len(frames) >= math.ceil(420 / frame_ms)
    assert np.abs(samples(b"".join(heard))).max() > 2_000


def test_pcm_devices_get_whole_frames_of_pcm() -> None:
    frames = to_frames(b"\1\0" * 1_000, ClipFormat("pcm", 16_000, 20))
    assert [len(frame) for frame in frames] == [640] * 4
    assert b"".join(frames) == (b"\1\0" * 1_000).ljust(640 * 4, b"\0")


def test_a_file_is_decoded_once_per_format(tmp_path: Path) -> None:
    path = tmp_path / "beep.wav"
    path.write_bytes(b"a file")
    asked: list[tuple[bytes, int]] = []

    def decode(data: bytes, rate: int) -> bytes:
        asked.append((data, rate))
        return b"\1\0" * rate

    library = Clips(decode)
    first = library.frames(str(path), ClipFormat("pcm", 16_000, 60))
    assert library.frames(str(path), ClipFormat("pcm", 16_000, 60)) is first
    library.frames(str(path), ClipFormat("pcm", 8_000, 60))
    assert asked == [(b"a file", 16_000), (b"a file", 8_000)]
    for number in range(100):
        library.frames("", ClipFormat("pcm", 16_000, 20 + number))
    assert library.frames(str(path), ClipFormat("pcm", 16_000, 60)) == first


def test_a_wav_file_of_the_user_is_played(tmp_path: Path) -> None:
    path = tmp_path / "ding.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(chime(16_000))
    frames = Clips(decode_file).frames(str(path), ClipFormat("pcm", 24_000, 60))
    assert {len(frame) for frame in frames} == {24 * 60 * 2}
    assert 7 <= len(frames) <= 8
    assert 0.15 < np.abs(samples(b"".join(frames))).max() / 32_768 < 0.3


def test_what_cannot_be_a_clip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    with pytest.raises(OSError):
        load(path, 16_000, lambda data, rate: b"\0\0")
    path.write_bytes(b"xxxxx")
    with pytest.raises(ValueError, match="no sound"):
        load(path, 16_000, lambda data, rate: b"")
    assert len(load(path, 16_000, lambda data, rate: b"\0\0" * rate * 60)) == 16_000 * 2 * 10
    os.truncate(path, 5 * 1024 * 1024)
    with pytest.raises(ValueError, match="larger"):
        load(path, 16_000, lambda data, rate: b"\0\0")
