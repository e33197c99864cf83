"""What every voice keeps to, whatever its vendor."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import gevent
import numpy as np
import pytest

from tests.contract.suites import CONTEXT, SENTENCES, ProviderContract, Subject
from tests.fakes.voice import speech_of
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import Decoder
from xiaozhi.errors import (
    Overloaded,
    VendorUnavailable,
)
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
)
from xiaozhi.providers.wrappers import open_speech
from xiaozhi.runtime.tasks import census


def pcm_of(sounds: Sequence[Sound], sample_rate: int) -> tuple[bytes, float]:
    """(s16le mono PCM for looking at, seconds) of sounds of any kind."""
    pcm = bytearray()
    seconds = 0.0
    decoder = Decoder(24_000)
    for sound in sounds:
        if isinstance(sound, Pcm):
            assert len(sound.data) % 2 == 0
            pcm += sound.data
            seconds += len(sound.data) / 2 / (sound.rate or sample_rate)
        else:
            assert isinstance(sound, OpusPackets) and sound.packets
            assert 2.5 <= sound.frame_ms <= 60
            decoded = b"".join(map(decoder.decode, sound.packets))
            assert len(decoded) == round(len(sound.packets) * sound.frame_ms * 24) * 2
            pcm += decoded
            seconds += len(decoded) / 2 / 24_000
    return bytes(pcm), seconds


def by_sentence(events: Sequence[SpeechEvent]) -> list[tuple[str, list[Sound]]]:
    """Sounds grouped by the sentence they belong to; every sentence has a beginning and an end."""
    grouped: list[tuple[str, list[Sound]]] = []
    begun = False
    for event in events:
        if isinstance(event, SentenceBegins):
            assert not begun, "a sentence begins in another"
            begun = True
            grouped.append((event.text, []))
        elif isinstance(event, SentenceEnds):
            assert begun, "the end of no sentence"
            begun = False
        else:
            assert begun and isinstance(event, Pcm | OpusPackets), f"{event} outside of a sentence"
            grouped[-1][1].append(event)
    assert not begun, "a sentence without an end"
    return grouped


class _TtsContract(ProviderContract):
    kind = "tts"

    def use(self, provider: Any) -> list[SpeechEvent]:
        # What the provider does about a fault, not what is made of that.
        return self.speak(open_speech(provider, CONTEXT, skips=False), SENTENCES)

    @staticmethod
    def speak(stream: TtsStream, sentences: Sequence[str]) -> list[SpeechEvent]:
        """Say everything, then receive it; all events."""
        with closing(stream):
            for sentence in sentences:
                stream.say(sentence)
            stream.finish()
            return list(speech_of(stream))

    def test_sentences_in_order_with_sound_in_them(self, it: Subject) -> None:
        grouped = by_sentence(self.use(it.provider))
        assert [text for text, _ in grouped] == list(SENTENCES)
        pcm, seconds = pcm_of([sound for _, sounds in grouped for sound in sounds], it.provider.traits.sample_rate)
        assert 2.0 < seconds < 30.0
        assert np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() > 1_000

    def test_the_rate_and_the_key_are_told(self, it: Subject) -> None:
        assert 8_000 <= it.provider.traits.sample_rate <= 48_000
        assert isinstance(it.provider.traits.voice_key, str)

    def test_a_speech_of_nothing(self, it: Subject) -> None:
        assert self.speak(open_speech(it.provider, CONTEXT), ()) == []

    def test_the_end_stays_the_end(self, it: Subject) -> None:
        with closing(open_speech(it.provider, CONTEXT)) as stream:
            stream.say(SENTENCES[0])
            stream.finish()
            stream.finish()
            assert list(speech_of(stream))
            assert stream.receive(5.0) == stream.receive(5.0) == SpeechEnds()

    def test_saying_never_waits_and_has_a_bound(self, it: Subject) -> None:
        if it.fail is not None:
            it.fail("stall_before")
        with closing(open_speech(it.provider, CONTEXT)) as stream:

            def talk() -> None:
                for _ in range(MAX_WAITING_SENTENCES):
                    stream.say(SENTENCES[2])
                with pytest.raises(Overloaded):
                    stream.say(SENTENCES[2])
                stream.finish()

            talker = gevent.spawn(talk)
            gevent.sleep(0)  # its turn, and nobody else's
            assert talker.ready()
            talker.get()

    def test_receiving_waits_no_longer_than_it_is_told_to(self, it: Subject) -> None:
        with closing(open_speech(it.provider, CONTEXT)) as stream, gevent.Timeout(PATIENCE_S):
            assert stream.receive(0.01) is None
            stream.say(SENTENCES[0])
            stream.finish()
            assert len(by_sentence(list(speech_of(stream)))) == 1, "the stream is as it was"

    def test_leaving_in_the_middle_frees_the_vendor(self, it: Subject) -> None:
        if it.fail is not None:
            it.fail("stall_after")
        with closing(open_speech(it.provider, CONTEXT)) as stream:
            stream.say(SENTENCES[0])
            events = speech_of(stream)
            assert next(events) == SentenceBegins(SENTENCES[0])
            assert isinstance(next(events), Pcm | OpusPackets)
        if it.wait_gone is not None:
            it.wait_gone()
        assert self.use(it.provider)

    def test_a_closed_stream_takes_nothing(self, it: Subject) -> None:
        stream = open_speech(it.provider, CONTEXT)
        stream.close()
        stream.close()
        stream.finish()
        for _ in range(2):
            with pytest.raises(VendorUnavailable):
                stream.say(SENTENCES[0])
            with pytest.raises(VendorUnavailable), gevent.Timeout(PATIENCE_S):
                stream.receive(10)

    @pytest.mark.parametrize("said", [False, True])
    def test_close_wakes_whoever_receives(self, it: Subject, said: bool) -> None:
        if it.fail is not None:
            it.fail("stall_before")
        stream = open_speech(it.provider, CONTEXT)
        if said:
            stream.say(SENTENCES[0])

        def receive() -> None:
            with pytest.raises(VendorUnavailable):
                while True:
                    stream.receive(60)

        listener = gevent.spawn(receive)
        gevent.sleep(0)
        stream.close()
        listener.join(timeout=PATIENCE_S)
        assert listener.ready()
        listener.get()


class TtsSentenceContract(_TtsContract):
    """A voice that takes one sentence per request."""

    def test_one_sentence(self, it: Subject) -> None:
        assert isinstance(it.provider, SentenceTts)
        assert it.provider.traits.streaming is False
        for sentence in SENTENCES:
            _, seconds = pcm_of(list(it.provider.synthesize(sentence, CONTEXT)), it.provider.traits.sample_rate)
            assert 0.2 < seconds < 15

    def test_leaving_a_sentence_frees_the_vendor(self, it: Subject) -> None:
        if it.fail is not None:
            it.fail("stall_after")
        with closing(it.provider.synthesize(SENTENCES[1], CONTEXT)) as sounds:
            next(sounds)
        if it.wait_gone is not None:
            it.wait_gone()
        assert self.use(it.provider)


class TtsStreamContract(_TtsContract):
    """A voice that speaks while text still comes in."""

    def test_it_streams(self, it: Subject) -> None:
        assert isinstance(it.provider, StreamingTts)
        assert it.provider.traits.streaming is True

    def test_sound_comes_before_the_last_text(self, it: Subject) -> None:
        with closing(it.provider.open(CONTEXT)) as stream:
            stream.say(SENTENCES[0])
            events = speech_of(stream)
            assert next(events) == SentenceBegins(SENTENCES[0])
            assert isinstance(next(events), Pcm | OpusPackets)

    def test_one_greenlet_per_session(self, it: Subject) -> None:
        before = census.live
        with closing(it.provider.open(CONTEXT)) as stream:
            stream.say(SENTENCES[0])
            assert next(speech_of(stream)) == SentenceBegins(SENTENCES[0])
            assert census.live == before + 1

    def test_more_sentences_than_the_vendor_is_given_at_once(self, it: Subject) -> None:
        sentences = [f"{number} {SENTENCES[2]}" for number in range(12)]
        grouped = by_sentence(self.speak(it.provider.open(CONTEXT), sentences))
        assert [text for text, _ in grouped] == sentences
