"""A second provider for when the first one fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import gevent.queue
import pytest
from gevent.event import Event

from tests.fakes.voice import speech_of
from tests.providers.scripted import (
    CONTEXT,
    END,
    Ears,
    Eyes,
    LiveEars,
    Model,
    Speech,
    Voice,
    ask,
    fails,
    heard,
    listen,
    settle,
    take,
)
from tests.waiting import PATIENCE_S
from xiaozhi.chat import CallContext, ToolCall
from xiaozhi.errors import (
    CircuitOpen,
    Overloaded,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.asr import Asr, BatchAsr
from xiaozhi.providers.contracts.llm import Llm, Retraction
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceTts,
    SpeechEnds,
    TtsStream,
)
from xiaozhi.providers.wrappers import guard, open_speech, with_fallback


def test_one_provider_needs_no_fallback_and_kinds_do_not_mix() -> None:
    model = Model()
    assert with_fallback([model]) is model
    with pytest.raises(TypeError):
        with_fallback([Model(), Voice()])


@pytest.mark.parametrize(
    "error", [VendorTimeout("m"), VendorRejected("m"), VendorGarbage("m"), CircuitOpen("m"), Overloaded("m")]
)
def test_the_next_model_answers(error: Exception) -> None:
    model = with_fallback([Model("never", errors=[error], name="first"), Model("second answers", name="second")])
    assert isinstance(model, Llm) and model.name == "first" and model.traits.calls_tools
    assert ask(model) == ["second answers"]


def test_no_fallback_after_the_first_piece_and_the_last_error_counts() -> None:
    class Breaks(Model):
        def chat(self, *args: Any) -> Iterator[str | ToolCall]:
            yield "half an"
            raise VendorUnavailable("m")

    second = Model("never")
    answer = with_fallback([Breaks(), second]).chat([], [], CONTEXT)
    assert next(answer) == "half an"
    with pytest.raises(VendorUnavailable):
        next(answer)
    assert second.calls == 0
    with pytest.raises(VendorGarbage):
        ask(with_fallback([Model(errors=[VendorTimeout("m")]), Model(errors=[VendorGarbage("m")])]))
    with pytest.raises(ValueError):
        ask(with_fallback([Model(errors=[ValueError("a bug is not cured by asking somebody else")]), second]))


def test_a_sign_of_life_is_not_an_answer_that_was_heard() -> None:
    class Thinks(Model):
        def chat(self, *args: Any) -> Iterator[str | ToolCall]:
            yield ""
            raise VendorUnavailable("m")

    answer = with_fallback([Thinks(), Model("second answers")]).chat([], [], CONTEXT)
    assert list(answer) == ["", "second answers"]


def test_limitations_are_seen_through_guard_and_fallback() -> None:
    class Limited(Model):
        @property
        def limitations(self) -> tuple[str, ...]:
            return ("tools",)

    guarded = guard("llm", Limited("x"))
    assert guarded.limitations == ("tools",) and list(guarded.guard.limitations()) == ["tools"]
    assert with_fallback([guarded, Model("y")]).limitations == ("tools",)
    assert guard("llm", Model("y")).limitations == ()


def test_what_nobody_has_taken_yet_is_dropped_when_it_is_taken_back() -> None:
    class Thinks(Model):
        def chat(self, *args: Any) -> Iterator[str | ToolCall]:
            yield from ("I think. ", "Hm.", Retraction(), "Hello.")

    assert ask(guard("llm", Thinks())) == ["", "Hello."]


def test_the_next_eyes_look() -> None:
    eyes = with_fallback([Eyes("a", VendorTimeout("a")), Eyes("b")])
    assert eyes.describe("q", b"", "image/png", CONTEXT).startswith("b:")


def test_the_next_recogniser_hears_the_same() -> None:
    asr = with_fallback([Ears(errors=[VendorTimeout("e")]), Ears("second")])
    assert isinstance(asr, BatchAsr)
    assert listen(asr, b"abc") == "second 3"


@pytest.mark.parametrize("where", ["open", "feed", "finish"])
def test_another_recogniser_hears_the_utterance_from_the_beginning(where: str) -> None:
    first, second = LiveEars("first", fail_at=where), LiveEars("second")
    asr = with_fallback([first, second])
    assert asr.traits.streaming
    assert listen(asr, b"one ", b"two") == "second one two"
    assert second.closed == 1
    mixed = with_fallback([LiveEars("first", fail_at=where), Ears()])
    assert isinstance(mixed, Asr) and not isinstance(mixed, BatchAsr)
    assert listen(mixed, b"one ", b"two") == "heard 7"


def test_when_all_recognisers_fail_the_last_error_surfaces() -> None:
    for where in ("open", "feed", "finish"):
        error = VendorGarbage("second")
        asr = with_fallback([LiveEars("first", fail_at=where), LiveEars("second", fail_at=where, error=error)])
        with pytest.raises(VendorGarbage):
            listen(asr, b"x")


def test_a_closed_utterance_takes_nothing() -> None:
    stream = with_fallback([LiveEars("a"), LiveEars("b")]).open(CONTEXT)
    stream.feed(b"x")
    assert stream.partial == "a 1"
    stream.close()
    with pytest.raises(VendorUnavailable):
        stream.finish()


def test_the_next_voice_says_the_sentence_at_its_own_rate() -> None:
    first, second = Voice("first"), Voice("second", rate=16_000)
    first.script["b"] = fails(VendorTimeout("v"))
    tts = with_fallback([first, second])
    assert isinstance(tts, SentenceTts) and tts.traits.voice_key == "first"
    stream = open_speech(tts, CONTEXT)
    stream.say("a")
    stream.say("b")
    stream.finish()
    sounds = [event for event in speech_of(stream) if isinstance(event, Pcm)]
    assert [(sound.data, sound.rate) for sound in sounds] == [(b"a#1a#2", 24_000), (b"b#1b#2", 16_000)]
    assert [sound.substitute for sound in sounds] == [False, True]


def test_a_sentence_that_broke_off_is_not_said_twice() -> None:
    first, second = Voice("first"), Voice("second")
    first.script["a"] = fails(VendorTimeout("v"), Pcm(b"half"))
    with pytest.raises(VendorTimeout):
        list(with_fallback([first, second]).synthesize("a", CONTEXT))
    assert second.asked == []


@pytest.mark.parametrize(
    ("fail_after", "expected"),
    [
        (0, ["a", "second:a#1", "second:a#2", "b", "second:b#1", "second:b#2", "c", "second:c#1", "second:c#2"]),
        (1, ["a", "first:a#1", "b", "second:b#1", "second:b#2", "c", "second:c#1", "second:c#2"]),
        (2, ["a", "first:a#1", "first:a#2", "b", "second:b#1", "second:b#2", "c", "second:c#1", "second:c#2"]),
        (5, ["a", "first:a#1", "first:a#2", "b", "first:b#1", "first:b#2", "c", "first:c#1"]),
        (6, ["a", "first:a#1", "first:a#2", "b", "first:b#1", "first:b#2", "c", "first:c#1", "first:c#2"]),
    ],
)
def test_another_streaming_voice_goes_on_with_what_nobody_has_heard(fail_after: int, expected: list[str]) -> None:
    first, second = Speech("first", fail_after=fail_after), Speech("second", rate=24_000)
    tts = with_fallback([first, second])
    assert tts.traits.streaming and tts.traits.sample_rate == 16_000 and tts.traits.voice_key == "first"
    stream = tts.open(CONTEXT)
    for sentence in "abc":
        stream.say(sentence)
    stream.finish()
    assert heard(stream) == expected
    stream.close()
    assert first.closed == 1
    assert second.closed == (fail_after < 6)


def test_every_sentence_of_a_fallback_has_one_beginning_and_one_end() -> None:
    tts = with_fallback([Speech("first", fail_after=3), Speech("second", rate=24_000)])
    stream = tts.open(CONTEXT)
    stream.say("a")
    stream.say("b")
    got = take(stream, 5)
    stream.say("c")  # the first has failed, which nobody has come upon
    stream.finish()
    got += speech_of(stream)
    assert got == [
        *(SentenceBegins("a"), Pcm(b"first:a#1", 16_000), Pcm(b"first:a#2", 16_000), END),
        *(SentenceBegins("b"), Pcm(b"first:b#1", 16_000), END),
        *(SentenceBegins("c"), Pcm(b"second:c#1", 24_000), Pcm(b"second:c#2", 24_000), END),
    ]
    assert [event.substitute for event in got if isinstance(event, Pcm)] == [False, False, False, True, True]
    assert stream.receive(0) == stream.receive(0) == SpeechEnds()


@pytest.mark.parametrize("where", ["open", "say"])
def test_a_streaming_voice_that_fails_at_once(where: str) -> None:
    stream = with_fallback([Speech("first", fail_at=where), Voice("second")]).open(CONTEXT)
    stream.say("a")
    stream.say("b")
    stream.finish()
    assert heard(stream) == ["a", "a#1", "a#2", "b", "b#1", "b#2"]


def test_a_sentence_without_sound_is_not_lost_in_a_fallback() -> None:
    second = Voice("second")
    second.script["…"] = lambda: iter(())
    stream = with_fallback([Speech("first", fail_after=0), second]).open(CONTEXT)
    stream.say("…")
    stream.say("a")
    stream.finish()
    assert list(speech_of(stream))[:3] == [SentenceBegins("…"), END, SentenceBegins("a")]


def test_ready_packets_of_a_substitute_are_marked() -> None:
    second = Voice("second")
    second.script["a"] = lambda: iter([OpusPackets((b"p",), 20.0)])
    for first in (Voice("first"), Speech("first", fail_at="open")):
        if isinstance(first, Voice):
            first.script["a"] = fails(VendorTimeout("v"))
        stream = open_speech(with_fallback([first, second]), CONTEXT)
        stream.say("a")
        stream.finish()
        assert [event.substitute for event in speech_of(stream) if isinstance(event, OpusPackets)] == [True]


def test_when_all_voices_fail_the_error_reaches_both_sides() -> None:
    tts = with_fallback([Speech("first", fail_at="open"), Speech("second", fail_after=0)])
    stream = tts.open(CONTEXT)
    stream.say("a")
    stream.finish()
    for _ in range(2):
        with pytest.raises(VendorUnavailable, match="second"):
            heard(stream)
    with pytest.raises(VendorUnavailable, match="second"):
        stream.say("b")
    with pytest.raises(VendorUnavailable):
        with_fallback([Speech("first", fail_at="open"), Speech("second", fail_at="open")]).open(CONTEXT)


def test_a_fallback_takes_no_more_sentences_than_any_stream() -> None:
    stream = with_fallback([Speech("first"), Speech("second")]).open(CONTEXT)
    for _ in range(MAX_WAITING_SENTENCES):
        stream.say("a")
    with pytest.raises(Overloaded):
        stream.say("b")
    assert take(stream, 1) == [SentenceBegins("a")]
    stream.say("b")
    stream.close()


def test_closing_a_fallback_wakes_whoever_receives() -> None:
    first = Speech("first")
    stream = with_fallback([first, Speech("second")]).open(CONTEXT)
    assert stream.receive(0) is None
    reader = gevent.spawn(lambda: pytest.raises(VendorUnavailable, stream.receive, 60))
    settle()
    stream.close()
    stream.close()
    reader.get(timeout=PATIENCE_S)
    assert first.closed == 1
    with pytest.raises(VendorUnavailable):
        stream.say("d")


class _Connecting(Speech):
    """Connects when it is told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.connected = Event()

    def open(self, context: CallContext) -> TtsStream:
        self.connected.wait(PATIENCE_S)
        return super().open(context)


def changing() -> tuple[TtsStream, _Connecting, Speech, gevent.Greenlet]:
    """A fallback whose second voice is connecting, a third one, and whoever receives."""
    second, third = _Connecting("second"), Speech("third")
    stream = with_fallback([Speech("first", fail_after=0), second, third]).open(CONTEXT)
    stream.say("a")
    reader = gevent.spawn(heard, stream)
    settle()
    return stream, second, third, reader


def test_what_is_said_while_the_next_voice_connects_is_said_by_it() -> None:
    stream, second, third, reader = changing()
    stream.say("b")
    stream.finish()
    second.connected.set()
    assert reader.get(timeout=PATIENCE_S) == ["a", "second:a#1", "second:a#2", "b", "second:b#1", "second:b#2"]
    assert third.said == []


def test_closing_while_the_next_voice_connects() -> None:
    stream, second, third, reader = changing()
    stream.close()
    second.connected.set()
    with pytest.raises(VendorUnavailable, match="closed"):
        reader.get(timeout=PATIENCE_S)
    assert second.closed == 1
    assert third.said == [], "nobody listens any more"


def test_a_voice_that_does_not_connect_in_time_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.providers.wrappers.tts.OPEN_DEADLINE_S", 0.01)
    stream, _, third, reader = changing()
    stream.finish()
    assert reader.get(timeout=PATIENCE_S) == ["a", "third:a#1", "third:a#2"]
    assert third.said == ["a"]
