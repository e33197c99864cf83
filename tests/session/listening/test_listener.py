"""Who hears when: modes, pausing, the queue, the loop, and noise. Detectors and recognisers are scripted."""

from __future__ import annotations

import struct
from unittest.mock import Mock

import pytest

from tests.fakes.hearing import FakeAsr
from tests.fakes.sound import silence, tone
from tests.session.listening.ears import (
    FRAME,
    MARGIN_MS,
    BusyVad,
    Make,
    ears_factory,
    settle,
    streams,
)
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import Decoder, Encoder
from xiaozhi.errors import VendorUnavailable
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.session.listening import listener as listener_module
from xiaozhi.session.listening.decoder import RESYNC_AFTER, Packet, Sound
from xiaozhi.session.listening.listener import Utterance

make = pytest.fixture(ears_factory)


# --- by button --------------------------------------------------------------------------------------------------------


def test_everything_between_start_and_stop_is_one_utterance(make: Make) -> None:
    ears = make()
    ears.listener.start(ListenMode.MANUAL)
    pcm = silence(600) + tone(320) + silence(3000) + tone(320, hz=900)
    ears.hear(pcm)
    assert ears.sink.told == ["started"]
    last = ears.clock.now
    ears.clock.advance(0.5)
    ears.listener.stop()
    settle()
    assert ears.sink.told == ["started", "ended"]
    (utterance,) = ears.sink.utterances
    assert utterance.pcm == pcm and utterance.duration_ms == 4240
    assert 560 <= utterance.voiced_ms <= 720
    assert utterance.ended_at == last == ears.listener.last_voice_at
    assert utterance.mode is ListenMode.MANUAL
    assert utterance.transcribe().text == f"{len(pcm)} bytes"


@pytest.mark.parametrize("pcm", [silence(1_500), tone(1_500, amplitude=100)])
def test_a_button_without_a_voice_asks_no_recogniser(make: Make, pcm: bytes) -> None:
    asr = FakeAsr()
    ears = make(asr=asr)
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(pcm)
    ears.listener.stop()
    settle()
    assert ears.sink.told == ["started", "dropped: no voice"]
    assert asr.streams == []
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(tone(600))
    ears.listener.stop()
    settle()
    assert ears.sink.told[2:] == ["started", "ended"]


def test_a_recogniser_that_streams_gets_everything_since_the_button(make: Make) -> None:
    asr = FakeAsr()
    ears = make(asr=asr)
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(silence(900))
    assert asr.streams == []
    ears.hear(tone(300))
    assert asr.streams[0].pcm[: 32 * 900] == silence(900), "it works while the button is held"
    ears.hear(silence(300))
    ears.listener.stop()
    settle()
    assert ears.sink.utterances[0].transcribe().text == "hello"
    assert asr.streams[0].pcm == silence(900) + tone(300) + silence(300)


@pytest.mark.parametrize("fault", ["busy", "error"])
def test_what_the_detector_cannot_judge_counts_as_a_voice(make: Make, fault: str) -> None:
    vad = BusyVad()
    ears = make(vad=vad)
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(silence(60))
    if fault == "busy":
        vad.stream.busy = True
    else:
        vad.stream.error = VendorUnavailable("vad")
    ears.hear(silence(1_140))
    ears.listener.stop()
    settle()
    assert ears.sink.told == ["started", "ended"]
    assert ears.sink.utterances[0].duration_ms == ears.sink.utterances[0].voiced_ms == 1_200


def test_what_the_detector_owes_is_asked_for_at_the_end(make: Make) -> None:
    vad = BusyVad()
    ears = make(vad=vad)
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(silence(60))
    vad.stream.busy = True
    ears.hear(silence(1_140))
    vad.stream.busy = False
    ears.listener.stop()
    settle()
    assert ears.sink.told == ["started", "dropped: no voice"]


def test_stop_comes_after_what_is_queued(make: Make) -> None:
    ears = make()
    ears.listener.start(ListenMode.MANUAL)
    for _ in range(30):
        ears.listener.hear(tone(60))
    ears.listener.stop()
    ears.listener.hear(tone(60))  # too late
    settle()
    assert ears.sink.utterances[0].duration_ms == 1800


def test_button_without_sound_and_with_too_little(make: Make) -> None:
    ears = make(min_utterance_frames=15)
    ears.listener.start(ListenMode.MANUAL)
    ears.listener.stop()
    settle()
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(tone(840))
    ears.listener.stop()
    settle()
    assert ears.sink.told == ["dropped: no sound", "started", "dropped: too short"]


def test_button_held_for_ever_is_bounded(make: Make) -> None:
    ears = make(max_utterance_ms=1000)
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(tone(3000))
    ears.listener.stop()
    settle()
    assert ears.sink.utterances[0].pcm == tone(3000)[: 32 * 1000]


# --- who hears when ---------------------------------------------------------------------------------------------------


def test_start_forgets_what_was_under_way(make: Make) -> None:
    ears = make(asr=FakeAsr())
    ears.hear(silence(300) + tone(600))
    ears.listener.start(ListenMode.AUTO)
    settle()
    assert all(stream.closed for stream in streams(ears)) and ears.listener.queued_bytes == 0
    ears.hear(silence(600))
    assert ears.sink.told == ["started"], "neither ended nor dropped: who called start knows"


def test_paused_in_auto_mode_nothing_is_heard(make: Make) -> None:
    ears = make()
    ears.listener.pause()
    ears.hear(tone(600) + silence(600))
    assert ears.sink.told == [] and ears.listener.stats.ignored == 20 and len(ears.tasks) == 0
    ears.listener.resume()
    ears.hear(tone(600) + silence(600))
    assert ears.sink.told == ["started", "ended"]


def test_paused_in_realtime_mode_all_is_heard(make: Make) -> None:
    ears = make()
    ears.listener.start(ListenMode.REALTIME)
    ears.hear(tone(300))
    ears.listener.pause()
    ears.hear(tone(300) + silence(600))
    assert ears.sink.told == ["started", "ended"]
    assert ears.sink.utterances[0].voiced_ms == pytest.approx(600, abs=MARGIN_MS)


def test_start_ends_a_pause(make: Make) -> None:
    ears = make()
    ears.listener.pause()
    ears.listener.start(ListenMode.AUTO)
    ears.hear(tone(600) + silence(600))
    assert ears.sink.told == ["started", "ended"]


def test_voices_before_ignore_until_are_not_heard_but_the_button_is(make: Make) -> None:
    ears = make()
    ears.listener.ignore_until(ears.clock.now + 2)
    ears.hear(tone(1200) + silence(600))
    assert ears.sink.told == []
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(tone(120))
    assert ears.sink.told == ["started"]
    ears.listener.start(ListenMode.AUTO)
    ears.hear(silence(300) + tone(600) + silence(600))
    assert ears.sink.told == ["started", "started", "ended"]


def test_the_sink_may_pause_the_ears_from_within(make: Make) -> None:
    ears = make()
    ears.sink.on["ended"] = lambda _: ears.listener.pause()
    pcm = tone(600) + silence(600)
    for start in range(0, len(pcm), FRAME):
        ears.listener.hear(pcm[start : start + FRAME])
    for _ in range(10):
        ears.listener.hear(tone(60))
    settle()
    assert ears.sink.told == ["started", "ended"]
    assert ears.sink.utterances[0].transcribe().text


def test_a_failing_sink_does_not_make_the_device_deaf(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Mock()
    monkeypatch.setattr(listener_module, "log", logged)
    ears = make()

    def fail(_: Utterance) -> None:
        del ears.sink.on["ended"]
        raise RuntimeError("in the sink")

    ears.sink.on["ended"] = fail
    ears.hear(tone(600) + silence(600))
    ears.hear(tone(600) + silence(600))
    assert ears.sink.told == ["started", "ended"] * 2
    assert logged.exception.call_count == 1


# --- bounds and noise -------------------------------------------------------------------------------------------------


def test_nothing_runs_before_the_first_packet_and_after_a_long_silence(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "LINGER_S", 0.02)
    ears = make()
    settle()
    assert len(ears.tasks) == 0
    ears.hear(silence(120))
    assert len(ears.tasks) == 1
    assert ears.tasks.join(timeout=PATIENCE_S), "the loop ends by itself"
    assert ears.listener.queued_bytes == 0
    ears.hear(tone(600) + silence(600))
    assert ears.sink.told == ["started", "ended"]


def test_a_full_queue_drops_the_oldest(make: Make) -> None:
    ears = make(queue_packets=10)
    ears.listener.start(ListenMode.MANUAL)
    for number in range(30):
        ears.listener.hear(struct.pack("<h", 1_000 + number) * 960)
    assert ears.listener.queued_bytes == 10 * FRAME
    ears.listener.stop()
    settle()
    assert ears.listener.stats.dropped == 20
    assert [frame[0] for frame in struct.iter_unpack("<h1918x", ears.sink.utterances[0].pcm)] == list(
        range(1_020, 1_030)
    )
    assert ears.listener.queued_bytes == 0


def test_memory_of_listening_to_silence_is_bounded(make: Make) -> None:
    ears = make()
    ears.hear(silence(30_000))
    assert ears.listener.queued_bytes < 40_000


def test_corrupt_opus_is_counted_and_skipped(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    resets = Mock(side_effect=Decoder.reset, autospec=True)
    monkeypatch.setattr(Decoder, "reset", lambda self: resets(self))
    ears = make(audio_format="opus")
    ears.listener.start(ListenMode.MANUAL)
    good, bad = Encoder(16_000, 60).encode(tone(1200)), b"\xff\xff\xff"
    for number, packet in enumerate(good):
        ears.listener.hear(packet)
        if number == 3:
            for _ in range(RESYNC_AFTER + 1):
                ears.listener.hear(bad)
    ears.listener.stop()
    settle()
    stats = ears.listener.stats
    assert (stats.corrupt, stats.resyncs, stats.ignored) == (RESYNC_AFTER + 1, 1, 0)
    assert resets.call_count == 2, "when it was made, and once to start anew"
    assert ears.sink.utterances[0].duration_ms == 1200


def test_pcm_of_another_rate_and_stereo_is_converted(make: Make) -> None:
    ears = make(sample_rate=48_000, channels=2)
    ears.listener.start(ListenMode.MANUAL)
    stereo = b"".join(tone(1200, 48_000)[at : at + 2] * 2 for at in range(0, 48 * 1200 * 2, 2))
    ears.hear(stereo, 60 * 48 * 4)
    ears.listener.stop()
    settle()
    assert ears.sink.utterances[0].duration_ms == pytest.approx(1200, abs=10)


def test_close_is_final_and_idempotent(make: Make) -> None:
    ears = make(asr=FakeAsr())
    ears.hear(silence(300) + tone(600))
    ears.listener.close()
    ears.listener.close()
    settle()
    assert all(stream.closed for stream in streams(ears)) and len(ears.tasks) == 0
    ears.listener.start(ListenMode.AUTO)
    ears.listener.stop()
    ears.hear(tone(600) + silence(600))
    assert ears.sink.told == ["started"] and not ears.listener.listening and len(ears.tasks) == 0


# --- echo cancelling and end of turn ----------------------------------------------------------------------------------


class Halver:
    """An echo canceller that halves every sample for the recogniser, and notes what it was told."""

    def __init__(self) -> None:
        self.timestamps: list[int | None] = []
        self.somebody = True
        self.held_bytes = 0

    def cancel(self, pcm: bytes, packet: Packet) -> Sound:
        self.timestamps.append(packet.timestamp_ms)
        half = b"".join(struct.pack("<h", sample // 2) for (sample,) in struct.iter_unpack("<h", pcm))
        return Sound(pcm, half)

    def forget(self) -> None: ...


@pytest.mark.parametrize("mode", ListenMode)
def test_in_realtime_mode_an_echo_canceller_stands_between_decoder_and_detector(make: Make, mode: ListenMode) -> None:
    canceller = Halver()
    ears = make(canceller=canceller, min_utterance_frames=0)
    ears.listener.start(mode)
    ears.hear(tone(600, amplitude=8000), timestamp_ms=480)
    ears.hear(silence(600))
    ears.listener.stop()
    settle()

    (utterance,) = ears.sink.utterances
    cancels = mode is ListenMode.REALTIME
    assert max(sample for (sample,) in struct.iter_unpack("<h", utterance.pcm)) == (4000 if cancels else 8000)
    assert canceller.timestamps == ([480] * 10 + [None] * 10 if cancels else [])


def test_a_voice_is_not_noticed_while_the_canceller_says_it_is_nobody(make: Make) -> None:
    canceller = Halver()
    canceller.somebody = False
    canceller.held_bytes = 1_000
    ears = make(canceller=canceller, min_utterance_frames=0)
    ears.listener.start(ListenMode.REALTIME)

    ears.hear(tone(600, amplitude=8000))
    settle()
    assert ears.sink.told == []
    assert ears.listener.queued_bytes > canceller.held_bytes, "its memory is the session's"

    canceller.somebody = True
    ears.hear(tone(600, amplitude=8000))
    settle()
    assert ears.sink.told == ["started"]
    canceller.somebody = False
    ears.hear(tone(300, amplitude=8000))
    ears.hear(silence(1_500))
    settle()
    (utterance,) = ears.sink.utterances
    assert utterance.duration_ms > 900, "who is being heard is heard to the end"
