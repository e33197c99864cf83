"""One utterance and its recognition: fed live, paused and resumed, asked for its text, failed and closed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gevent.event import Event

from tests.fakes.hearing import FakeAsr
from tests.fakes.sound import silence, tone
from tests.session.listening.ears import (
    MARGIN_MS,
    Make,
    QuickVad,
    StubbornAsr,
    StuckAsr,
    WholeAsr,
    ears_factory,
    ms,
    say,
    settle,
    streams,
)
from tests.waiting import PATIENCE_S
from xiaozhi.chat import CallContext
from xiaozhi.errors import TurnClosed, VendorError, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.asr import BatchAsr, Transcript
from xiaozhi.providers.wrappers import guard, with_fallback
from xiaozhi.runtime.resilience import RetryOptions
from xiaozhi.session.listening.listener import Utterance

make = pytest.fixture(ears_factory)


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_paused_and_ended_are_one_object_and_one_stream(make: Make) -> None:
    ears = make(pause_ms=120)
    ears.hear(silence(300) + tone(600) + silence(600))
    assert ears.sink.told == ["started", "paused", "ended"]
    (utterance,) = ears.sink.utterances
    assert ears.sink.paused == [utterance]
    assert ms(utterance.pcm) == pytest.approx(300 + 600 + 120, abs=2 * MARGIN_MS), (
        "complete at the pause; later silence is not in it"
    )
    (stream,) = streams(ears)
    assert utterance.transcribe().text == f"{len(utterance.pcm)} bytes"
    assert stream.pcm == utterance.pcm and stream.closed


@pytest.mark.parametrize(
    ("lead_ms", "after_ms"), [(100, 200), (500, 32)], ids=["as late as will do", "with the first quiet window"]
)
def test_by_itself_a_pause_is_told_in_time_to_prepare(make: Make, lead_ms: int, after_ms: int) -> None:
    """The silence that ends an utterance is 300 ms."""
    ears = make(pause_ms=None, lead_ms=lead_ms)
    ears.hear(silence(300) + tone(600) + silence(600))
    assert ears.sink.told == ["started", "paused", "ended"]
    assert ms(ears.sink.paused[0].pcm) == pytest.approx(300 + 600 + after_ms, abs=MARGIN_MS)


def test_at_most_half_a_recognition_more_per_utterance(make: Make) -> None:
    """Somebody who pauses twice in each sentence, each time a little longer than before."""
    ears = make(pause_ms=None)
    sentences = 12
    for number in range(sentences):
        gap = 64 + number * 12
        ears.hear(tone(500) + silence(gap) + tone(500) + silence(gap + 6) + tone(500) + silence(600))
    told = ears.sink.told
    assert told.count("ended") == sentences
    assert 2 <= told.count("resumed") <= (sentences + 1) / 2
    assert len(streams(ears)) == sentences, "nobody asked for a text, so nothing was recognised twice"


def test_how_its_end_was_noticed(make: Make) -> None:
    vad = QuickVad()
    vad.traits = replace(vad.traits, lag_ms=64)
    ears = make(vad=vad)
    began = ears.clock.now
    ears.hear(silence(300) + tone(600) + silence(600))
    (utterance,) = ears.sink.utterances
    assert utterance.ending is not None
    voice, quiet, silent, arrived = (
        round((at - began) * 1000)
        for at in (
            utterance.ended_at,
            utterance.ending.quiet_at,
            utterance.ending.silent_at,
            utterance.ending.arrived_at,
        )
    )
    assert quiet % 32 == 0 and 900 <= quiet <= 928, "the window in which the voice ended"
    assert voice == quiet - 64
    assert silent == quiet + 320, "ten windows are the first 300 ms"
    assert arrived == 1260, "the packet that completes that window"


TWO_PARTS = silence(300) + tone(600, hz=300) + silence(200) + tone(600, hz=700) + silence(600)


def test_resumed_without_anybody_asking_goes_on_with_the_stream(make: Make) -> None:
    ears = make(pause_ms=120)
    ears.hear(TWO_PARTS)
    assert ears.sink.told == ["started", "paused", "resumed", "ended"]
    (utterance,) = ears.sink.utterances
    assert ears.sink.paused[0] is not utterance and ears.sink.paused[0].closed
    assert tone(600, hz=300)[64:640] in utterance.pcm and tone(600, hz=700)[64:640] in utterance.pcm
    (stream,) = streams(ears)
    utterance.transcribe()
    assert stream.pcm == utterance.pcm


def test_resumed_after_the_text_was_asked_for_opens_another_stream_and_feeds_it_all(make: Make) -> None:
    ears = make(pause_ms=120)
    asked: list[str] = []
    ears.sink.on["paused"] = ears.sink.on["ended"] = lambda utterance: ears.tasks.spawn(
        "turn", lambda: asked.append(utterance.transcribe().text)
    )
    ears.hear(TWO_PARTS)
    assert ears.sink.told == ["started", "paused", "resumed", "ended"]
    first, second = streams(ears)
    (utterance,) = ears.sink.utterances
    assert first.finished and first.closed
    assert second.finished and second.pcm == utterance.pcm and second.pcm.startswith(first.pcm)
    assert asked == [f"{len(first.pcm)} bytes", f"{len(second.pcm)} bytes"]


def test_resumed_closes_a_recognition_that_is_still_under_way(make: Make) -> None:
    asr = StubbornAsr()
    ears = make(asr=asr, pause_ms=120)
    outcome: list[object] = []

    def ask(utterance: Utterance) -> None:
        try:
            outcome.append(utterance.transcribe())
        except (VendorError, TurnClosed) as error:
            outcome.append(error)

    ears.sink.on["paused"] = lambda utterance: ears.tasks.spawn("turn", ask, utterance)
    ears.hear(TWO_PARTS[: -32 * 600] + silence(60))
    assert ears.sink.told == ["started", "paused", "resumed"]
    settle()
    assert isinstance(outcome[0], VendorUnavailable), "whoever waited was released"
    assert asr.streams[0].closed and not asr.streams[1].closed


def test_a_paused_one_that_was_given_up_is_replaced_when_it_ends(make: Make) -> None:
    ears = make(pause_ms=120)
    ears.sink.on["paused"] = lambda utterance: utterance.close()
    ears.hear(silence(300) + tone(600) + silence(600))
    (paused,), (ended,) = ears.sink.paused, ears.sink.utterances
    assert ended is not paused and paused.pcm == b""
    assert tone(600)[64:640] in ended.pcm and ended.ended_at == paused.ended_at
    assert ended.transcribe().text == f"{len(ended.pcm)} bytes"


# --- recognisers ------------------------------------------------------------------------------------------------------


def test_a_vendor_that_is_slow_to_open_does_not_delay_the_end_of_the_voice(make: Make) -> None:
    asr = StuckAsr()
    utterance = say(make(asr=asr))
    asr.gate.set()
    assert utterance.transcribe().text == f"{len(utterance.pcm)} bytes"


def test_an_error_of_opening_is_raised_when_the_text_is_asked_for(make: Make) -> None:
    asr = StuckAsr(VendorRejected("fake", "no such key"))
    asr.gate.set()
    utterance = say(make(asr=asr))
    with pytest.raises(VendorRejected, match="no such key"):
        utterance.transcribe()
    asr.refuses = None
    assert utterance.transcribe().text == f"{len(utterance.pcm)} bytes", "a second call recognises anew"


def test_an_error_of_feeding_is_raised_when_the_text_is_asked_for(make: Make) -> None:
    asr = FakeAsr()

    def hang_up() -> None:
        for stream in asr.streams:
            stream.close()

    ears = make(asr=asr)
    ears.sink.on["started"] = lambda: ears.tasks.spawn("vendor hangs up", hang_up)
    with pytest.raises(VendorUnavailable, match="closed"):
        say(ears).transcribe()


def test_a_vendor_that_takes_no_sound_is_a_timeout(make: Make) -> None:
    asr = StuckAsr()
    ears = make(asr=asr, asr_deadline=0.02)
    utterance = say(ears)
    with pytest.raises(VendorTimeout):
        utterance.transcribe()
    settle()
    assert len(ears.tasks) == 1, "only the loop: whoever was opening has been stopped"


class StalledAsr(BatchAsr):
    """A vendor whose `tries` fail, then stall."""

    name = "ASR.Acme"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.tries = 0

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        self.tries += 1
        if self.tries <= self.failures:
            raise VendorUnavailable("acme")
        Event().wait(PATIENCE_S)
        return Transcript("late")


@pytest.mark.parametrize("failures", [0, 1])
def test_the_deadline_of_an_utterance_includes_all_tries(make: Make, failures: int) -> None:
    """A fallback's, too: whoever has spoken waits for one text."""
    vendors = [StalledAsr(failures), StalledAsr(failures)]
    guarded = [guard("asr", vendor, retry=RetryOptions(attempts=3, first=0.0), breaker=None) for vendor in vendors]
    ears = make(asr=with_fallback(guarded), asr_deadline=0.05)

    with pytest.raises(VendorTimeout, match=r"ASR\.Acme: no text within 0\.05 s"):
        say(ears).transcribe()

    assert [vendor.tries for vendor in vendors] == [failures + 1, 0]


def test_a_batch_recogniser_gets_the_whole_and_costs_nothing_before(make: Make) -> None:
    asr = WholeAsr()
    ears = make(asr=asr)
    utterance = say(ears)
    assert asr.heard == [] and len(ears.tasks) == 1, "no greenlet but the loop"
    assert utterance.transcribe().text == "d"
    assert asr.heard == [utterance.pcm]


def test_live_feeding_starts_with_the_pre_roll(make: Make) -> None:
    ears = make()
    ears.hear(silence(600) + tone(300))
    (stream,) = streams(ears)
    assert 300 <= ms(stream.pcm) <= 660
    before = len(stream.pcm)
    ears.hear(tone(300))
    assert len(stream.pcm) > before, "while it is being said"


def test_closed_utterances_have_neither_sound_nor_text(make: Make) -> None:
    ears = make()
    utterance = say(ears)
    utterance.close()
    utterance.close()
    assert utterance.pcm == b"" and streams(ears)[0].closed
    with pytest.raises(TurnClosed):
        utterance.transcribe()


def test_a_killed_transcription_closes_the_stream(make: Make) -> None:
    asr = StubbornAsr()
    ears = make(asr=asr)
    utterance = say(ears)
    turn = ears.tasks.spawn("turn", utterance.transcribe)
    settle()
    turn.kill()
    assert asr.streams[0].closed
