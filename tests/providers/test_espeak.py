"""The offline voice: sound in the right language, many speakers at once over one engine, text that nobody should have
to speak."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import gevent
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm
from xiaozhi.providers.families.espeak_ng import LONGEST_NUMBER, LONGEST_WORD, checked_voice, engine, speakable
from xiaozhi.providers.families.espeak_speech import voice_runs
from xiaozhi.providers.tts.espeak import EspeakTts, EspeakTtsOptions
from xiaozhi.runtime.inference import InferencePool

CONTEXT = CallContext()


@pytest.fixture(scope="module")
def pool() -> Iterator[InferencePool]:
    made = InferencePool(workers=2)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def tts(pool: InferencePool) -> EspeakTts:
    made = EspeakTts(EspeakTtsOptions(), Services(inference=pool))
    made.warm_up()
    return made


def sound_of(tts: EspeakTts, text: str) -> np.ndarray:
    sounds = list(tts.synthesize(text, CONTEXT))
    assert all(isinstance(sound, Pcm) for sound in sounds)
    return np.frombuffer(b"".join(sound.data for sound in sounds if isinstance(sound, Pcm)), "<i2").astype(int)


def seconds(samples: np.ndarray, tts: EspeakTts) -> float:
    return len(samples) / tts.traits.sample_rate


@pytest.mark.parametrize(
    "text,least,most", [("It is three o'clock.", 0.8, 3), ("现在是下午三点整。", 1, 4), ("打开WiFi吧。", 0.8, 4)]
)
def test_it_speaks_both_languages_and_mixtures(tts: EspeakTts, text: str, least: float, most: float) -> None:
    samples = sound_of(tts, text)

    assert least < seconds(samples, tts) < most
    assert 3_000 < np.abs(samples).max() < 32_700


@pytest.mark.parametrize("text", ["", "   ", "…", "!?!?", "🙂", "\x00\x01", "()"])
def test_nothing_to_say_is_no_sound(tts: EspeakTts, text: str) -> None:
    assert len(sound_of(tts, text)) == 0


def test_the_same_text_sounds_the_same(tts: EspeakTts) -> None:
    first = sound_of(tts, "The quick brown fox.")
    sound_of(tts, "你好")
    second = sound_of(tts, "The quick brown fox.")

    # Not to the bit: the voice flutters on from where it was.
    assert abs(len(first) - len(second)) < 50
    assert np.abs(first).mean() == pytest.approx(np.abs(second).mean(), rel=0.1)


def test_rate_and_volume_are_obeyed(pool: InferencePool, tts: EspeakTts) -> None:
    other = EspeakTts(EspeakTtsOptions(rate=330, volume=30), Services(inference=pool))
    text = "This is a sentence of some length."

    fast, normal = sound_of(other, text), sound_of(tts, text)

    assert len(fast) < 0.7 * len(normal)
    assert np.abs(fast).max() < 0.6 * np.abs(normal).max()


def test_a_voice_may_be_chosen(pool: InferencePool, tts: EspeakTts) -> None:
    for voice in ("en-GB+f3", "en-gb", "en-us-nyc"):
        other = EspeakTts(EspeakTtsOptions.model_validate({"voice": voice}), Services(inference=pool))

        assert len(sound_of(other, "Hello there.")) > 0


@pytest.mark.parametrize(
    "voice,hint", [("en-uk", "en-us"), ("klingon", ""), ("en-us+f33", "f3"), ("en-us+", ""), ("../../etc", "")]
)
def test_an_unknown_voice_is_refused_with_the_nearest(voice: str, hint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EspeakTtsOptions(voice=voice)

    assert hint in str(caught.value) or not hint


def test_names_that_people_expect() -> None:
    assert [checked_voice(name) for name in ("en-gb", "zh", "EN-US", "cmn+f2")] == ["en-gb", "zh", "en-us", "cmn+f2"]


def test_many_at_once_speak_on_the_same_threads(tts: EspeakTts) -> None:
    texts = ["Hello there, my friend.", "现在是三点。", "One two three four five six seven.", "再见。"]
    alone = [seconds(sound_of(tts, text), tts) for text in texts]
    threads = threading.active_count()

    speakers = [gevent.spawn(sound_of, tts, texts[number % 4]) for number in range(40)]
    gevent.joinall(speakers, timeout=60, raise_error=True)

    for number, speaker in enumerate(speakers):
        assert seconds(speaker.value, tts) == pytest.approx(alone[number % 4], abs=0.05)
    assert threading.active_count() == threads


def test_killing_a_listener_leaves_nothing_behind(tts: EspeakTts, pool: InferencePool) -> None:
    listeners = [
        gevent.spawn(sound_of, tts, "A rather long sentence, spoken to nobody in particular. " * 5) for _ in range(6)
    ]
    gevent.idle()
    gevent.killall(listeners, timeout=5)

    assert len(sound_of(tts, "Still here.")) > 0
    assert (pool.active, pool.queued) == (0, 0)


def test_a_long_text_comes_in_pieces_of_half_a_second(tts: EspeakTts) -> None:
    sounds = tts.synthesize("It goes on and on, and nobody knows why. " * 40, CONTEXT)
    first = next(sounds)

    assert isinstance(first, Pcm)
    assert len(first.data) <= tts.traits.sample_rate
    assert sum(len(sound.data) for sound in sounds if isinstance(sound, Pcm)) / 2 / tts.traits.sample_rate > 60


def test_after_closing_it_says_so(pool: InferencePool, tts: EspeakTts) -> None:
    closed = EspeakTts(EspeakTtsOptions(), Services(inference=pool))
    closed.close()
    closed.close()

    with pytest.raises(VendorUnavailable):
        list(closed.synthesize("hello", CONTEXT))
    assert len(sound_of(tts, "The other one still speaks.")) > 0


def test_the_engine_refuses_what_it_does_not_have() -> None:
    with pytest.raises(VendorUnavailable, match="nonesuch"):
        engine().say("hello", voice="nonesuch", words_per_minute=160, pitch=50, pitch_range=50, volume=80)


@pytest.mark.parametrize(
    "text,runs",
    [
        ("Hello, 3 friends!", ["Hello, 3 friends!"]),
        ("现在是3点20分。", ["现在是3点20分。"]),
        ("打开WiFi和Bluetooth吧", ["打开", "WiFi", "和", "Bluetooth", "吧"]),
        ("My name is 小智, nice to meet you.", ["My name is ", "小智, ", "nice to meet you."]),
        ("“OK”，好的", ["“OK", "”，好的"]),
        ("", []),
        ("  ", []),
    ],
)
def test_each_script_has_its_voice(text: str, runs: list[str]) -> None:
    assert voice_runs(text) == runs


@pytest.mark.parametrize(
    "text,spoken",
    [
        ("don't stop", "don't stop"),
        ("it’s fine", "it's fine"),
        ("s'" * 200, "s'" + " ".join(["s" * LONGEST_WORD] * 4 + ["s" * 39])),
        ("wait!!!!! what???", "wait! what?"),
        ("a <b>bold</b> [[word]]", "a b bold /b word"),
        ("5" * 32, " ".join(["5" * LONGEST_NUMBER] * 2 + ["55"])),
        ("１２３ＡＢＣ", "123ABC"),
        ("สวัสดี hello", "hello"),
        ("🙂 好的", "好的"),
    ],
)
def test_what_espeak_stumbles_over_is_taken_out(text: str, spoken: str) -> None:
    assert "".join(speakable(text).split()) == "".join(spoken.split())


@settings(max_examples=60)
@given(
    st.text(max_size=200)
    | st.text(alphabet="s' .,0123456789ab-", max_size=300)
    | st.text(alphabet="一二三的s'1 ", max_size=100)
)
def test_any_text_is_survived(text: str) -> None:
    cleaned = speakable(text)

    assert "''" not in cleaned
    assert all(len(word) <= 2 * LONGEST_WORD for word in cleaned.split() if word.isascii() and word.isalpha())
    engine().say(text, voice="en-us", words_per_minute=450, pitch=50, pitch_range=50, volume=80)
