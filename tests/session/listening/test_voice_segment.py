"""Utterances by voice: their bounds in sound and on the clock; overload and failure of the detector; once with real
speech and Silero."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from unittest.mock import Mock

import gevent
import pytest
from gevent.event import Event

from loadtest.simulator.speech import speak
from tests.fakes.hearing import FakeVadStream
from tests.fakes.sound import silence, tone
from tests.session.listening.ears import (
    FRAME,
    MARGIN_MS,
    BusyVad,
    Make,
    QuickVad,
    ears_factory,
    ms,
    settle,
)
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import Encoder
from xiaozhi.errors import VendorUnavailable
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.vad import Vad, VadStream
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.session.listening import listener as listener_module

make = pytest.fixture(ears_factory)


# --- by voice ---------------------------------------------------------------------------------------------------------


def test_one_utterance_with_its_bounds(make: Make) -> None:
    ears = make()
    began = ears.clock.now
    ears.hear(silence(1200) + tone(900) + silence(600))
    assert ears.sink.told == ["started", "ended"]
    (utterance,) = ears.sink.utterances
    assert utterance.mode is ListenMode.AUTO and utterance.id == 1
    assert utterance.voiced_ms == pytest.approx(900, abs=MARGIN_MS)
    assert utterance.ended_at - began == pytest.approx(2.1, abs=MARGIN_MS / 1000), "the voice, not the silence after it"
    assert ears.listener.last_voice_at == utterance.ended_at
    assert ms(utterance.pcm) == utterance.duration_ms == pytest.approx(300 + 900 + 300, abs=2 * MARGIN_MS), (
        "pre-roll, voice, end silence"
    )
    before = utterance.pcm[: utterance.pcm.find(tone(900)[64:640])]
    assert ms(before) == pytest.approx(300, abs=MARGIN_MS)
    assert utterance.transcribe().text == f"{len(utterance.pcm)} bytes"
    assert ears.listener.stats.utterances == 1 and ears.listener.stats.packets == 45


@pytest.mark.parametrize("size", [640, 1280, 1920, 3840, 7680])
def test_packet_size_does_not_matter(make: Make, size: int) -> None:
    ears = make()
    began = ears.clock.now
    ears.hear(silence(960) + tone(1000) + silence(960), size)
    (utterance,) = ears.sink.utterances
    assert utterance.ended_at - began == pytest.approx(1.96, abs=MARGIN_MS / 1000), "in the middle of a packet"
    assert ms(utterance.pcm) == pytest.approx(300 + 1000 + 300, abs=2 * MARGIN_MS)


def test_a_burst_is_cut_like_the_same_sound_on_time(make: Make) -> None:
    ears = make()
    pcm = silence(600) + tone(600) + silence(600)
    for start in range(0, len(pcm), FRAME):
        ears.listener.hear(pcm[start : start + FRAME])
    settle()
    (utterance,) = ears.sink.utterances
    assert utterance.voiced_ms == pytest.approx(600, abs=MARGIN_MS)
    assert utterance.ended_at == pytest.approx(ears.clock.now, abs=0.06)


def test_two_utterances_share_no_sound(make: Make) -> None:
    ears = make(pre_roll_frames=50)
    ears.hear(silence(300) + tone(600, hz=300) + silence(420) + tone(600, hz=700) + silence(600))
    first, second = ears.sink.utterances
    assert ms(first.pcm) + ms(second.pcm) <= 300 + 600 + 420 + 600 + 600
    assert tone(600, hz=300)[64:640] in first.pcm and tone(600, hz=300)[64:640] not in second.pcm
    assert second.id == 2


def test_too_long_is_cut_and_goes_on_without_a_gap(make: Make) -> None:
    ears = make(max_utterance_ms=1000)
    counting = b"".join(struct.pack("<h", 5000 + n % 20_000) for n in range(16 * 2500))
    ears.hear(counting + silence(600))
    first, second, third = ears.sink.utterances
    assert ears.sink.told == ["started", "ended"] * 3
    whole = first.pcm + second.pcm + third.pcm
    assert whole.startswith(counting[: len(counting) - 1024]), "not a sample lost or doubled"
    assert ms(first.pcm) == pytest.approx(1000, abs=MARGIN_MS)


def test_too_short_is_dropped(make: Make) -> None:
    ears = make(min_utterance_frames=20, pre_roll_frames=5)
    ears.hear(silence(600) + tone(180) + silence(600))
    assert ears.sink.told == ["started", "dropped: too short"]
    assert ears.listener.stats.discarded == 1
    assert all(stream.closed for stream in ears.asr.streams)  # type: ignore[attr-defined]


def test_stop_ends_it_at_once_and_closes_the_ears(make: Make) -> None:
    ears = make()
    ears.hear(silence(300) + tone(600))
    ears.listener.stop()
    settle()
    assert ears.sink.told == ["started", "ended"]
    assert not ears.listener.listening
    ears.hear(tone(600) + silence(600))
    assert len(ears.sink.utterances) == 1 and ears.listener.stats.ignored == 20
    ears.listener.start(ListenMode.AUTO)
    ears.hear(tone(600) + silence(600))
    assert len(ears.sink.utterances) == 2


def test_stop_without_a_voice_tells_nothing(make: Make) -> None:
    ears = make()
    ears.hear(silence(300))
    ears.listener.stop()
    settle()
    assert ears.sink.told == []


def test_an_utterance_whose_sound_stops_coming_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "STALL_S", 0.02)
    ears = make()
    ended = Event()
    ears.sink.on["ended"] = lambda _: ended.set()
    ears.hear(silence(300) + tone(600))
    assert ended.wait(timeout=PATIENCE_S)
    assert tone(600)[64:640] in ears.sink.utterances[0].pcm
    ears.hear(silence(300) + tone(600) + silence(600))
    assert len(ears.sink.utterances) == 2, "and the ears are still open"


# --- overload and failure ---------------------------------------------------------------------------------------------


def test_an_overloaded_detector_loses_nothing(make: Make) -> None:
    vad = BusyVad()
    ears = make(vad=vad)
    began = ears.clock.now
    ears.hear(silence(600))
    vad.stream.busy = True
    ears.hear(tone(600) + silence(300))
    assert ears.sink.told == [] and ears.listener.stats.vad_late == 15
    ears.clock.advance(3)
    vad.stream.busy = False
    ears.hear(silence(300))
    (utterance,) = ears.sink.utterances
    assert utterance.voiced_ms == pytest.approx(600, abs=MARGIN_MS)
    assert utterance.ended_at - began == pytest.approx(1.2, abs=MARGIN_MS / 1000), (
        "when it was said, not when it was judged"
    )
    assert tone(600)[64:640] in utterance.pcm


def test_what_a_detector_owes_is_asked_for_when_no_packet_comes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "OWED_RETRY_S", 0.005)
    vad = BusyVad()
    ears = make(vad=vad)
    ended = Event()
    ears.sink.on["ended"] = lambda _: ended.set()
    ears.hear(silence(120))
    vad.stream.busy = True
    ears.hear(tone(600) + silence(600))
    vad.stream.busy = False
    assert ended.wait(timeout=PATIENCE_S)


def test_a_failed_detector_ends_the_utterance_and_listens_anew(make: Make) -> None:
    vad = QuickVad()
    ears = make(vad=vad)
    ears.hear(silence(300) + tone(600))
    vad.streams[0].error = VendorUnavailable("vad", "gone")
    ears.hear(silence(60))
    assert ears.sink.told == ["started", "ended"] and ears.listener.stats.vad_failed == 1
    began = ears.clock.now
    ears.hear(silence(300) + tone(600, hz=700) + silence(600))
    assert ears.sink.told == ["started", "ended"] * 2
    second = ears.sink.utterances[1]
    assert second.ended_at - began == pytest.approx(0.9, abs=MARGIN_MS / 1000)
    assert tone(600, hz=700)[64:640] in second.pcm and tone(600)[64:640] not in second.pcm


def test_a_detector_that_fails_in_silence_leaves_no_trace_in_the_next_utterance(make: Make) -> None:
    vad = QuickVad()
    ears = make(vad=vad)
    ears.hear(silence(1200))
    vad.streams[0].error = VendorUnavailable("vad", "gone")
    ears.hear(silence(60))
    assert ears.sink.told == []
    began = ears.clock.now
    ears.hear(silence(600) + tone(600) + silence(600))
    (utterance,) = ears.sink.utterances
    assert utterance.ended_at - began == pytest.approx(1.2, abs=MARGIN_MS / 1000)
    assert ms(utterance.pcm) == pytest.approx(300 + 600 + 300, abs=2 * MARGIN_MS)
    assert ms(utterance.pcm[: utterance.pcm.find(tone(600)[64:640])]) == pytest.approx(300, abs=MARGIN_MS)


def test_stop_includes_what_an_overloaded_detector_has_not_judged(make: Make) -> None:
    vad = BusyVad()
    ears = make(vad=vad)
    ears.hear(silence(300) + tone(600))
    vad.stream.busy = True
    ears.hear(tone(600, hz=700))
    ears.listener.stop()
    settle()
    (utterance,) = ears.sink.utterances
    assert tone(600, hz=700)[64:640] in utterance.pcm and ms(utterance.pcm) == 300 + 600 + 600


@pytest.mark.parametrize("error", [None, VendorUnavailable("vad", "gone")])
def test_reset_while_the_detector_works_makes_its_answer_void(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    logged = Mock()
    monkeypatch.setattr(listener_module, "log", logged)
    gate = Event()
    gate.set()

    class SlowStream(FakeVadStream):
        def feed(self, pcm: bytes) -> list[float]:
            gate.wait(timeout=PATIENCE_S)
            return super().feed(pcm)

    class SlowVad(QuickVad):
        def open(self) -> VadStream:
            self.streams.append(SlowStream(None, self.traits.window_samples))
            return self.streams[-1]

    vad = SlowVad()
    ears = make(vad=vad)
    ears.hear(silence(300) + tone(600))
    gate.clear()
    vad.streams[0].error = error
    for _ in range(16):
        ears.listener.hear(silence(60))
    settle()
    ears.listener.reset()
    gate.set()
    settle()
    assert ears.sink.told == ["started"]
    assert not logged.exception.called


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def silero() -> Iterator[Vad]:
    pool = InferencePool(workers=2)
    pool.start()
    built = registry.build("vad", "SileroVAD", {"type": "silero", "min_silence_duration_ms": 400}, Services(pool))
    built.warm_up()
    yield built
    built.close()
    assert pool.close()


@pytest.mark.parametrize("frame_ms", [20, 60])
@pytest.mark.parametrize("text", ["What time is it?", "现在几点了？"])
def test_a_spoken_sentence_is_exactly_one_utterance(make: Make, silero: Vad, text: str, frame_ms: int) -> None:
    said = speak(text)
    pcm = silence(1020) + said.pcm + silence(1020)
    ears = make(vad=silero, audio_format="opus", pre_roll_frames=10, min_utterance_frames=15, pause_ms=200)
    ended = Event()
    ears.sink.on["ended"] = lambda _: ended.set()
    began = ears.clock.now
    for packet in Encoder(16_000, frame_ms, bitrate=17_000).encode(
        pcm
    ):  # as the firmware encodes: the speech layer, 17 kbit/s
        ears.clock.advance(frame_ms / 1000)
        ears.listener.hear(packet)
        gevent.sleep(0)
    assert ended.wait(timeout=PATIENCE_S)
    assert ears.sink.told[0] == "started" and ears.sink.told[-1] == "ended" and len(ears.sink.utterances) == 1
    (utterance,) = ears.sink.utterances
    voice_from, voice_until = 1020 + said.voice_from_ms, 1020 + said.voice_until_ms
    assert utterance.ended_at - began == pytest.approx(voice_until / 1000, abs=0.2)
    assert utterance.voiced_ms == pytest.approx(voice_until - voice_from, abs=350)
    assert voice_until - voice_from + 500 <= utterance.duration_ms <= voice_until - voice_from + 600 + 400 + 400
    assert utterance.transcribe().text == f"{len(utterance.pcm)} bytes"
