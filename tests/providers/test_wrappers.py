"""Sentence streams, guards and fallbacks around providers that do exactly what a test tells them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import gevent
import gevent.queue
import pytest
from gevent.event import Event

from tests.fakes.voice import speech_of
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
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
from xiaozhi.providers.contracts.asr import Asr, AsrStream, AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.contracts.llm import Llm, Retraction
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SentenceTts,
    Sound,
    SpeechEnds,
    SpeechEvent,
    StreamingTts,
    TtsStream,
    TtsTraits,
)
from xiaozhi.providers.contracts.vad import Vad, VadStream
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.wrappers import VendorLimits, by_sentence, guard, open_speech, with_fallback
from xiaozhi.runtime.resilience import NO_RETRY, Breaker, BreakerOptions, BreakerState, CallReport, RetryOptions
from xiaozhi.runtime.tasks import census

CONTEXT = CallContext(device_id="d1")
QUICK = RetryOptions(attempts=3, first=0.0, longest=0.0)


class Voice(SentenceTts):
    """Says "<sentence>#1", "<sentence>#2"; `script` may replace that for a sentence."""

    type_name = "voice"

    def __init__(self, name: str = "voice", rate: int = 24_000) -> None:
        self.name = name
        self.traits = TtsTraits(streaming=False, sample_rate=rate, voice_key=name)
        self.script: dict[str, Callable[[], Iterator[Sound]]] = {}
        self.asked: list[str] = []
        self.left: list[str] = []

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        self.asked.append(sentence)
        try:
            if sentence in self.script:
                yield from self.script[sentence]()
            else:
                yield from (Pcm(f"{sentence}#{part}".encode()) for part in (1, 2))
        finally:
            self.left.append(sentence)


def fails(error: Exception, *before: Sound) -> Callable[[], Iterator[Sound]]:
    def sounds() -> Iterator[Sound]:
        yield from before
        raise error

    return sounds


def hangs(*before: Sound) -> Callable[[], Iterator[Sound]]:
    def sounds() -> Iterator[Sound]:
        yield from before
        Event().wait()

    return sounds


def heard(stream: TtsStream) -> list[str]:
    """Sentences and pieces of sound, also of pieces that were handed on together."""
    found: list[str] = []
    for event in speech_of(stream):
        if isinstance(event, SentenceBegins):
            found.append(event.text)
        elif isinstance(event, Pcm):
            found += re.findall(r".+?#\d", event.data.decode())
    return found


def take(stream: TtsStream, count: int) -> list[SpeechEvent]:
    """The next events."""
    return list(itertools.islice(speech_of(stream), count))


def settle() -> None:
    """The turn of everybody who can go on."""
    for _ in range(20):
        gevent.sleep(0)


# --- sentence stream -----------------------------------------------------------------------------------------------


END = SentenceEnds()


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


# --- guarded -------------------------------------------------------------------------------------------------------


class Model(Llm):
    """Says `pieces`, after raising `errors` one per call."""

    type_name = "model"

    def __init__(self, *pieces: str | ToolCall, errors: Sequence[Exception] = (), name: str = "model") -> None:
        self.name = name
        self.pieces = pieces
        self.errors = list(errors)
        self.calls = 0
        self.running = 0
        self.most = 0

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            gevent.sleep(0)
            if self.errors:
                raise self.errors.pop(0)
            yield from self.pieces
        finally:
            self.running -= 1


def ask(model: Llm, context: CallContext = CONTEXT) -> list[str | ToolCall]:
    return list(model.chat([], [], context))


def test_a_guarded_llm_retries_bounds_and_reports() -> None:
    reports: list[CallReport] = []
    inner = Model("a", "b", errors=[VendorUnavailable("m")])
    model = guard("llm", inner, VendorLimits(max_concurrent=2), retry=QUICK, observer=reports.append)
    assert isinstance(model, Llm) and model.name == "model" and model.traits.calls_tools
    assert ask(model) == ["a", "b"]
    assert [report.outcome for report in reports] == ["unavailable", "ok"]
    assert reports[0].vendor == "LLM.model"
    gevent.joinall(
        [gevent.spawn(ask, model, CallContext(device_id=str(n))) for n in range(6)],
        raise_error=True,
        timeout=PATIENCE_S,
    )
    assert inner.most == 2
    assert model.guard.window.active == 0


def test_one_answer_at_a_time_per_device() -> None:
    inner = Model("a", "b")
    model = guard("llm", inner)
    gevent.joinall([gevent.spawn(ask, model) for _ in range(3)], raise_error=True, timeout=PATIENCE_S)
    assert inner.most == 1
    free = guard("llm", inner, VendorLimits(one_per_device=False))
    gevent.joinall([gevent.spawn(ask, free) for _ in range(3)], raise_error=True, timeout=PATIENCE_S)
    assert inner.most == 3


def test_an_answer_that_is_left_frees_everything() -> None:
    inner = Model("a", "b")
    model = guard("llm", inner, VendorLimits(max_concurrent=1))
    answer = model.chat([], [], CONTEXT)
    assert next(answer) == "a"
    answer.close()
    gevent.sleep(0)
    assert inner.running == 0 and model.guard.window.active == 0
    assert ask(model) == ["a", "b"]


def test_an_answer_frees_its_place_when_the_model_has_spoken() -> None:
    inner = Model("a", "b", "c")
    model = guard("llm", inner, VendorLimits(max_concurrent=1))
    answer = model.chat([], [], CONTEXT)
    assert next(answer) == "a"
    settle()
    assert inner.running == 0 and model.guard.window.active == 0
    assert ask(model) == ["a", "b", "c"]
    assert list(answer) == ["b", "c"]


def test_an_error_in_an_answer_comes_after_what_was_said() -> None:
    class Breaks(Model):
        def chat(self, *args: Any) -> Iterator[str | ToolCall]:
            yield "half an"
            raise VendorUnavailable("m")

    answer = guard("llm", Breaks()).chat([], [], CONTEXT)
    settle()
    assert next(answer) == "half an"
    with pytest.raises(VendorUnavailable):
        next(answer)


def test_a_silent_model_can_be_given_up_on() -> None:
    class Silent(Model):
        def chat(self, *args: Any) -> Iterator[str | ToolCall]:
            self.running += 1
            try:
                Event().wait()
                yield "never"
            finally:
                self.running -= 1

    inner = Silent()
    model = with_fallback([guard("llm", inner), Model("somebody else")])
    answer = model.chat([], [], CONTEXT)
    with gevent.Timeout(0.05, VendorTimeout("m", "patience is over")):
        assert next(answer) == "somebody else"
    gevent.sleep(0)
    assert inner.running == 0


def test_the_window_of_a_sentence_voice_is_free_before_the_sound_has_played() -> None:
    voice = guard("tts", Voice(), VendorLimits(max_concurrent=1))
    assert isinstance(voice, SentenceTts) and not voice.traits.streaming
    assert voice.traits.voice_key == "voice" and voice.traits.sample_rate == 24_000
    stream = open_speech(voice, CONTEXT)
    stream.say("a")
    assert take(stream, 1) == [SentenceBegins("a")]
    settle()
    assert voice.guard.window.active == 0
    stream.say("b")
    stream.finish()
    assert heard(stream) == ["a#1", "a#2", "b", "b#1", "b#2"]


def test_a_sentence_is_retried_only_before_its_first_sound() -> None:
    inner = Voice()
    errors = [VendorUnavailable("v"), VendorTimeout("v")]

    def flaky() -> Iterator[Sound]:
        if errors:
            raise errors.pop(0)
        yield Pcm(b"a#1")

    inner.script["a"] = flaky
    inner.script["b"] = fails(VendorUnavailable("v"), Pcm(b"b#1"))
    voice = guard("tts", inner, retry=QUICK)
    assert list(voice.synthesize("a", CONTEXT)) == [Pcm(b"a#1")]
    with pytest.raises(VendorUnavailable):
        list(voice.synthesize("b", CONTEXT))
    assert inner.asked == ["a", "a", "a", "b"]


class Ears(BatchAsr):
    type_name = "ears"

    def __init__(self, text: str = "heard", errors: Sequence[Exception] = (), name: str = "ears") -> None:
        self.name = name
        self.text = text
        self.errors = list(errors)

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        if self.errors:
            raise self.errors.pop(0)
        return Transcript(f"{self.text} {len(pcm)}")


def listen(asr: Asr, *sounds: bytes) -> str:
    stream = asr.open(CONTEXT)
    try:
        for sound in sounds:
            stream.feed(sound)
        return stream.finish().text
    finally:
        stream.close()


def test_a_guarded_batch_recogniser_stays_one() -> None:
    asr = guard("asr", Ears(errors=[VendorTimeout("e")]), retry=QUICK)
    assert isinstance(asr, BatchAsr) and not asr.traits.streaming
    assert listen(asr, b"ab", b"cd") == "heard 4"


class LiveEars(Asr):
    """A streaming recogniser; `fail_at` names the method that raises."""

    type_name = "live"

    def __init__(self, name: str = "live", *, fail_at: str = "", error: Exception | None = None) -> None:
        self.name = name
        self.fail_at = fail_at
        self.error = error or VendorUnavailable(name)
        self.fed: list[bytes] = []
        self.closed = 0

    def open(self, context: CallContext) -> AsrStream:
        self.check("open")
        return _LiveStream(self)

    def check(self, where: str) -> None:
        if self.fail_at == where:
            raise self.error


class _LiveStream(AsrStream):
    def __init__(self, ears: LiveEars) -> None:
        self._ears = ears

    def feed(self, pcm: bytes) -> None:
        self._ears.check("feed")
        self._ears.fed.append(pcm)
        self.partial = f"{self._ears.name} {len(self._ears.fed)}"

    def finish(self) -> Transcript:
        self._ears.check("finish")
        return Transcript(f"{self._ears.name} {b''.join(self._ears.fed).decode()}")

    def close(self) -> None:
        self._ears.closed += 1


def test_a_guarded_stream_holds_its_place_until_the_end() -> None:
    reports: list[CallReport] = []
    inner = LiveEars()
    asr = guard("asr", inner, VendorLimits(max_concurrent=1, enable_queue=False), observer=reports.append)
    assert asr.traits.streaming and isinstance(asr, Asr)
    stream = asr.open(CONTEXT)
    with pytest.raises(Overloaded):
        asr.open(CONTEXT)
    stream.feed(b"x")
    assert stream.partial == "live 1"
    assert stream.finish().text == "live x"
    stream.close()
    stream = asr.open(CONTEXT)
    stream.close()
    assert inner.closed == 2
    assert asr.guard.window.active == 0
    inner.fail_at = "feed"
    stream = asr.open(CONTEXT)
    with pytest.raises(VendorUnavailable):
        stream.feed(b"x")
    stream.close()
    inner.fail_at = "finish"
    with pytest.raises(VendorUnavailable):
        listen(asr, b"x")
    assert [report.outcome for report in reports] == ["overloaded", "ok", "cancelled", "unavailable", "unavailable"]
    assert asr.guard.window.active == 0


class Speech(StreamingTts):
    """A streaming voice: takes sentences at once, says them back; fails after `fail_after` sounds or at open, say or
    finish; makes no sound while `silent`."""

    type_name = "speech"

    def __init__(
        self, name: str = "speech", rate: int = 16_000, *, fail_after: int | None = None, fail_at: str = ""
    ) -> None:
        self.name = name
        self.traits = TtsTraits(sample_rate=rate, voice_key=name)
        self.fail_after = fail_after
        self.fail_at = fail_at
        self.silent = False
        self.closed = 0
        self.said: list[str] = []

    def open(self, context: CallContext) -> TtsStream:
        if self.fail_at == "open":
            raise VendorUnavailable(self.name)
        return _SpeechStream(self)


class _SpeechStream(TtsStream):
    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._events: gevent.queue.Queue[SpeechEvent | None] = gevent.queue.Queue()
        self._sounds = 0
        self._closed = False

    def say(self, sentence: str) -> None:
        self._check()
        if self._speech.fail_at == "say":
            raise VendorUnavailable(self._speech.name)
        self._speech.said.append(sentence)
        for event in (SentenceBegins(sentence), *self._sound(sentence), END):
            self._events.put(event)

    def _sound(self, sentence: str) -> list[Pcm]:
        return [Pcm(f"{self._speech.name}:{sentence}#{part}".encode()) for part in (1, 2)]

    def finish(self) -> None:
        self._events.put(SpeechEnds())

    def receive(self, timeout: float) -> SpeechEvent | None:
        self._check()
        if self._speech.silent:
            gevent.sleep(timeout)  # sleep: it is silent for so long
            return None
        try:
            event = self._events.get(timeout=timeout)
        except gevent.queue.Empty:
            return None
        self._check()
        if isinstance(event, Pcm):
            if self._sounds == self._speech.fail_after:
                raise VendorUnavailable(self._speech.name)
            self._sounds += 1
        if isinstance(event, SpeechEnds):
            self._events.put(event)
        return event

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._speech.closed += 1
            self._events.put(None)

    def _check(self) -> None:
        if self._closed:
            raise VendorUnavailable(self._speech.name, "closed")


def test_a_guarded_streaming_voice() -> None:
    reports: list[CallReport] = []
    inner = Speech()
    tts = guard("tts", inner, VendorLimits(max_concurrent=1), observer=reports.append, retry=NO_RETRY)
    assert isinstance(tts, StreamingTts) and tts.traits.streaming and tts.traits.sample_rate == 16_000
    assert tts.traits.voice_key == "speech"
    stream = tts.open(CONTEXT)
    assert stream.receive(0) is None
    stream.say("a")
    stream.finish()
    assert heard(stream) == ["a", "speech:a#1", "speech:a#2"]
    assert tts.guard.window.active == 0, "the place is free when all of it has been received"
    stream.close()
    inner.fail_after = 1
    stream = tts.open(CONTEXT)
    stream.say("a")
    with pytest.raises(VendorUnavailable):
        heard(stream)
    inner.fail_at = "say"
    stream = tts.open(CONTEXT)
    with pytest.raises(VendorUnavailable):
        stream.say("a")
    stream.close()
    inner.fail_at = ""
    tts.open(CONTEXT).close()
    assert [report.outcome for report in reports] == ["ok", "unavailable", "unavailable", "cancelled"]
    assert tts.guard.window.active == 0


class Eyes(Vllm):
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.error = error

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        if self.error is not None:
            raise self.error
        return f"{self.name}: {question} {mime} {len(image)}"


class _Vad(Vad):
    def open(self) -> VadStream:
        raise NotImplementedError


def test_what_is_offline_or_has_no_wrapper_is_left_alone() -> None:
    class Local(Ears):
        traits = AsrTraits(offline=True, streaming=False)

    for provider in (Local(), _Vad()):
        assert guard("asr", provider) is provider
    assert guard("vllm", Eyes("e")).describe("q", b"123", "image/png", CONTEXT) == "e: q image/png 3"


def test_the_breaker_may_be_shared_or_absent() -> None:
    shared = Breaker("endpoint", BreakerOptions(min_volume=1))
    one = guard("asr", Ears(errors=[VendorUnavailable("e")]), breaker=shared, retry=NO_RETRY)
    two = guard("asr", Ears(), breaker=shared)
    with pytest.raises(VendorUnavailable):
        listen(one, b"x")
    assert shared.state is BreakerState.OPEN
    with pytest.raises(CircuitOpen):
        listen(two, b"x")
    assert guard("asr", Ears(), breaker=None).guard.breaker is None


def test_life_cycle_is_passed_on() -> None:
    class Counting(Ears):
        warmed = closed = 0

        def warm_up(self) -> None:
            self.warmed += 1

        def close(self) -> None:
            self.closed += 1

    first, second = Counting(), Counting()
    both = with_fallback([guard("asr", first), second])
    both.warm_up()
    both.close()
    assert (first.warmed, first.closed, second.warmed, second.closed) == (1, 1, 1, 1)


# --- fallback ------------------------------------------------------------------------------------------------------


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
