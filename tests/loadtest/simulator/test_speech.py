"""Speech for simulated devices: espeak's words, other people's WAV files, Opus packets of every length."""

from __future__ import annotations

import subprocess
import wave

import pytest

from loadtest.simulator import opus, speech
from tests.fakes.sound import loudness, silence, tone


def write_wav(path, pcm: bytes, rate: int = 16_000, channels: int = 1, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(pcm)


def test_speaks_english_and_mandarin_once_each(monkeypatch):
    english, mandarin = speech.speak_all(["what time is it", "现在几点了"])

    monkeypatch.setattr(subprocess, "run", None)  # from here on a child process would fail
    again = speech.speak("what time is it")

    assert again is english
    for spoken in (english, mandarin):
        assert 500 < spoken.duration_ms < 5000
        assert loudness(spoken.pcm) > 500
        assert 0 <= spoken.voice_from_ms < spoken.voice_until_ms <= spoken.duration_ms
    assert english.pcm != mandarin.pcm
    assert (speech.voice_for("hi"), speech.voice_for("hi 你好")) == ("en-us", "cmn")


def test_says_when_espeak_has_no_such_voice():
    with pytest.raises(RuntimeError, match="no voice 'klingon-x'"):
        speech.speak("hello", voice="klingon-x")


def test_a_faster_voice_is_shorter():
    slow, fast = (speech.speak("what time is it now", words_per_minute=rate) for rate in (120, 240))

    assert fast.duration_ms < slow.duration_ms


@pytest.mark.parametrize("frame_ms", [20, 40, 60])
def test_packets_decode_to_the_sound(frame_ms):
    words = speech.from_pcm(tone(500))

    packets = words.packets(frame_ms)

    assert len(packets) == -(-500 // frame_ms)
    assert words.packets(frame_ms) is packets
    assert loudness(opus.decode(packets, 16_000)) == pytest.approx(loudness(words.pcm), rel=0.2)


@pytest.mark.parametrize("frame_ms", [20, 60])
def test_silence_is_silent(frame_ms):
    assert loudness(opus.decode([speech.silence(frame_ms)] * 10, 16_000)) < 5


def test_knows_where_the_voice_is():
    words = speech.from_pcm(silence(200) + tone(300) + silence(500))

    assert (words.voice_from_ms, words.voice_until_ms, words.duration_ms) == (200, 500, 1000)
    assert speech.from_pcm(silence(100)).voice_until_ms == 100


def test_any_pcm_wav_will_do(tmp_path):
    path = tmp_path / "stereo.wav"
    mono = tone(400, 48_000)
    stereo = b"".join(mono[at : at + 2] * 2 for at in range(0, len(mono), 2))
    write_wav(path, stereo, rate=48_000, channels=2)

    words = speech.from_wav(path)

    assert words.duration_ms == pytest.approx(400, abs=2)
    assert loudness(words.pcm) == pytest.approx(loudness(mono), rel=0.05)


@pytest.mark.parametrize(
    "content,complaint",
    [(b"", "not a PCM WAV"), (b"ID3 this is an mp3", "not a PCM WAV"), (None, "24-bit"), (0, "empty")],
)
def test_says_what_is_wrong_with_a_file(tmp_path, content, complaint):
    path = tmp_path / "question.wav"
    if content is None:
        write_wav(path, bytes(300), width=3)
    elif content == 0:
        write_wav(path, b"")
    else:
        path.write_bytes(content)

    with pytest.raises(ValueError, match=complaint):
        speech.from_wav(path)


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(OSError):
        speech.from_wav(tmp_path / "none.wav")
