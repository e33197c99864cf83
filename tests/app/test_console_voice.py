"""How a voice sounds: the selected one, whatever it sends, as one WAV file."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import pytest

from tests.fakes.inference import InlineInference
from tests.fakes.sound import tone
from tests.waiting import wait_for
from xiaozhi.app.console_devices import voice_field
from xiaozhi.app.console_voice import AT_ONCE, MAX_BYTES, VoiceTrials
from xiaozhi.audio.opus import Encoder
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, SettingsError, VendorError, VendorUnavailable
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceTts, Sound, TtsTraits
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.providers.registry import provider
from xiaozhi.settings import Loaded, load

SECOND = 1.0


class ParrotOptions(ProviderOptions):
    """What it sends."""

    sends: str = "pcm"
    voice: str = "polly"


waiting: list[gevent.event.Event] = []


@provider("tts", "parrot", ParrotOptions)
class Parrot(SentenceTts):
    """A second of tone, in many shapes."""

    traits = TtsTraits(offline=True, streaming=False, sample_rate=24_000)

    def __init__(self, options: ParrotOptions) -> None:
        self._sends = options.sends

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        match self._sends:
            case "pcm":
                yield Pcm(tone(500, 24_000))
                yield Pcm(tone(500, 24_000))
            case "another rate":
                yield Pcm(tone(1_000, 16_000), 16_000)
            case "two rates":
                yield Pcm(tone(500, 16_000), 16_000)
                yield Pcm(tone(500, 48_000), 48_000)
            case "opus":
                encoder = Encoder(24_000, 60)
                yield OpusPackets((*encoder.encode(tone(960, 24_000)), *encoder.flush()), 60)
            case "endless":
                while True:
                    yield Pcm(bytes(1_000_000))
            case "waits":
                waiting.append(gevent.event.Event())
                waiting[-1].wait(timeout=60)
                yield Pcm(tone(500, 24_000))
            case "fails":
                raise VendorUnavailable("TTS.Parrot", "does not answer")


def settings(sends: str) -> Loaded:
    """A configuration with this voice, and one that would take over."""
    blocks = {
        "Parrot": {"type": "tests.app.test_console_voice:Parrot", "sends": sends},
        "Other": {"type": "tests.app.test_console_voice:Parrot", "sends": "pcm"},
    }
    wanted = {"selected_module": {"TTS": "Parrot"}, "TTS": blocks, "fallback": {"TTS": ["Other"]}}
    return load(environ={}, overrides=wanted)


@pytest.fixture
def voices() -> Iterator[VoiceTrials]:
    inference: Any = InlineInference()
    pool = ProviderPool(inference, lambda report: None)
    yield VoiceTrials(pool, inference)
    pool.close()


def heard(wav: bytes) -> tuple[int, float]:
    """Rate and seconds."""
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), file.getnframes() / file.getframerate()


@pytest.mark.parametrize(
    ("sends", "rate"), [("pcm", 24_000), ("another rate", 16_000), ("two rates", 16_000), ("opus", 24_000)]
)
def test_whatever_it_sends_is_one_file(voices: VoiceTrials, sends: str, rate: int) -> None:
    found_rate, seconds = heard(voices.hear(settings(sends), "hello"))

    assert found_rate == rate
    assert seconds == pytest.approx(SECOND, abs=0.07)


@pytest.mark.parametrize("sends", ["fails", "nothing"])
def test_a_voice_that_fails_is_not_replaced_by_another(voices: VoiceTrials, sends: str) -> None:
    with pytest.raises(VendorError):
        voices.hear(settings(sends), "hello")


def test_a_voice_that_does_not_end_is_cut(voices: VoiceTrials) -> None:
    assert len(voices.hear(settings("endless"), "hello")) < MAX_BYTES + 2_000_000


def test_only_a_few_are_tried_at_once_and_all_are_given_back(voices: VoiceTrials) -> None:
    waiting.clear()
    trials = [gevent.spawn(voices.hear, settings("waits"), "hello") for _ in range(AT_ONCE)]
    wait_for(lambda: len(waiting) == AT_ONCE, "all to speak")

    with pytest.raises(Overloaded):
        voices.hear(settings("pcm"), "hello")
    for event in waiting:
        event.set()
    gevent.joinall(trials, raise_error=True)

    voices.hear(settings("pcm"), "hello")


def test_a_block_with_a_fault_is_named(voices: VoiceTrials) -> None:
    with pytest.raises(SettingsError, match=r"TTS.Parrot"):
        voices.hear(load(environ={}, overrides={"selected_module": {"TTS": "Parrot"}, "TTS": {"Parrot": {}}}), "hello")


@pytest.mark.parametrize(
    ("block", "own", "expected"),
    [
        ({"type": "openai", "api_key": "k", "voice": "nova"}, {}, ("TTS.Mine.voice", "nova", False)),
        (
            {"type": "openai", "api_key": "k", "voice": "nova", "private_voice": "alloy"},
            {},
            ("TTS.Mine.private_voice", "alloy", False),
        ),
        (
            {"type": "openai", "api_key": "k", "voice": "nova"},
            {"TTS": {"Mine": {"voice": "nova"}}},
            ("TTS.Mine.voice", "nova", True),
        ),
        ({"type": "openai", "api_key": "k"}, {}, ("TTS.Mine.private_voice", "alloy", False)),
        ({"type": "espeak"}, {}, ("TTS.Mine.voice", "en-us", False)),
        ({"type": "nothing of the kind"}, {}, None),
    ],
)
def test_the_voice_of_a_block_is_found_under_the_name_that_counts(
    block: dict[str, Any], own: dict[str, Any], expected: tuple[str, str, bool] | None
) -> None:
    loaded = load(environ={}, overrides={"selected_module": {"TTS": "Mine"}, "TTS": {"Mine": block}})

    found = voice_field(loaded.settings, own)

    assert (found and (found.key, found.now, found.own)) == expected
