"""Sentences of a voice in order: what is prepared ahead, what fails, what is given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import gevent
import gevent.queue
import pytest
from gevent.event import Event

from tests.fakes.voice import speech_of
from tests.providers.scripted import CONTEXT, END, QUICK, Speech, Voice, fails, heard, settle, take
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import (
    CircuitOpen,
    Overloaded,
    VendorBusy,
    VendorGarbage,
    VendorRejected,
    VendorSilent,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    Sound,
    SpeechEnds,
    TtsTraits,
)
from xiaozhi.providers.wrappers import by_sentence, guard, open_speech, with_fallback
from xiaozhi.runtime.resilience import Breaker, BreakerOptions, BreakerState
from xiaozhi.runtime.tasks import census


def hangs(*before: Sound) -> Callable[[], Iterator[Sound]]:
    def sounds() -> Iterator[Sound]:
        yield from before
        Event().wait()

    return sounds


def test_sentences_come_out_in_order_whatever_finishes_first() -> None:
    voice = Voice()
    first_may_end = Event()

    def slow() -> Iterator[Sound]:
        yield Pcm(b"a#1")
        first_may_end.wait(PATIENCE_S)
        yield Pcm(b"a#2")

    voice.script["a"] = slow
    stream = open_speech(voice, CONTEXT)
    stream.say("a")
    stream.say("b")
    got = take(stream, 2)
    while voice.left != ["b"]:
        gevent.sleep(0)  # b is made while a still sounds
    first_may_end.set()
    stream.finish()
    got += speech_of(stream)
    assert got == [SentenceBegins("a"), Pcm(b"a#1"), Pcm(b"a#2"), END, SentenceBegins("b"), Pcm(b"b#1b#2"), END]
    assert stream.receive(0) == SpeechEnds()


def test_sound_that_waits_comes_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.providers.tts_session.JOINED_BYTES", 6)
    voice = Voice()
    voice.script["a"] = lambda: iter(
        [
            Pcm(b"aa"),
            Pcm(b"bb"),
            Pcm(b"cc"),
            Pcm(b"dd"),
            Pcm(b"ee", 16_000),
            OpusPackets((b"p",), 20.0),
            Pcm(b"ff", 16_000, substitute=True),
        ]
    )
    stream = open_speech(voice, CONTEXT)
    stream.say("a")
    stream.finish()
    settle()  # all of it has been made
    assert list(speech_of(stream)) == [
        SentenceBegins("a"),
        Pcm(b"aabbcc"),
        Pcm(b"dd"),
        Pcm(b"ee", 16_000),
        OpusPackets((b"p",), 20.0),
        Pcm(b"ff", 16_000, substitute=True),
        END,
    ]


def test_look_ahead_is_bounded() -> None:
    voice = Voice()
    stream = open_speech(voice, CONTEXT)
    for sentence in "abcd":
        stream.say(sentence)
    stream.finish()
    settle()
    assert voice.asked == ["a", "b"]
    assert take(stream, 2) == [SentenceBegins("a"), Pcm(b"a#1a#2")]
    settle()
    assert voice.asked == ["a", "b"]
    assert take(stream, 2) == [END, SentenceBegins("b")]
    settle()
    assert voice.asked == ["a", "b", "c"]
    assert heard(stream) == ["b#1", "b#2", "c", "c#1", "c#2", "d", "d#1", "d#2"]


def test_no_more_sentences_wait_than_a_stream_takes() -> None:
    stream = open_speech(Voice(), CONTEXT)
    for _ in range(MAX_WAITING_SENTENCES):
        stream.say("a")
    with pytest.raises(Overloaded):
        stream.say("b")
    assert take(stream, 1) == [SentenceBegins("a")]
    stream.say("b")
    stream.finish()
    assert heard(stream)[-1] == "b#2"


def test_the_second_sentence_waits_for_the_first_sound_of_the_first() -> None:
    voice = Voice()
    sound = Event()

    def late() -> Iterator[Sound]:
        sound.wait(PATIENCE_S)
        yield Pcm(b"a#1")

    voice.script["a"] = late
    stream = open_speech(voice, CONTEXT)
    live = census.live
    stream.say("a")
    stream.say("b")
    settle()
    assert voice.asked == ["a"]
    assert census.live == live + 1, "a sentence that waits has no greenlet"
    sound.set()
    stream.finish()
    assert heard(stream) == ["a", "a#1", "b", "b#1", "b#2"]


@pytest.mark.parametrize(
    "error", [VendorTimeout("v"), VendorUnavailable("v"), CircuitOpen("v"), Overloaded("pool"), ValueError("bug")]
)
def test_a_vendor_that_fails_in_a_sentence_fails_where_it_would_be_heard(error: Exception) -> None:
    voice = Voice()
    voice.script["b"] = fails(error, Pcm(b"b#1"))
    stream = open_speech(voice, CONTEXT)
    stream.say("a")
    stream.say("b")
    stream.say("c")
    got = []
    with pytest.raises(type(error)):
        for event in speech_of(stream):
            got.append(event)
    assert got[-3:] == [END, SentenceBegins("b"), Pcm(b"b#1")]
    for _ in range(2):
        with pytest.raises(type(error)):
            stream.receive(1)
    with pytest.raises(type(error)):
        stream.say("d")
    stream.close()


UNSPEAKABLE = [VendorUnavailable("v", "500"), VendorBusy("v"), VendorRejected("v", "400"), VendorSilent("v")]


@pytest.mark.parametrize("error", UNSPEAKABLE)
def test_a_sentence_that_cannot_be_spoken_costs_that_sentence(error: Exception) -> None:
    voice = Voice()
    voice.script["b"] = voice.script["c"] = fails(error)
    stream = open_speech(voice, CONTEXT)
    for sentence in "abcd":
        stream.say(sentence)
    stream.finish()
    assert heard(stream) == ["a", "a#1", "a#2", "b", "c", "d", "d#1", "d#2"]
    assert stream.receive(0) == SpeechEnds()


def test_a_sentence_that_was_not_spoken_whole_says_so() -> None:
    voice = Voice()
    voice.script["b"] = fails(VendorGarbage("v"), Pcm(b"b#1"))
    stream = open_speech(voice, CONTEXT)
    for sentence in "abc":
        stream.say(sentence)
    stream.finish()
    ends = [event.whole for event in speech_of(stream) if isinstance(event, SentenceEnds)]
    assert ends == [True, False, True]


def test_a_vendor_that_breaks_from_the_first_sentence_on_is_not_asked_for_more_than_two() -> None:
    voice = Voice()
    voice.script |= dict.fromkeys("abcd", fails(VendorUnavailable("v", "500")))
    stream = open_speech(voice, CONTEXT)
    for sentence in "abcd":
        stream.say(sentence)
    stream.finish()
    with pytest.raises(VendorUnavailable):
        heard(stream)
    settle()
    assert voice.asked == ["a", "b"]


@pytest.mark.parametrize("error", UNSPEAKABLE)
def test_an_answer_without_any_sound_fails_at_its_end(error: Exception) -> None:
    voice = Voice()
    voice.script["a"] = voice.script["b"] = fails(error)
    stream = open_speech(voice, CONTEXT)
    stream.say("a")
    stream.say("b")
    stream.finish()
    with pytest.raises(type(error)):
        heard(stream)
    assert voice.asked == ["a", "b"]


def test_a_vendor_that_breaks_at_every_sentence_is_not_asked_for_ever() -> None:
    voice = Voice()
    voice.script |= dict.fromkeys("bcde", fails(VendorUnavailable("v", "500")))
    stream = open_speech(voice, CONTEXT)
    for sentence in "abcdefg":
        stream.say(sentence)
    stream.finish()
    with pytest.raises(VendorUnavailable):
        heard(stream)
    assert "f" not in voice.asked
    refused = Voice()
    refused.script |= dict.fromkeys("bcdef", fails(VendorRejected("v", "400")))
    stream = open_speech(refused, CONTEXT)
    for sentence in "abcdefg":
        stream.say(sentence)
    stream.finish()
    assert heard(stream)[-3:] == ["g", "g#1", "g#2"]


def test_the_next_voice_says_what_the_first_cannot() -> None:
    first, last = Voice("first"), Speech("last")
    first.script["b"] = fails(VendorRejected("first", "400"))
    stream = with_fallback([first, last]).open(CONTEXT)
    for sentence in "abc":
        stream.say(sentence)
    stream.finish()
    assert heard(stream) == ["a", "a#1", "a#2", "b", "last:b#1", "last:b#2", "c", "last:c#1", "last:c#2"]


def test_one_text_does_not_open_the_breaker_for_the_others() -> None:
    voice = Voice()
    voice.script["bad"] = fails(VendorUnavailable("v", "500"))
    voice.script["mute"] = fails(VendorSilent("v"))
    breaker = Breaker("b", BreakerOptions(min_volume=3, error_rate=0.5))
    guarded = guard("tts", voice, retry=QUICK, breaker=breaker)
    for text in ("good", "bad", "mute", "mute", "good", "bad"):
        stream = open_speech(guarded, CONTEXT)
        for sentence in ("good", text):
            stream.say(sentence)
        stream.finish()
        assert "good#1" in heard(stream)
        assert breaker.state is BreakerState.CLOSED
    assert voice.asked.count("bad") == 2 * QUICK.attempts


def test_close_breaks_off_the_requests_and_wakes_whoever_receives() -> None:
    voice = Voice()
    voice.script["a"] = hangs(Pcm(b"a#1"))
    voice.script["b"] = hangs()
    stream = open_speech(voice, CONTEXT)
    stream.say("a")
    stream.say("b")
    reader = gevent.spawn(lambda: pytest.raises(VendorUnavailable, list, speech_of(stream)))
    settle()
    assert voice.asked == ["a", "b"]
    stream.close()
    stream.close()
    reader.get(timeout=PATIENCE_S)
    with pytest.raises(VendorUnavailable):
        stream.say("c")
    settle()
    assert sorted(voice.left) == ["a", "b"]


def test_close_wakes_whoever_waits_for_the_first_sentence() -> None:
    stream = open_speech(Voice(), CONTEXT)
    reader = gevent.spawn(lambda: pytest.raises(VendorUnavailable, list, speech_of(stream)))
    settle()
    stream.close()
    reader.get(timeout=PATIENCE_S)


def test_receiving_with_a_timeout() -> None:
    voice = Voice()
    voice.script["a"] = hangs(Pcm(b"a#1"))
    stream = open_speech(voice, CONTEXT)
    assert stream.receive(0) is None
    assert stream.receive(0.001) is None
    stream.say("a")
    assert take(stream, 2) == [SentenceBegins("a"), Pcm(b"a#1")]
    assert stream.receive(0) is None
    assert stream.receive(0.001) is None
    stream.close()


def test_a_vendor_that_is_faster_than_the_listener_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.providers.wrappers.sentence_stream.BUFFERED_PIECES", 4)
    monkeypatch.setattr("xiaozhi.providers.wrappers.sentence_stream.WAIT_S", 0.02)
    voice = Voice()
    made: list[int] = []

    def endless() -> Iterator[Sound]:
        for number in range(1000):
            made.append(number)
            yield Pcm(b"xx")

    voice.script["a"] = endless
    stream = open_speech(voice, CONTEXT)
    stream.say("a")
    settle()
    assert len(made) <= 6
    wait_for(lambda: voice.left)  # nobody receives: it gives up
    with pytest.raises(VendorTimeout):
        stream.receive(1)
    stream.close()


def test_nothing_said_and_empty_sentences() -> None:
    stream = open_speech(Voice(), CONTEXT)
    stream.finish()
    stream.finish()
    assert heard(stream) == []
    voice = Voice()
    voice.script["…"] = lambda: iter(())
    stream = open_speech(voice, CONTEXT)
    stream.say("…")
    stream.say("a")
    stream.finish()
    assert heard(stream) == ["…", "a", "a#1", "a#2"]


def test_a_streaming_voice_says_single_sentences_in_sessions_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = Speech("s")
    voice = by_sentence(speech)
    assert by_sentence(voice) is voice
    assert (voice.name, voice.traits) == ("s", TtsTraits(streaming=False, sample_rate=16_000, voice_key="s"))
    for sentence in "ab":
        assert (
            b"".join(sound.data for sound in voice.synthesize(sentence, CONTEXT))
            == f"s:{sentence}#1s:{sentence}#2".encode()
        )
    assert speech.closed == 2
    with closing(voice.synthesize("c", CONTEXT)) as sounds:
        next(sounds)
    assert speech.closed == 3
    monkeypatch.setattr("xiaozhi.providers.wrappers.sentence_stream.WAIT_S", 0.01)
    speech.silent = True
    with pytest.raises(VendorTimeout):
        list(voice.synthesize("d", CONTEXT))
    assert speech.closed == 4
