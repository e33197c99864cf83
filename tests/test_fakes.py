"""The fakes keep the contracts they stand in for; a fake that lies makes every test that uses it lie."""

from __future__ import annotations

import gevent
import pytest

from tests.fakes.hearing import FakeAsr, FakeVad
from tests.fakes.inference import InlineInference
from tests.fakes.providers import provider_set
from tests.fakes.sender import RecordingSender
from tests.fakes.sound import silence, tone
from tests.fakes.thinking import FakeLlm
from tests.fakes.voice import FakeSentenceTts, FakeTts, speech_of
from tests.waiting import PATIENCE_S
from xiaozhi.chat import CallContext, Message, ToolCall
from xiaozhi.errors import ConnectionClosed, Overloaded, VendorBusy, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins

ME = CallContext(device_id="aa:bb")


def test_vad_follows_its_script_window_by_window_whatever_the_pieces():
    stream = FakeVad([0.1, 0.9, 0.8]).open()

    heard = [probability for _ in range(8) for probability in stream.feed(silence(16))]

    assert heard == [0.1, 0.9, 0.8, 0.0]


def test_vad_without_a_script_hears_loudness():
    stream = FakeVad().open()

    assert min(stream.feed(tone(64))) > 0.9
    assert max(stream.feed(silence(64))) < 0.1


def test_asr_gives_its_texts_in_order_and_raises_what_it_should():
    asr = FakeAsr(["one", VendorTimeout("fake"), "two"])

    assert asr.open(ME).finish().text == "one"
    with pytest.raises(VendorTimeout):
        asr.open(ME).finish()
    assert [asr.open(ME).finish().text for _ in range(2)] == ["two", "two"]


def test_asr_refuses_sound_after_close():
    stream = FakeAsr().open(ME)
    stream.close()

    with pytest.raises(VendorUnavailable):
        stream.feed(tone(20))


def test_llm_plays_its_script_and_says_how_it_ended():
    call = ToolCall("1", "get_time", {})
    llm = FakeLlm(["Let me ", 0.001, call], ["So", VendorBusy("fake")], "It is noon.")
    question = [Message("user", "what time is it")]

    assert list(llm.chat(question, [], ME)) == ["Let me ", call]
    with pytest.raises(VendorBusy):
        list(llm.chat(question, [], ME))
    cut = llm.chat(question, [], ME)
    next(cut)
    cut.close()

    assert [call.ended for call in llm.calls] == ["whole", "failed", "cut"]
    assert llm.calls[0].asked == "what time is it"


def test_llm_notices_that_its_greenlet_was_killed():
    llm = FakeLlm(["one ", 60, "two"])
    greenlet = gevent.spawn(lambda: list(llm.chat([], [], ME)))
    gevent.sleep(0)
    greenlet.kill()

    assert llm.calls[0].ended == "cut"


def test_tts_speaks_in_order():
    stream = FakeTts(ms_per_char=20).open(ME)
    stream.say("Hello there.")
    stream.say("Bye.")
    stream.finish()

    events = list(speech_of(stream))

    assert [event.text for event in events if isinstance(event, SentenceBegins)] == ["Hello there.", "Bye."]
    assert sum(len(event.data) for event in events if isinstance(event, Pcm)) == 2 * 24 * 20 * len("Hello there.Bye.")


def test_closing_tts_wakes_whoever_receives():
    stream = FakeTts().open(ME)
    listener = gevent.spawn(lambda: list(speech_of(stream)))
    gevent.sleep(0)
    stream.close()
    listener.join(timeout=PATIENCE_S)

    assert isinstance(listener.exception, VendorUnavailable)
    with pytest.raises(VendorUnavailable):
        stream.say("again")


def test_tts_fails_where_it_is_told_to():
    stream = FakeTts(errors={"No.": VendorUnavailable("fake")}).open(ME)
    stream.say("No.")

    with pytest.raises(VendorUnavailable):
        list(speech_of(stream))


def test_sentence_tts_gives_the_sound_of_one_sentence():
    tts = FakeSentenceTts(sample_rate=16_000, ms_per_char=10)

    assert sum(len(sound.data) for sound in tts.synthesize("12345", ME)) == 2 * 16 * 50
    assert tts.said == ["12345"]


def test_sender_records_holds_and_fails():
    sender = RecordingSender()
    sender.send_text('{"type":"stt"}')
    sender.hold()
    waiting = gevent.spawn(sender.send_binary, b"\x01")
    gevent.sleep(0)
    assert sender.binaries == []

    sender.release()
    sender.wait_for(lambda sent: sent.binaries)
    waiting.join()
    sender.error = ConnectionClosed(1006)

    assert sender.messages == [{"type": "stt"}]
    with pytest.raises(ConnectionClosed):
        sender.send_text("x")
    with pytest.raises(TimeoutError):
        sender.wait_for(lambda sent: len(sent.log) > 2, seconds=0.01)


def test_inline_inference_runs_or_refuses():
    inference = InlineInference()
    assert inference.run(sum, [1, 2], kind="asr", deadline=1) == 3

    inference.full = True

    with pytest.raises(Overloaded):
        inference.run(sum, [1, 2], deadline=1)


def test_a_whole_set_can_be_had_with_one_replaced():
    llm = FakeLlm("Yes.")

    assert provider_set(llm=llm).llm is llm
    assert provider_set().asr.open(ME).finish().text == "hello"
