"""What the answers of a device share: cached sound by voice and format, the chime, a stream of either kind of voice."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from loadtest.vendors.sounds import wav
from tests.fakes.clock import FakeClock
from tests.fakes.inference import InlineInference
from tests.session.speaking.speech import RATE, RecordingOutbox, Sayer, Streamer, pcm
from xiaozhi.audio.clips import Clips
from xiaozhi.audio.decode import decode_file
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.tts import SentenceBegins
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.speaking.voice import CACHED_TEXT_LENGTH, DeviceVoice

FRAMES = (b"1", b"2")


def voice(cache: SpeechCache | None = None, *, form: VoiceFormat | None = None, chime: str = "") -> DeviceVoice:
    return DeviceVoice(
        outbox=RecordingOutbox(),  # type: ignore[arg-type]
        inference=InlineInference(),  # type: ignore[arg-type]
        replies=cache if cache is not None else SpeechCache(1 << 20),
        clips=Clips(decode_file),
        voice=form or VoiceFormat("pcm", RATE, 60),
        chime=chime,
    )


def test_sound_is_cached_by_voice_format_and_text() -> None:
    cache = SpeechCache(1 << 20)
    device = voice(cache)
    device.keep(Sayer("anna"), "Hello.", FRAMES)
    assert device.cached(Sayer("anna"), "Hello.") == FRAMES
    assert voice(cache).cached(Sayer("anna"), "Hello.") == FRAMES, "for every device"
    assert device.cached(Sayer("anna"), "Hello!") is None
    assert device.cached(Sayer("berta"), "Hello.") is None
    for other in (VoiceFormat("opus", RATE, 60), VoiceFormat("pcm", 16_000, 60), VoiceFormat("pcm", RATE, 20)):
        assert voice(cache, form=other).cached(Sayer("anna"), "Hello.") is None


def test_short_sentences_of_single_requests_are_worth_caching() -> None:
    device, streamer = voice(), Streamer(FakeClock())
    assert device.caches(Sayer(), "x" * CACHED_TEXT_LENGTH)
    assert not device.caches(Sayer(), "x" * (CACHED_TEXT_LENGTH + 1))
    assert not device.caches(streamer, "Hello.")
    device.keep(streamer, "Hello.", FRAMES)
    assert device.cached(streamer, "Hello.") is None, "a session speaks a whole answer"


def test_a_stream_of_either_kind_of_voice() -> None:
    device, streamer, sayer = voice(), Streamer(FakeClock()), Sayer()
    assert device.open(streamer, CallContext()) is streamer.stream
    stream = device.open(sayer, CallContext())
    stream.say("Hello.")
    assert stream.receive(1) == SentenceBegins("Hello.")
    stream.close()


def test_an_encoder_is_for_one_answer() -> None:
    device = voice()
    first, second = device.encoder(), device.encoder()
    assert first is not second
    assert first.pcm(pcm(60), RATE) == [pcm(60)]


def test_a_chime_that_cannot_be_played_is_replaced_by_the_built_in_one(tmp_path: Path) -> None:
    ding = tmp_path / "ding.wav"
    ding.write_bytes(wav(pcm(60), RATE))
    assert voice(chime=str(ding)).chime() == (pcm(60),)
    ding.write_bytes(b"garbage" * 100)
    with capture_logs() as logs:
        assert voice(chime=str(ding)).chime() == voice(chime=str(tmp_path / "missing")).chime() == voice().chime()
    assert [entry["event"] for entry in logs] == ["chime cannot be played"] * 2
