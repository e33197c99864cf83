"""No voice: an answer is shown, one sentence after the other, and nothing is heard.

The existing server falls back to this when the chosen voice cannot be built. Here a fault of the configuration is told
instead, and `default` is a choice, for devices that are read or tests of everything but speech. A sentence lasts as
long as reading it takes. Its silence is one Opus packet, made once and repeated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import Field

from xiaozhi.audio.opus import Encoder
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.contracts.tts import OpusPackets, SentenceTts, Sound, TtsTraits
from xiaozhi.providers.registry import provider

FRAME_MS: Final = 60
SECONDS_PER_PIECE: Final = 1.2
"""Handed on at a time."""
LONGEST_S: Final = 30.0


class DefaultTtsOptions(ProviderOptions):
    """How fast people read: characters per second of Chinese, Japanese or Korean, and of other scripts."""

    characters_per_second: float = Field(6.0, gt=0, le=100)
    letters_per_second: float = Field(18.0, gt=0, le=300)
    shortest: float = Field(0.9, ge=0.06, le=10)
    """Seconds of the shortest sentence."""


@provider("tts", "default", DefaultTtsOptions)
class DefaultTts(SentenceTts):
    """Silence of the right length."""

    traits: TtsTraits = TtsTraits(offline=True, streaming=False)

    def __init__(self, options: DefaultTtsOptions) -> None:
        self._options = options
        # The first packets of an encoder are not silence's own.
        self._silence = Encoder(24_000, FRAME_MS).encode(bytes(24 * FRAME_MS * 2 * 4))[-1]

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """Silence, for as long as `sentence` is read."""
        left = round(self.seconds_for(sentence) * 1000 / FRAME_MS)
        piece = round(SECONDS_PER_PIECE * 1000 / FRAME_MS)
        while left > 0:
            yield OpusPackets((self._silence,) * min(piece, left), FRAME_MS)
            left -= piece

    def seconds_for(self, sentence: str) -> float:
        """How long it is read."""
        options = self._options
        wide = sum(character > "\u2e7f" for character in sentence)
        seconds = wide / options.characters_per_second + (len(sentence) - wide) / options.letters_per_second
        return min(LONGEST_S, max(options.shortest, seconds))
