"""Providers from outside the tree (`type: "package.module:Class"`), for faults that the scripted vendor cannot play."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fakes.sound import tone
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.contracts.tts import Pcm, SentenceTts, Sound, TtsTraits
from xiaozhi.providers.registry import provider

spoken_by_beeper: list[str] = []
"""What the emergency voice had to say, in this process."""


@provider("tts", "beeper", ProviderOptions)
class Beeper(SentenceTts):
    """The emergency voice of these tests: a short tone per sentence, no network."""

    traits = TtsTraits(offline=True, streaming=False, sample_rate=16_000)

    def __init__(self, options: ProviderOptions) -> None:
        del options

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        spoken_by_beeper.append(sentence)
        yield Pcm(tone(120, self.traits.sample_rate))
