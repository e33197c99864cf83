"""Guards around providers: limits, deadlines, retries and breakers, the same for every kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import gevent.queue
import pytest
from gevent.event import Event

from tests.providers.scripted import (
    CONTEXT,
    QUICK,
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
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.asr import Asr, AsrTraits, BatchAsr
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.tts import (
    Pcm,
    SentenceBegins,
    SentenceTts,
    Sound,
    StreamingTts,
)
from xiaozhi.providers.contracts.vad import Vad, VadStream
from xiaozhi.providers.wrappers import VendorLimits, guard, open_speech, with_fallback
from xiaozhi.runtime.resilience import NO_RETRY, Breaker, BreakerOptions, BreakerState, CallReport


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


def test_a_guarded_batch_recogniser_stays_one() -> None:
    asr = guard("asr", Ears(errors=[VendorTimeout("e")]), retry=QUICK)
    assert isinstance(asr, BatchAsr) and not asr.traits.streaming
    assert listen(asr, b"ab", b"cd") == "heard 4"


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
