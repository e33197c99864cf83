"""Pauses that are judged: what the words and a model say moves the silence, and nothing else does. Time is injected:
packets of 60 ms arrive by a clock that the test moves; plain silence is 600 ms here, the bounds are 240 and 1500."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.fakes.hearing import FakeAsr, FakeAsrStream, FakeVad
from tests.fakes.sound import silence, tone
from tests.session.listening.ears import Ears, Make, WholeAsr, ears_factory, ms, settle
from tests.waiting import PATIENCE_S
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorUnavailable
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers.contracts.asr import AsrStream, Transcript
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn, EndOfTurnTraits
from xiaozhi.providers.contracts.vad import VadTraits
from xiaozhi.session.listening.end_of_turn import Witnesses
from xiaozhi.session.listening.utterance import Utterance
from xiaozhi.speech.end_of_turn import SilenceBounds

make = pytest.fixture(ears_factory)

SPOKEN = silence(300) + tone(900)
PAUSE = 120
"""ms after which a pause is told here, in whole packets; windows and packets do not fall together (one window off)."""


class SlowVad(FakeVad):
    traits = VadTraits(offline=True, min_silence_ms=600)


class FakeModel(EndOfTurn):
    """Says what it is told, when `gate` is set."""

    type_name = "fake"

    def __init__(self, answer: float | Exception | None, languages: tuple[str, ...] = ()) -> None:
        self.traits = EndOfTurnTraits(offline=True, languages=languages, sound_ms=1_000)
        self.answer = answer
        self.gate = Event()
        self.gate.set()
        self.asked: list[bytes] = []
        self.broken_off = 0

    def judge(self, pcm: bytes) -> float | None:
        self.asked.append(pcm)
        try:
            assert self.gate.wait(timeout=PATIENCE_S)
        except gevent.GreenletExit:
            self.broken_off += 1
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class PartialAsr(FakeAsr):
    """Gives a partial text at once."""

    def __init__(self, partial: str) -> None:
        super().__init__()
        self.partial = partial

    def open(self, context: CallContext) -> AsrStream:
        stream = FakeAsrStream(self, context)
        stream.partial = self.partial
        self.streams.append(stream)
        return stream


def judged(
    make: Make, *, model: EndOfTurn | None = None, language: str = "en", words: str = "en zh", **own: Any
) -> Ears:
    witnesses = Witnesses(model, frozenset(words.split()), SilenceBounds(240, 1_500), lambda: language)
    return make(vad=SlowVad(), witnesses=witnesses, pause_ms=96, **own)


def transcribed(ears: Ears) -> None:
    """Every pause has its utterance transcribed, in a greenlet as a prepared turn has."""

    def prepare(utterance: Utterance) -> None:
        ears.tasks.spawn("turn", utterance.transcribe)

    ears.sink.on["paused"] = prepare


def silence_heard(ears: Ears) -> float:
    """ms of silence after which the one utterance ended, in packets of 60 ms; 0: it has not."""
    for count in range(1, 40):
        ears.hear(silence(60))
        if ears.sink.utterances:
            return count * 60
    return 0


@pytest.mark.parametrize(
    ("text", "needed"),
    [("What time is it?", 240), ("Turn on the", 1_500), ("", 600), ("Turn on the light.", 290), ("[BLANK_AUDIO]", 600)],
)
def test_words_move_the_silence(make: Make, text: str, needed: float) -> None:
    ears = judged(make, asr=FakeAsr([text]))
    transcribed(ears)
    ears.hear(SPOKEN)
    assert needed <= silence_heard(ears) <= needed + 2 * 60
    assert ears.sink.told == ["started", "paused", "ended"]
    assert ears.sink.utterances == ears.sink.paused, "what was prepared is what is answered"


@pytest.mark.parametrize(("answer", "needed"), [(0.995, 240), (0.01, 1_080), (0.9, 600), (None, 600)])
def test_the_sound_moves_the_silence(make: Make, answer: float | None, needed: float) -> None:
    model = FakeModel(answer)
    ears = judged(make, model=model, words="")
    ears.hear(SPOKEN)
    assert needed <= silence_heard(ears) <= needed + 2 * 60
    assert [ms(pcm) for pcm in model.asked] == [1_000], "asked once, with the end of the sound"


@pytest.mark.parametrize(("text", "sound", "needed"), [("I like it.", 0.99, 252), ("What time is it?", 0.1, 540)])
def test_words_and_sound_are_weighed_together(make: Make, text: str, sound: float, needed: float) -> None:
    ears = judged(make, asr=FakeAsr([text]), model=FakeModel(sound))
    transcribed(ears)
    ears.hear(SPOKEN)
    assert needed <= silence_heard(ears) <= needed + 2 * 60


def test_a_model_is_asked_before_the_recogniser_of_this_machine(make: Make) -> None:
    order: list[str] = []

    class Noted(FakeModel):
        def judge(self, pcm: bytes) -> float | None:
            order.append("sound")
            return super().judge(pcm)

    ears = judged(make, model=Noted(0.9))
    ears.sink.on["paused"] = lambda utterance: ears.tasks.spawn("turn", order.append, "words")
    ears.hear(SPOKEN + silence(300))
    assert order == ["sound", "words"]


@pytest.mark.parametrize(("partial", "asked"), [("turn on the", 0), ("turn on the light", 1)])
def test_no_model_is_asked_where_the_words_are_open(make: Make, partial: str, asked: int) -> None:
    model = FakeModel(0.9)
    ears = judged(make, asr=PartialAsr(partial), model=model)
    ears.hear(SPOKEN + silence(300))
    assert len(model.asked) == asked


def test_a_verdict_that_comes_late_ends_it_when_it_comes(make: Make) -> None:
    model = FakeModel(0.995)
    model.gate.clear()
    ears = judged(make, model=model, words="")
    ears.hear(SPOKEN + silence(420))
    assert ears.sink.told == ["started", "paused"]

    model.gate.set()
    settle()

    assert ears.sink.told == ["started", "paused", "ended"], "no packet has to come for it"
    ears.hear(SPOKEN + silence(420))
    assert len(ears.sink.utterances) == 2, "listening goes on"


def test_a_verdict_that_comes_too_late_changes_nothing(make: Make) -> None:
    model = FakeModel(0.01)
    model.gate.clear()
    ears = judged(make, model=model, words="")
    ears.hear(SPOKEN)
    assert 600 <= silence_heard(ears) <= 720
    assert model.broken_off == 1, "nobody waits for it any more"


def test_a_voice_that_goes_on_cancels_the_verdict(make: Make) -> None:
    model = FakeModel(0.995)
    model.gate.clear()
    ears = judged(make, model=model, words="")
    ears.hear(SPOKEN + silence(300) + tone(300))
    assert ears.sink.told == ["started", "paused", "resumed"] and model.broken_off == 1
    model.gate.set()
    model.answer = 0.9
    assert 600 <= silence_heard(ears) <= 720, "the next pause is judged anew"
    assert len(model.asked) == 2


def test_a_text_that_comes_after_the_pause_changes_nothing(make: Make) -> None:
    ears = judged(make, asr=FakeAsr(["What time is it?"]))
    ears.hear(SPOKEN + silence(300) + tone(300) + silence(60))
    (paused,) = ears.sink.paused
    assert paused.closed and paused.on_transcript is None
    assert 540 <= silence_heard(ears) <= 720


def test_witnesses_that_contradict_each_other_leave_the_silence_as_it_is(make: Make) -> None:
    ears = judged(make, asr=FakeAsr(["Turn on the"]), model=FakeModel(0.995))
    transcribed(ears)
    ears.hear(SPOKEN)
    assert 600 <= silence_heard(ears) <= 720


@pytest.mark.parametrize("error", [VendorUnavailable("model", "broken"), Overloaded("end of turn")])
def test_a_model_that_fails_leaves_the_silence_as_it_is(make: Make, error: Exception) -> None:
    ears = judged(make, model=FakeModel(error), words="")
    ears.hear(SPOKEN)
    assert 600 <= silence_heard(ears) <= 720


@pytest.mark.parametrize(
    ("language", "text", "needed", "asked"),
    [
        ("zh", "现在几点了？", 600, 0),  # the model is for English, and is not asked
        ("", "这个时候天气很好。", 600, 1),  # asked before it was known
        ("", "The weather is fine.", 240, 1),
        ("en", "Fine.", 240, 1),
    ],
)
def test_a_model_counts_in_its_languages(make: Make, language: str, text: str, needed: float, asked: int) -> None:
    model = FakeModel(0.995, languages=("en",))
    ears = judged(make, model=model, language=language, words="en", asr=FakeAsr([text]))
    transcribed(ears)
    ears.hear(SPOKEN)
    assert needed <= silence_heard(ears) <= needed + 2 * 60
    assert len(model.asked) == asked


def test_words_of_a_language_that_is_switched_off_say_nothing(make: Make) -> None:
    ears = judged(make, words="en", language="zh", asr=FakeAsr(["现在几点了吗"]))
    transcribed(ears)
    ears.hear(SPOKEN)
    assert 600 <= silence_heard(ears) <= 720


@pytest.mark.parametrize(("partial", "needed"), [("turn on the", 1_500), ("what time is it?", 600)])
def test_a_partial_text_can_show_that_more_is_to_come_but_not_that_this_was_all(
    make: Make, partial: str, needed: float
) -> None:
    ears = judged(make, asr=PartialAsr(partial))
    ears.hear(SPOKEN)
    assert needed <= silence_heard(ears) <= needed + 2 * 60


def test_the_language_that_the_recogniser_heard_counts_where_the_text_shows_none(make: Make) -> None:
    class Polyglot(WholeAsr):
        def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
            return Transcript("Stop.", language="en")

    ears = judged(make, language="", asr=Polyglot())
    transcribed(ears)
    ears.hear(SPOKEN)
    assert 240 <= silence_heard(ears) <= 360


@pytest.mark.parametrize("mode", [ListenMode.AUTO, ListenMode.REALTIME])
def test_it_works_in_both_modes_that_listen_for_a_voice(make: Make, mode: ListenMode) -> None:
    ears = judged(make, model=FakeModel(0.995), words="")
    ears.listener.start(mode)
    ears.hear(SPOKEN)
    assert 240 <= silence_heard(ears) <= 360


def test_a_button_is_not_overruled(make: Make) -> None:
    model = FakeModel(0.995)
    ears = judged(make, model=model)
    ears.listener.start(ListenMode.MANUAL)
    ears.hear(SPOKEN + silence(2_400))
    assert ears.sink.told == ["started"] and not model.asked
    ears.listener.stop()
    settle()
    assert ears.sink.told == ["started", "ended"]


def test_nothing_is_asked_where_nobody_is_to_be_asked(make: Make) -> None:
    ears = make(vad=SlowVad(), pause_ms=96, asr=FakeAsr(["What time is it?"]))
    transcribed(ears)
    ears.hear(SPOKEN)
    assert 600 <= silence_heard(ears) <= 720


def test_a_listener_that_is_reset_in_a_pause_breaks_the_judgement_off(make: Make) -> None:
    model = FakeModel(0.995)
    model.gate.clear()
    ears = judged(make, model=model, words="")
    ears.hear(SPOKEN + silence(180))
    ears.listener.reset()
    settle()
    assert model.broken_off == 1
    model.gate.set()
    settle()
    assert ears.sink.told == ["started", "paused"]
