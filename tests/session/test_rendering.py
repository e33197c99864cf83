"""Speech that is made as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.vendors.sounds import hum
from tests.fakes.inference import InlineInference
from xiaozhi.audio.opus import Encoder, packet_duration_ms
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorUnavailable
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceTts, Sound, TtsTraits
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.rendering import render, sentence_frames

VOICE = VoiceFormat("opus", 24_000, 60)


class Voice(SentenceTts):
    """Every sentence is `sounds`."""

    name = "voice"
    traits = TtsTraits(sample_rate=16_000)

    def __init__(self, *sounds: Sound | Exception) -> None:
        self.sounds = sounds
        self.said: list[str] = []

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        self.said.append(sentence)
        for sound in self.sounds:
            if isinstance(sound, Exception):
                raise sound
            yield sound


def second(rate: int = 16_000) -> Pcm:
    return Pcm(hum(1.0, rate))


def test_sentences_and_when_they_begin() -> None:
    voice = Voice(second())
    text = "**Dinner** is ready! Wash your hands, SQL."
    made = render(voice, text, VOICE, InlineInference(), correct_words=["SQL|sequel"])  # type: ignore[arg-type]
    assert voice.said == ["Dinner is ready!", "Wash your hands, sequel."]
    per_sentence = len(made.frames) // 2
    assert 17 <= per_sentence <= 18, "a second, and the rest of its last frame"
    assert made.sentences == ((0, "Dinner is ready"), (per_sentence * 60, "Wash your hands, SQL"))
    assert made.seconds == len(made.frames) * 0.06
    assert {packet_duration_ms(frame) for frame in made.frames} == {60.0}


def test_packets_too_short_for_firmware_are_made_anew() -> None:
    """Merging would keep frames of 2.5 ms within packets of 60 ms."""
    usual = Encoder(24_000, 20).encode(hum(0.24, 24_000))
    shortest = bytes([28 << 3]) + usual[0][1:20]  # RFC 6716, table 2: full band, 2.5 ms
    made = sentence_frames(
        Voice(OpusPackets((shortest,) * 24, 2.5)),
        "x",
        VOICE,
        InlineInference(),  # type: ignore[arg-type]
        substitutes=True,
    )
    kept = sentence_frames(
        Voice(OpusPackets(tuple(usual), 20)),
        "x",
        VOICE,
        InlineInference(),  # type: ignore[arg-type]
        substitutes=True,
    )
    assert made and all(frame[0] >> 3 != 28 for frame in made)
    assert len(kept) == 4 and kept[0][0] >> 3 == usual[0][0] >> 3, "those of 20 ms are merged"


def test_a_substitute_is_good_enough_for_a_message_and_not_for_the_cache() -> None:
    voice = Voice(Pcm(hum(0.2, 16_000), substitute=True))
    assert sentence_frames(voice, "x", VOICE, InlineInference(), substitutes=True)  # type: ignore[arg-type]
    with pytest.raises(VendorError, match="substitute"):
        sentence_frames(voice, "x", VOICE, InlineInference(), substitutes=False)  # type: ignore[arg-type]


def test_nothing_to_say_and_a_voice_that_fails() -> None:
    with pytest.raises(VendorError, match="no sound"):
        render(Voice(second()), "***", VOICE, InlineInference())  # type: ignore[arg-type]
    with pytest.raises(VendorUnavailable):
        render(Voice(VendorUnavailable("voice", "down")), "Hello.", VOICE, InlineInference())  # type: ignore[arg-type]
