"""The offline recogniser on speech that the offline voice makes, coded as a device codes it. `make bench` has the whole
matrix."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import gevent
import numpy as np
import pytest

from loadtest.simulator.speech import speak_all
from tests.fakes.inference import InlineInference
from xiaozhi.audio.opus import Decoder, Encoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import SettingsError, VendorUnavailable
from xiaozhi.providers.asr.pocketsphinx import PocketsphinxAsr, PocketsphinxAsrOptions
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.phrase_listener import LOOKS, conditioned
from xiaozhi.runtime.inference import InferencePool

CONFIG = Path(__file__).resolve().parents[2] / "config"
CONTEXT = CallContext()
PHRASES = (
    "what time is it",
    "what is today's date",
    "what day of the week is it",
    "tell me a joke",
    "what can you do",
    "turn up the volume",
    "make it quieter",
    "set the volume to forty",
    "set the volume to seventy percent",
    "flip a coin",
    "goodbye",
    "how are you doing",
)
UNRELATED = (
    "the old man walked slowly across the bridge",
    "could you recommend a good restaurant around here",
    "she plays the piano beautifully",
    "how long does it take to boil an egg",
    "where did you put the scissors",
    "the museum is closed on mondays",
)


@pytest.fixture(scope="module")
def pool() -> Iterator[InferencePool]:
    made = InferencePool(workers=2)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def asr(pool: InferencePool) -> Iterator[PocketsphinxAsr]:
    made = PocketsphinxAsr(PocketsphinxAsrOptions(timeout=60), Services(inference=pool, config_dir=CONFIG))
    made.warm_up()
    yield made
    made.close()


def coded(pcm: bytes) -> bytes:
    """`pcm` through Opus as a device sends it: 16 kHz, 60 ms."""
    encoder, decoder = Encoder(16_000, 60, bitrate=17_000), Decoder(16_000)
    return b"".join(decoder.decode(packet) for packet in [*encoder.encode(pcm), *encoder.flush()])


def said(texts: tuple[str, ...], voice: str = "en-us", rate: int = 160) -> list[bytes]:
    return [coded(speech.pcm) for speech in speak_all(texts, voice=voice, words_per_minute=rate)]


@pytest.mark.parametrize("voice,rate", [("en-us", 150), ("en", 175)])
def test_phrases_are_heard_word_for_word(asr: PocketsphinxAsr, voice: str, rate: int) -> None:
    heard = [asr.transcribe(pcm, CONTEXT).text for pcm in said(PHRASES, voice, rate)]

    right = sum(text == phrase for text, phrase in zip(heard, PHRASES, strict=True))
    assert right >= len(PHRASES) - 1, list(zip(PHRASES, heard, strict=True))


def test_other_sentences_are_refused(asr: PocketsphinxAsr) -> None:
    heard = [asr.transcribe(pcm, CONTEXT) for pcm in said(UNRELATED)]

    assert [transcript.text for transcript in heard].count("") >= len(UNRELATED) - 1
    assert asr.traits.unheard_reply


def test_a_transcript_says_how_sure_it_is(asr: PocketsphinxAsr) -> None:
    transcript = asr.transcribe(said(("what time is it",))[0], CONTEXT)

    assert (transcript.language, transcript.confidence) == ("en", 1.0)


@pytest.mark.parametrize(
    "pcm",
    [
        b"",
        b"\x01",
        bytes(100),
        bytes(64_000),
        np.random.default_rng(1).normal(0, 3_000, 32_000).astype("<i2").tobytes(),
        bytes(range(256)) * 200 + b"\x07",
    ],
    ids=["nothing", "half a sample", "a moment", "silence", "noise", "garbage of odd length"],
)
def test_what_is_no_speech_gives_no_text(asr: PocketsphinxAsr, pcm: bytes) -> None:
    assert asr.transcribe(pcm, CONTEXT).text == ""


def test_loudness_and_silence_around_do_not_matter(asr: PocketsphinxAsr) -> None:
    speech = np.frombuffer(said(("what time is it",))[0], "<i2").astype(np.float32)
    quiet = (speech * 0.05).astype("<i2").tobytes()

    assert asr.transcribe(quiet, CONTEXT).text == "what time is it"
    assert asr.transcribe(bytes(48_000) + quiet + bytes(48_000), CONTEXT).text == "what time is it"


def test_the_same_sound_is_heard_the_same_way_whoever_spoke_before(asr: PocketsphinxAsr) -> None:
    sounds = said(PHRASES[:4])
    once = [asr.transcribe(pcm, CONTEXT) for pcm in sounds]

    asr.transcribe(np.random.default_rng(2).normal(0, 8_000, 48_000).astype("<i2").tobytes(), CONTEXT)

    assert [asr.transcribe(pcm, CONTEXT) for pcm in reversed(sounds)] == once[::-1]


def test_many_devices_at_once_each_get_their_own_words_on_the_same_threads(asr: PocketsphinxAsr) -> None:
    sounds = said(PHRASES[:4])
    alone = [asr.transcribe(pcm, CONTEXT).text for pcm in sounds]
    threads = threading.active_count()

    speakers = [gevent.spawn(asr.transcribe, sounds[number % 4], CONTEXT) for number in range(40)]
    gevent.joinall(speakers, timeout=60, raise_error=True)

    assert [speaker.value.text for speaker in speakers] == alone * 10
    assert threading.active_count() == threads


def test_killing_a_caller_leaves_nothing_behind(asr: PocketsphinxAsr, pool: InferencePool) -> None:
    sounds = said(PHRASES[:2])
    callers = [gevent.spawn(asr.transcribe, sounds[0], CONTEXT) for _ in range(8)]
    gevent.idle()
    gevent.killall(callers, timeout=5)

    assert asr.transcribe(sounds[1], CONTEXT).text == PHRASES[1]
    assert (pool.active, pool.queued) == (0, 0)


def test_the_hub_goes_on_while_something_is_decoded(asr: PocketsphinxAsr) -> None:
    # The package's own decoder class keeps the interpreter's lock; the C functions behind it do not have to.
    pcm = b"".join(said(PHRASES[:3]))
    caller = gevent.spawn(asr.transcribe, pcm, CONTEXT)
    turns = 0
    while not caller.ready():
        gevent.sleep(0)
        turns += 1

    assert turns > 20


def test_after_closing_it_says_so(pool: InferencePool) -> None:
    asr = PocketsphinxAsr(PocketsphinxAsrOptions(timeout=60), Services(inference=pool, config_dir=CONFIG))
    asr.close()
    asr.close()

    with pytest.raises(VendorUnavailable):
        asr.transcribe(bytes(32_000), CONTEXT)


def test_long_speech_is_no_phrase_and_costs_nothing() -> None:
    noise = np.random.default_rng(3).normal(0, 3_000, 16_000 * 9).astype("<i2").tobytes()

    assert conditioned(noise, longest_s=8.0) == b""
    assert len(conditioned(noise, longest_s=10.0)) == len(noise)


def test_sound_is_cut_to_the_speech_and_never_quite_silent() -> None:
    tone = (3_000 * np.sin(np.arange(16_000) * 0.2)).astype("<i2").tobytes()

    for look in LOOKS:
        made = np.frombuffer(conditioned(bytes(64_000) + tone + bytes(64_000), look), "<i2").astype(float)

        assert len(made) / 16_000 == pytest.approx(1 + 2 * look.margin_s, abs=0.05)
        assert np.sqrt((made[:1_600] ** 2).mean()) == pytest.approx(look.noise, rel=0.2)


# --- words ----------------------------------------------------------------------------------------------------------


def test_a_word_that_nobody_can_pronounce_is_a_fault(tmp_path: Path) -> None:
    text = (CONFIG / "offline.yaml").read_text(encoding="utf-8").replace('"flip a coin"', '"flip a zzyzxqua"')
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    services = Services(inference=InlineInference(), config_dir=tmp_path)  # type: ignore[arg-type]

    with pytest.raises(SettingsError) as caught:
        PocketsphinxAsr(PocketsphinxAsrOptions(phrases=Path("mine.yaml")), services)

    assert [fault.value for fault in caught.value.faults] == ["'zzyzxqua'"]
    assert "flip a zzyzxqua" in caught.value.faults[0].expected


def test_a_word_of_ones_own_is_learnt(tmp_path: Path) -> None:
    text = (CONFIG / "offline.yaml").read_text(encoding="utf-8")
    text = text.replace('"flip a coin"', '"flip a zzyzxqua"').replace(
        "pronunciations:\n", "pronunciations:\n  zzyzxqua: Z IH K W AH\n"
    )
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    services = Services(inference=InlineInference(), config_dir=tmp_path)  # type: ignore[arg-type]

    PocketsphinxAsr(PocketsphinxAsrOptions(phrases=Path("mine.yaml")), services).close()
