"""Fixed phrases: said ahead of need, by the emergency voice when the selected one fails, never cached as another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.fakes.inference import InlineInference
from tests.fakes.sound import tone
from tests.fakes.voice import FakeTts
from tests.session.speaking.speech import RATE, Sayer, pcm, settle
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.audio.opus import Encoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, ProtocolError, VendorError, VendorUnavailable
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceTts, Sound, Tts
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.phrases import GIVE_WAY_S, MAX_FORMATS, RETRY_S, Phrases
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.speaking.voice import speech_key

PCM = VoiceFormat("pcm", RATE, 60)
TEXTS = ("Hello there. How are you?", "Sorry.")
SENTENCES = ["Hello there.", "How are you?", "Sorry."]


class Rig:
    """Phrases and what they are made with. `emergencies` counts how often the emergency voice was made."""

    def __init__(self, tts: Tts | None = None, *, emergency: Tts | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.cache = SpeechCache(1 << 20)
        self.tts = tts if tts is not None else Sayer()
        self.emergencies = 0
        self.inference = InlineInference()

        def make() -> Tts | None:
            self.emergencies += 1
            return emergency

        self.phrases = Phrases(
            self.tts,
            texts=options.get("texts", TEXTS),
            correct_words=options.get("correct_words", ()),
            replies=self.cache,
            inference=self.inference,  # type: ignore[arg-type]
            patient=options.get("patient", ()),
            emergency=make,
            clock=self.clock,
        )

    def prepare(self, form: VoiceFormat = PCM) -> None:
        self.phrases.prepare(form)
        settle()


def says(voice: SentenceTts, sentence: str = "Hello there.") -> list[Sound]:
    return list(voice.synthesize(sentence, CallContext()))


def fails(error: Exception) -> Callable[[], Iterator[Sound]]:
    def sounds() -> Iterator[Sound]:
        raise error
        yield

    return sounds


def broken(error: Exception | None = None) -> Sayer:
    """A voice that says nothing at all."""
    voice = Sayer("broken")
    voice.script = dict.fromkeys(SENTENCES, fails(error or VendorUnavailable("broken")))
    return voice


# --- preparation ---------------------------------------------------------------------------------------------------


def test_every_phrase_is_said_once_for_a_format() -> None:
    rig = Rig()
    assert not rig.phrases.ready(PCM)
    rig.prepare()
    assert rig.phrases.ready(PCM)
    assert rig.tts.asked == SENTENCES  # type: ignore[attr-defined]
    for sentence in SENTENCES:
        assert rig.cache.get(speech_key(rig.tts, PCM, sentence)) == (pcm(60),)
    rig.prepare()
    assert rig.tts.asked == SENTENCES  # type: ignore[attr-defined]
    rig.prepare(VoiceFormat("pcm", RATE, 20))
    assert rig.tts.asked == SENTENCES * 2  # type: ignore[attr-defined]


def test_what_is_cached_already_is_not_said_again() -> None:
    rig = Rig()
    rig.cache.put(speech_key(rig.tts, PCM, "Hello there."), (b"f",))
    rig.prepare()
    assert rig.tts.asked == SENTENCES[1:]  # type: ignore[attr-defined]


def test_replaced_words_are_said_as_they_will_be() -> None:
    rig = Rig(texts=["A GIF."], correct_words=["GIF|jif"])
    rig.prepare()
    assert rig.tts.asked == ["A jif."]  # type: ignore[attr-defined]


def test_ready_packets_and_a_streaming_voice() -> None:
    packets = tuple(Encoder(RATE, 60).encode(tone(120, RATE)))
    voice = Sayer()
    voice.script["Sorry."] = lambda: iter([OpusPackets(packets, 60)])
    rig = Rig(voice, texts=["Sorry."])
    opus = VoiceFormat("opus", RATE, 60)
    rig.prepare(opus)
    assert rig.cache.get(speech_key(voice, opus, "Sorry.")) == packets

    streaming = Rig(FakeTts(), texts=["Hello there. Sorry."])
    streaming.prepare()
    assert streaming.phrases.ready(PCM)
    assert len(streaming.tts.sessions) == 2, "one session per sentence"  # type: ignore[attr-defined]
    assert streaming.phrases.fixed.traits == replace(streaming.tts.traits, streaming=False)
    assert len(streaming.cache) == 2


def test_what_can_wait_is_said_while_nobody_is_listened_to() -> None:
    rig = Rig(texts=["Sorry."], patient=["How are you?", "Hello there."])
    rig.inference.hearing = True
    rig.prepare()
    assert rig.tts.asked == ["Sorry."]  # type: ignore[attr-defined]
    assert rig.phrases.preparing
    rig.inference.hearing = False
    wait_for(lambda: rig.phrases.ready(PCM), "the rest")
    assert rig.tts.asked == ["Sorry.", "How are you?", "Hello there."]  # type: ignore[attr-defined]


def test_what_can_wait_is_said_at_last_although_somebody_is_always_listened_to() -> None:
    rig = Rig(texts=(), patient=["Sorry."])
    rig.inference.hearing = True
    rig.prepare()
    assert rig.tts.asked == []  # type: ignore[attr-defined]
    rig.clock.advance(GIVE_WAY_S)
    wait_for(lambda: rig.phrases.ready(PCM), "the phrase")
    assert rig.tts.asked == ["Sorry."]  # type: ignore[attr-defined]


def test_nothing_to_prepare() -> None:
    rig = Rig(texts=())
    rig.prepare()
    assert not rig.phrases.ready(PCM)


def test_a_bounded_number_of_formats_is_prepared() -> None:
    rig = Rig(texts=["Sorry."])
    for number in range(MAX_FORMATS + 2):
        rig.prepare(VoiceFormat("pcm", RATE, 20 * (number + 1)))
    assert len(rig.cache) == MAX_FORMATS


def test_two_devices_of_one_format_prepare_once_and_close_stops_it() -> None:
    began = Event()
    voice = Sayer()

    def slowly() -> Iterator[Sound]:
        began.set()
        Event().wait()
        yield Pcm(pcm(60))

    voice.script["Hello there."] = slowly
    rig = Rig(voice)
    rig.phrases.prepare(PCM)
    assert began.wait(PATIENCE_S)
    rig.prepare()
    assert voice.asked == ["Hello there."]
    rig.phrases.close()
    rig.phrases.close()
    assert not rig.phrases.ready(PCM)


@pytest.mark.parametrize("error", [VendorUnavailable("v"), Overloaded("v"), ProtocolError("opus"), ValueError("rate")])
def test_a_voice_that_fails_is_asked_again_after_a_while(error: Exception) -> None:
    rig = Rig(broken(error))
    with capture_logs() as logs:
        rig.prepare()
        rig.prepare()
    assert [entry["event"] for entry in logs] == ["phrases not prepared, will be tried again"]
    assert not rig.phrases.ready(PCM)
    assert rig.tts.asked == SENTENCES[:1]  # type: ignore[attr-defined]
    rig.tts.script.clear()  # type: ignore[attr-defined]
    rig.clock.advance(RETRY_S)
    rig.prepare()
    assert rig.phrases.ready(PCM)


def test_a_substitute_is_not_kept_as_the_voice() -> None:
    voice = Sayer()
    voice.script["Hello there."] = lambda: iter([Pcm(pcm(60), substitute=True)])
    rig = Rig(voice)
    rig.prepare()
    assert not rig.phrases.ready(PCM)
    assert len(rig.cache) == 0


def test_phrases_are_prepared_again_when_the_voice_itself_speaks() -> None:
    voice = Sayer()
    voice.script["How are you?"] = lambda: iter([Pcm(pcm(60), substitute=True)])
    rig = Rig(voice)
    rig.prepare()
    assert not rig.phrases.ready(PCM)
    voice.script.clear()  # its model has arrived
    rig.clock.advance(RETRY_S)
    rig.prepare()
    assert rig.phrases.ready(PCM)
    assert {key.text for key in rig.cache} == set(SENTENCES)


# --- voices --------------------------------------------------------------------------------------------------------


def test_the_selected_voice_speaks_while_it_works() -> None:
    rig = Rig(emergency=Sayer("espeak"))
    assert says(rig.phrases.fixed) == [Pcm(pcm(60), RATE)]
    assert rig.phrases.apology(voice_failed=False) is rig.phrases.fixed
    assert rig.emergencies == 0
    assert rig.phrases.fixed.traits == replace(rig.tts.traits, offline=False)


def test_the_emergency_voice_speaks_when_it_does_not() -> None:
    emergency = Sayer("espeak")
    emergency.traits = replace(emergency.traits, sample_rate=16_000)
    emergency.script["Sorry."] = lambda: iter([OpusPackets((b"p",), 20.0), Pcm(b"ab", 8_000)])
    rig = Rig(broken(), emergency=emergency)
    (sound,) = says(rig.phrases.fixed)
    assert (sound, sound.substitute) == (Pcm(pcm(60), 16_000), True)
    packets, rest = says(rig.phrases.fixed, "Sorry.")
    assert (packets, packets.substitute) == (OpusPackets((b"p",), 20.0), True)
    assert (rest, rest.substitute) == (Pcm(b"ab", 8_000), True)
    assert rig.emergencies == 1, "made once"
    for voice in (rig.phrases.fixed, rig.phrases.apology(voice_failed=True)):
        assert speech_key(voice, PCM, "Sorry.") == speech_key(rig.tts, PCM, "Sorry."), "cached sound is found"


def test_an_apology_for_the_voice_does_not_ask_it_again() -> None:
    rig = Rig(emergency=FakeTts())
    voice = rig.phrases.apology(voice_failed=True)
    assert all(sound.substitute for sound in says(voice, "Sorry."))
    assert rig.tts.asked == []  # type: ignore[attr-defined]


def test_without_an_emergency_voice_the_failure_is_told() -> None:
    rig = Rig(broken())
    for _ in range(2):
        with pytest.raises(VendorError, match="no emergency voice"):
            says(rig.phrases.fixed)
    assert rig.emergencies == 1
